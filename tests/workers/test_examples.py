"""Each example program as its user starts it, and what it does to files, queues and whoever waits for it."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from streambroker.client import SyncClient, SyncMessage
from tests.harness import BrokerProcess
from tests.workers.programs import ROOT, finished, running

pytestmark = pytest.mark.system

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBleGFtcGxlcw=="
PROGRAMS = sorted(
    path.stem for path in (ROOT / "workers").glob("*.py") if "program.options(" in path.read_text()
)  # fmt: skip


def take(client: SyncClient, queue: str, count: int) -> list[SyncMessage]:
    """Take and ack so many messages."""
    taken: list[SyncMessage] = []
    for message in client.consume(queue):
        taken.append(message)
        message.ack()
        if len(taken) == count:
            return taken
    raise AssertionError


def test_every_program_explains_itself(broker: BrokerProcess) -> None:
    assert len(PROGRAMS) == 10
    with ThreadPoolExecutor(2) as pool:
        helps = list(pool.map(lambda name: finished(broker, name, "--help"), PROGRAMS))
    page = (ROOT / "docs" / "examples.md").read_text()
    for name, help_ in zip(PROGRAMS, helps, strict=True):
        assert "STREAMBROKER_TOKEN" in help_
        assert f"python -m workers.{name}" in page


# -- events between services


def test_every_order_is_billed_reserved_and_written_about_once(broker: BrokerProcess, tmp_path: Path) -> None:
    said = finished(broker, "service_events", "--orders", "10", "--books", str(tmp_path))
    assert "the shop published 20 events, 10 of them duplicates" in said
    rows = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    assert len(rows) == 10
    for number, row in enumerate(rows):
        assert row[2].strip() == f"billed {9.95 * (number + 1):.2f}"
        stock = "stock.short" if number + 1 > 8 else "stock.reserved"
        assert row[3].strip() == f"{stock}: {number + 1}"
        assert row[4].strip() == f"order.paid, order.placed, {stock}"


# -- thumbnails


def test_samples_are_made_small_and_the_broken_one_is_given_up(
    broker: BrokerProcess, client: SyncClient, tmp_path: Path
) -> None:
    said = finished(broker, "thumbnails", "--out", str(tmp_path), "--side", "64")
    assert "broken.png: given up, no image can be read from it" in said
    made = sorted(tmp_path.glob("*.png"))
    assert len(made) == 6
    assert {Image.open(path).size for path in made} == {(64, 48)}
    assert [client.queues.get(name).counts.pending for name in ("thumbnails", "thumbnails.dead")] == [0, 0]


def test_large_images_go_by_reference(broker: BrokerProcess, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    Image.effect_noise((900, 600), 80).save(source / "noise.png")
    finished(broker, "thumbnails", str(source), "--out", str(tmp_path / "out"), "--inline-kib", "1")
    (made,) = (tmp_path / "out").glob("noise-*.png")
    assert Image.open(made).size == (128, 85)


# -- an inbox for webhooks


def signed(webhook_id: str, body: str) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(webhook_id, now, body),
        "content-type": "application/json",
    }


def test_the_inbox_stores_signed_webhooks_once_and_no_others(broker: BrokerProcess) -> None:
    with running(broker, "webhook_inbox", "--port", "0", WEBHOOK_SECRET=SECRET) as inbox:
        url = inbox.says("listening on ").split()[-1] + "/hooks/billing"
        body = json.dumps({"type": "invoice.paid", "data": {"invoice": 7}})
        first = httpx.post(url, content=body, headers=signed("msg_1", body))
        again = httpx.post(url, content=body, headers=signed("msg_1", body))
        assert (first.status_code, again.status_code) == (202, 200)
        assert first.json() == again.json()
        forged = [
            httpx.post(url, content=body.replace("7", "8"), headers=signed("msg_2", body)),
            httpx.post(url, content=body),
            httpx.post(url, content=body, headers=signed("msg_3", body) | {"webhook-signature": "nonsense"}),
            httpx.post(url, content=b"\xff", headers=signed("msg_4", body)),
        ]
        assert [answer.status_code for answer in forged] == [401] * 4
        assert httpx.post(url, content=b"x" * 600_000, headers=signed("msg_5", body)).status_code == 413
        inbox.says('from billing: {"type": "invoice.paid", "data": {"invoice": 7}}')
        sent = finished(broker, "webhook_inbox", "--send", url, "--count", "2", WEBHOOK_SECRET=SECRET)
        assert sent.count(": 202 ") == 2


def test_the_inbox_answers_503_while_the_broker_is_away(tmp_path: Path) -> None:
    with (
        BrokerProcess(tmp_path) as broker,
        running(broker, "webhook_inbox", "--port", "0", WEBHOOK_SECRET=SECRET) as inbox,
    ):
        url = inbox.says("listening on ").split()[-1] + "/hooks/billing"
        broker.kill()
        answer = httpx.post(url, content="{}", headers=signed("msg_1", "{}"), timeout=30)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# -- a bridge for a legacy program


def test_each_row_of_a_csv_file_becomes_one_message(broker: BrokerProcess, client: SyncClient, tmp_path: Path) -> None:
    text = "order,name\n" + "".join(f'{n},"Müller, {n}"\n' for n in range(1200))
    with running(broker, "csv_bridge", str(tmp_path), "--queue", "csv", "--quiet", "0", "--every", "0.05") as bridge:
        bridge.says("watching")
        (tmp_path / "orders.tmp").write_text(text, encoding="utf-8-sig")
        (tmp_path / "orders.tmp").rename(tmp_path / "orders.csv")
        bridge.says("orders.csv: 1200 rows to csv")
        messages = take(client, "csv", 1200)
        assert [message.content for message in messages] == [
            {"order": str(n), "name": f"Müller, {n}"} for n in range(1200)
        ]
        # As after a crash between the last batch and the move:
        (tmp_path / "done" / "orders.csv").rename(tmp_path / "orders.csv")
        bridge.says("orders.csv: 0 rows to csv, 1200 were there already")
    assert client.queues.get("csv").counts.pending == 0
    assert (tmp_path / "done" / "orders.csv").exists()


def test_a_csv_file_that_is_broken_is_refused_whole(broker: BrokerProcess, client: SyncClient, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("a,b\n1,2\n3\n")
    client.queues.create("broken-csv")
    said = finished(broker, "csv_bridge", str(tmp_path), "--queue", "broken-csv", "--once")
    assert "broken.csv: refused, line 3: 1 fields under 2 names" in said
    assert client.queues.get("broken-csv").counts.pending == 0
    assert [path.name for path in sorted((tmp_path / "failed").iterdir())] == ["broken.csv", "broken.txt"]


def test_a_command_works_on_messages_by_stdin_and_stdout(broker: BrokerProcess, client: SyncClient) -> None:
    code = "import sys; print(sum(map(int, sys.stdin.read().split())))"
    arguments = ("--queue", "sums", "--replies", "totals", "--", sys.executable, "-c", code)
    client.queues.create("sums", max_attempts=2, backoff={"kind": "fixed", "base_ms": 10, "jitter": False})
    with running(broker, "legacy_command", *arguments) as command:
        command.says("running ")
        client.publish("sums", "1 2 3", correlation_id="text")
        client.publish("sums", b"10\n20\n", correlation_id="bytes")
        client.publish("sums", "one two", correlation_id="wrong")
        answers = {message.correlation_id: message.content for message in take(client, "totals", 2)}
        assert answers == {"text": "6", "bytes": "30"}
        command.says("attempt 1 failed, exit status 1")
        command.says("attempt 2 failed, exit status 1")
    (failed,) = client.messages.browse("sums", status="failed")
    assert "ValueError: invalid literal" in (failed.error or "")


def test_a_command_that_takes_too_long_is_killed_and_fails(broker: BrokerProcess, client: SyncClient) -> None:
    code = "import time; time.sleep(600)"
    arguments = ("--queue", "long", "--within", "0.2", "--", sys.executable, "-c", code)
    client.queues.create("long", max_attempts=1)
    with running(broker, "legacy_command", *arguments) as command:
        client.publish("long", 1)
        command.says("attempt 1 failed, not done within 0.2 s")
    counts = client.queues.get("long").counts
    assert (counts.processing, counts.failed) == (0, 1)
