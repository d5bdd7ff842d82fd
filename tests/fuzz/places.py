"""What the paths of requests name, so that these find something: without it, nearly every random id is a 404."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from streambroker.transport.examples import IN_PATH
from tests.harness import PASSWORD

QUEUE = IN_PATH["queue"]
USERNAME = IN_PATH["username"]


class Places:
    """Makes a queue, a message, a user or an API key, as the admin that `client` is logged in as."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._key = ""
        self._makers: dict[str, Callable[[], str]] = {
            "queue": self._queue,
            "message_id": self._message,
            "username": self._user,
            "key_id": self._api_key,
            "filename": lambda: IN_PATH["filename"],
        }

    def real(self, parameter: str) -> str | None:
        """The name of something that is there now; None where nothing can be made for that parameter."""
        make = self._makers.get(parameter)
        return None if make is None else make()

    def a_session(self) -> str:
        """The access token of a new session."""
        return str(self._post("/login", {"username": "admin", "password": PASSWORD}).json()["access_token"])

    def me(self) -> int:
        """The status with which the broker says who the client is."""
        return self._client.get("/users/me").status_code

    def _queue(self) -> str:
        self._post("/queues", {"name": QUEUE})  # there already, or with another configuration: as good
        return QUEUE

    def _message(self) -> str:
        """A message that the admin is processing."""
        queue = self._queue()
        self._post(f"/queues/{queue}/resume")
        self._client.patch(f"/queues/{queue}", json={"max_messages": 0})  # it may be full
        published = self._post("/publish", {"queue": queue, "content": 1})
        while (taken := self._post(f"/queues/{queue}/messages/consume", {"max": 100})).json()["messages"]:
            if published.json()["message_id"] in [message["message_id"] for message in taken.json()["messages"]]:
                break
        return str(published.json()["message_id"])

    def _user(self) -> str:
        self._post("/users", {"username": USERNAME, "password": PASSWORD})
        return USERNAME

    def _api_key(self) -> str:
        made = self._post("/api-keys", {"name": "made for a path"})
        if made.status_code == 201:  # there are at most 100
            self._key = made.json()["id"]
        return self._key

    def _post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self._client.post(path, json=body)
