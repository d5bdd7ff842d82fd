"""A client that never reads: it costs little memory, nobody else feels it, and in the end it is cut off."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker
from tests.system.wire import Rest, eventually, ids, rest, socket

MESSAGES, SIZE, BATCH = 1000, 100_000, 5
MEMORY_LIMIT_KIB = 72 * 1024
"""What 100 MB of backlog may add to the process: the page cache of the database, and far less than the backlog."""


def resident_kib(broker: BrokerProcess) -> int:
    status = Path(f"/proc/{broker.pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def test_a_client_that_never_reads_is_bounded_and_cut_off_and_others_are_served(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    async with rest(broker) as client, rest(broker) as other:
        before = resident_kib(broker)
        stuck = await socket(broker)
        await stuck.call("subscribe", queue="big", credit=1000)
        stuck.stop_reading()
        served = asyncio.create_task(serve_others(broker, other))
        published: list[str] = []
        highest = before
        for _ in range(MESSAGES // BATCH):
            published += await client.publish("big", *["x" * SIZE] * BATCH)
            highest = max(highest, resident_kib(broker))

        async def cut_off() -> bool:
            nonlocal highest
            highest = max(highest, resident_kib(broker))
            return not await client.consumers("big")

        await eventually(cut_off, timeout=60)
        served.cancel()
        assert (await asyncio.wait({served}))[0].pop().cancelled(), "others were not served"
        assert highest - before < MEMORY_LIMIT_KIB

        back: list[str] = []
        while len(back) < MESSAGES:
            messages = await client.collect("big", min(20, MESSAGES - len(back)))
            back += ids(messages)
            items = [{"message_id": message["message_id"], "lease": message["lease"]} for message in messages]
            await client.post("/messages/ack", {"items": items})
        assert sorted(back) == sorted(published)

        stuck.resume_reading()
        async with asyncio.timeout(30):
            assert await stuck.closed in (None, 1006, 4508)


async def serve_others(broker: BrokerProcess, client: Rest) -> None:
    """A round trip after the other on another queue; each must come through while the client is stuck."""
    connection = await socket(broker)
    await connection.call("subscribe", queue="small")
    while True:
        published = await client.publish("small", "quick")
        (message,) = await connection.receive(timeout=30)
        assert [message["message_id"]] == published
        await connection.call("ack", ids=published)
