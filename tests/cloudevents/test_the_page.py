"""The examples of docs/cloudevents.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import Queue

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[2] / "docs" / "cloudevents.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_commands_publish_events_and_take_the_first(broker: BrokerProcess, api: httpx.Client) -> None:
    commands = [block.replace("http://127.0.0.1:8000", broker.url) for block in blocks("sh")]
    assert len(commands) == 3
    env = {**os.environ, "TOKEN": broker.token()}
    told = [
        subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, check=True, timeout=60).stdout
        for command in commands
    ]
    assert [json.loads(text)["status"] for text in told[:2]] == ["pending", "pending"]
    head, _, body = told[2].partition("\n\n" if "\n\n" in told[2] else "\r\n\r\n")
    assert "x-message-lease" in head
    shown = blocks("text")[0].partition("\n\n")[2].strip()
    assert body == shown
    Queue(api, "orders").api.delete("/queues/orders")


def test_the_program_publishes_an_event_and_reads_it(api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(program, "cloudevents.md", "exec"), names)
    names["round_trip"](api)
    assert capsys.readouterr().out == "{'total': 12.5}\n"
