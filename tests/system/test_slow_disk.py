"""The disk is slower than the publishers: what is too much is refused at once, the broker answers and stays small."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.system.broken import broken_command
from tests.system.faults import injected
from tests.system.wire import Json, Socket, ids, rest, socket

pytestmark = pytest.mark.needs_strace

CONTENT = "x" * 500_000
FLOOD = 320
"""160 MB, where 64 MiB may wait."""
SYNC_US = 4_000_000
"""Long enough that much of the flood comes while one sync lasts."""
MEMORY_KIB = 130 * 1024
"""What may wait, and what is on its way through the connection; less than the flood."""


def peak_kib(broker: BrokerProcess) -> int:
    status = Path(f"/proc/{broker.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


async def flood(publisher: Socket) -> tuple[list[str], list[Json]]:
    """Publish without waiting for answers; what was confirmed, and the problems of what was refused."""
    for number in range(FLOOD):
        await publisher.send("publish", id=1_000_000 + number, queue="work", messages=[{"content": CONTENT}])
    confirmed: list[str] = []
    refused: list[Json] = []
    async with asyncio.timeout(90):
        while len(confirmed) + len(refused) < FLOOD:
            answer = await publisher.notices.get()
            if answer["op"] == "ok":
                confirmed += answer["message_ids"]
            elif answer["op"] == "error":
                refused.append(answer["problem"])
    return confirmed, refused


async def test_publishes_that_the_disk_cannot_keep_up_with_are_refused_and_memory_stays_bounded(
    strace: str, tmp_path: Path
) -> None:
    with BrokerProcess(tmp_path / "data", env={"STREAMBROKER_DRAIN_TIMEOUT_MS": "0"}) as broker:
        async with rest(broker) as client:
            await client.publish("work", CONTENT, CONTENT)
            before = peak_kib(broker)
            publisher = await socket(broker)
            with injected(strace, broker, tmp_path / "trace", f"fdatasync:delay_enter={SYNC_US}"):
                flooding = asyncio.create_task(flood(publisher))
                async with httpx.AsyncClient(base_url=broker.url, timeout=60, trust_env=False) as anybody:
                    answered = 0
                    while not flooding.done():
                        assert (await anybody.get("/healthz")).status_code == 200
                        answered += 1
                confirmed, refused = await flooding
            assert answered > 3
            assert {(p["code"], p["status"], p["retryable"]) for p in refused} == {("overloaded", 503, True)}
            assert all(p["retry_after_ms"] > 0 for p in refused)
            assert peak_kib(broker) - before < MEMORY_KIB
            again = await client.publish("work", "it goes on")
            await publisher.close()
        broker.kill()
        broker.start()
        async with rest(broker) as client:
            stored = set(ids(await client.browse("work")))
        assert stored >= {*confirmed, *again}
        assert len(stored) == 3 + len(confirmed)  # what was refused was certainly not stored


async def test_a_broker_without_that_bound_would_be_caught(strace: str, tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", command=broken_command("unbounded")) as broker:
        publisher = await socket(broker)
        with injected(strace, broker, tmp_path / "trace", f"fdatasync:delay_enter={SYNC_US}"):
            _, refused = await flood(publisher)
        assert refused == []
