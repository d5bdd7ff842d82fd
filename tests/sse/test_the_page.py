"""The examples of docs/events.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import Messages, Queue, eventually

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def until_watched(api: httpx.Client, by: int) -> None:
    """Until so many streams are open; one that is over is counted for a moment longer."""
    eventually(lambda: api.get("/stats").json()["connections"]["sse"] == by)


def test_the_command_shows_what_happens(broker: BrokerProcess, api: httpx.Client) -> None:
    queue = Queue(api, "orders", lease_ms=30_000)
    command = block("sh").replace("http://127.0.0.1:8000", broker.url)
    env = {**os.environ, "TOKEN": broker.token()}
    with subprocess.Popen(["bash", "-c", f"exec {command}"], env=env, stdout=subprocess.PIPE, text=True) as curl:
        until_watched(api, by=1)
        message = queue.publish(1)
        api.delete(queue.path)  # which ends the stream, and so the command
        told, _ = curl.communicate(timeout=60)
    assert told.startswith("retry: 2000\nid: ")
    assert f'event: new_message\nid: {told.split()[3][:-1]}1\ndata: {{"message_id":"{message}","queue":"orders"' in told


def test_the_program_prints_what_failed(
    broker: BrokerProcess, api: httpx.Client, messages: Messages, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = Queue(api, lease_ms=30_000)
    names: dict[str, Any] = {}
    exec(compile(block("python"), "events.md", "exec"), names)
    following = threading.Thread(target=names["follow"], args=(broker.url, broker.token(), queue.name))
    until_watched(api, by=0)
    following.start()
    until_watched(api, by=1)
    message = queue.publish(1)
    messages.nack(queue.take(), reason="bad")
    api.delete(queue.path)
    following.join(60)
    failed, end = capsys.readouterr().out.splitlines()
    assert f"message_failed {{'message_id': '{message}'" in failed
    assert "'reason': 'queue_deleted'" in end
