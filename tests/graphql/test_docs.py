"""The examples of docs/graphql.md, run as they stand there."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path

import httpx

from tests.graphql.asking import Graph
from tests.harness import BrokerProcess
from tests.wire.doors import Queue, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "graphql.md").read_text()
REQUESTS, EVENTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(SHELL,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def run(broker: BrokerProcess, *argv: str) -> subprocess.Popen[str]:
    here = broker.url.removeprefix("http://")
    told = [part.replace("127.0.0.1:8000", here) for part in argv]
    env = {**os.environ, "TOKEN": broker.token(), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(told, env=env, stdout=subprocess.PIPE, text=True)


def test_what_is_published_by_curl_is_consumed_and_acked_by_gql(broker: BrokerProcess, api: httpx.Client) -> None:
    with run(broker, "sh", "-c", SHELL) as publisher:
        answer = publisher.communicate(timeout=30)[0]
    (number,) = re.findall(r'^{"data":{"publish":{"messageId":"(\w+)"}}}$', answer)
    with run(broker, sys.executable, "-c", REQUESTS) as worker:
        assert worker.wait(30) == 0
    assert api.get(f"/messages/{number}").json()["status"] == "processed"


def test_events_are_printed(broker: BrokerProcess, api: httpx.Client) -> None:
    queue = Queue(api, "hello")
    queue.publish("so that there is a queue")
    with run(broker, sys.executable, "-c", EVENTS) as watcher:
        out = watcher.stdout
        assert out is not None
        eventually(lambda: 'kind="graphql"} 1' in api.get("/metrics").text)
        # The connection is there before the subscription is.
        eventually(lambda: queue.publish(1) and select.select([out], [], [], 0)[0])
        assert "new_message" in out.readline()
        watcher.kill()


def test_every_field_is_named(graph: Graph) -> None:
    roots = graph.ask("{ __schema { queryType { fields { name } } mutationType { fields { name } } } }")["__schema"]
    names = {field["name"] for root in roots.values() for field in root["fields"]}
    assert {name for name in names if not re.search(rf"`{name}[`(]", PAGE)} == set()
