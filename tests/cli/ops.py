"""Runs the command within the test's process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

from streambroker.cli import main

Started = Callable[..., subprocess.Popen[bytes]]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Command:
    """Calls `streambroker` with arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["streambroker", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)


def published(api: httpx.Client, queue: str, *contents: Any, **options: Any) -> list[str]:
    """Publish these; their ids."""
    messages = [{"content": content, **options} for content in contents]
    answer = api.post(f"/queues/{queue}/messages/batch", json={"messages": messages})
    answer.raise_for_status()
    ids: list[str] = answer.json()["message_ids"]
    return ids


def browsed(api: httpx.Client, queue: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get(f"/queues/{queue}/messages", params={"limit": 500}).json()["items"]
    return items


def message_id(message: dict[str, Any]) -> str:
    found: str = message["message_id"]
    return found


def every(api: httpx.Client, queue: str, status: str) -> list[dict[str, Any]]:
    params: dict[str, str | int] = {"limit": 500, "status": status}
    items: list[dict[str, Any]] = api.get(f"/queues/{queue}/messages", params=params).json()["items"]
    return items


def counts(api: httpx.Client, queue: str) -> dict[str, int]:
    found: dict[str, int] = api.get(f"/queues/{queue}").json()["counts"]
    return found
