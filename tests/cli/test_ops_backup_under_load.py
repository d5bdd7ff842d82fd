"""A backup beside a broker that is busy: nothing that was confirmed before is missing, and the copy starts."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.harness import BrokerProcess

pytestmark = pytest.mark.system


class Load:
    """Publishes and acks without a pause. `published` and `acked` hold what was confirmed, in order."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self.some = threading.Event()
        self.published: list[str] = []
        self.acked: list[str] = []
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self._round()
        except Exception as error:
            self.errors.append(repr(error))
        finally:
            self.some.set()

    def _round(self) -> None:
        messages = [{"content": {"n": n, "fill": "x" * 500}} for n in range(50)]
        answer = self._client.post("/queues/q/messages/batch", json={"messages": messages}).raise_for_status()
        self.published += answer.json()["message_ids"]
        taken = self._client.post("/queues/q/messages/consume", json={"max": 20}).raise_for_status().json()["messages"]
        items = [{"message_id": one["message_id"], "lease": one["lease"]} for one in taken]
        results = self._client.post("/messages/ack", json={"items": items}).raise_for_status().json()["results"]
        self.acked += [one["message_id"] for one in results if one["ok"]]
        if len(self.published) >= 2_000:
            self.some.set()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        self._thread.start()
        try:
            assert self.some.wait(60)
            yield
        finally:
            self._ended.set()
            self._thread.join(60)
        assert self.errors == []


def test_a_backup_under_load_has_all_that_was_confirmed_before_it_and_starts(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", "--rate-limit-messages", "off") as broker, broker.client() as client:
        load = Load(client)
        with load.going_on():
            published, acked = list(load.published), list(load.acked)
            command = [sys.executable, "-m", "streambroker", "db", "backup", str(tmp_path / "copy"), "--with-key"]
            done = subprocess.run(
                [*command, "--data-dir", str(tmp_path / "data"), "--json"], capture_output=True, text=True, timeout=90
            )
            assert done.returncode == 0, done.stderr
            after = len(load.published)
        assert len(load.published) > len(published)
        assert len(published) <= json.loads(done.stdout)["messages"] <= after + 50
        token = broker.token()
    # Also who was logged in still is: the key came along.
    headers = {"Authorization": f"Bearer {token}"}
    with (
        BrokerProcess(tmp_path / "copy") as copy,
        httpx.Client(base_url=copy.url, headers=headers, trust_env=False) as client,
    ):
        found = dict(statuses(client))
    assert [one for one in published if one not in found] == []
    assert [one for one in acked if found[one] != "processed"] == []
    assert set(found) <= set(load.published)


def statuses(client: httpx.Client) -> Iterator[tuple[str, str]]:
    cursor = None
    while True:
        query = {"limit": 500, **({} if cursor is None else {"cursor": cursor})}
        page = client.get("/queues/q/messages", params=query).raise_for_status().json()
        yield from ((one["message_id"], one["status"]) for one in page["items"])
        if (cursor := page["next_cursor"]) is None:
            return
