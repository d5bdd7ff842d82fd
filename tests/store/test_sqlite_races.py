"""The broker on SQLite, where answers come by turns: what happens to a queue at the same moment ends alike for both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from streambroker.broker.broker import Broker
from streambroker.broker.quotas import NO_QUOTAS, Quotas
from streambroker.core.errors import StorageFailed
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import Draft, Message
from streambroker.core.policy import QueueConfig
from streambroker.notify.local import LocalNotifier
from streambroker.store.sql.reads import PAGE_BYTES
from streambroker.store.sql.sqlite import SqliteStore


def now() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def running(data_dir: Path, quotas: Quotas = NO_QUOTAS) -> AsyncIterator[tuple[Broker, SqliteStore]]:
    def failed(error: StorageFailed) -> None:
        raise AssertionError(error)

    store = await SqliteStore.open(data_dir, now(), failed)
    broker = Broker(store, LocalNotifier(), now, store.last_id, quotas=quotas)
    await broker.start()
    try:
        yield broker, store
    finally:
        await broker.stop()
        await store.close()


async def publish(broker: Broker, queue: str) -> None:
    await broker.publish(queue, [Draft(broker.new_ids(1, now())[0], b"1")])


async def test_a_queue_created_while_it_is_deleted_is_there_for_everybody(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (broker, store):
        for _ in range(5):
            await broker.ensure_queue("q")
            dropped = broker.drop_queue("q")
            created = broker.create_queue("q", QueueConfig(lease_ms=5_000))
            await asyncio.gather(dropped, created)
            assert broker.knows("q") == any(queue.name == "q" for queue in await store.queues())
            assert broker.knows("q")
            await broker.drop_queue("q")


async def test_a_dead_letter_beside_the_end_of_its_queue_can_be_consumed(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (broker, store):
        await broker.create_queue("w", QueueConfig(dead_letter_queue="dlq"))
        await publish(broker, "w")
        (message,) = await broker.consume(["w"], "u", 1, 0, None)
        rejected = broker.settle([Settlement(message.id, Event.REJECT, message.lease)])
        await asyncio.gather(broker.drop_queue("dlq"), rejected)
        assert broker.knows("dlq") == any(queue.name == "dlq" for queue in await store.queues())


async def test_a_dead_letter_queue_that_was_deleted_comes_back_with_the_next_configuration(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (broker, _):
        config = QueueConfig(dead_letter_queue="dlq")
        await broker.create_queue("w", config)
        await broker.drop_queue("dlq")
        await broker.create_queue("w", config)
        assert broker.knows("dlq")
        await publish(broker, "dlq")


async def test_a_poll_that_waits_for_its_quota_hears_of_each_of_its_queues(tmp_path: Path) -> None:
    async with running(tmp_path / "data", Quotas(max_in_flight_per_user=1)) as (broker, store):
        for name in "abx":
            await broker.create_queue(name, QueueConfig())
        poll = asyncio.ensure_future(broker.consume(["a", "b"], "u", 1, 60_000, None))
        while not broker.consumers("b"):
            await asyncio.sleep(0)
        await publish(broker, "x")
        held: list[Message] = []
        while not held:  # while the poll asks its queues, what it asks for counts
            await store.oldest_ready("x")
            held = await broker.consume(["x"], "u", 1, 0, None)
        for name in "ab":
            await publish(broker, name)
            await store.oldest_ready(name)  # a read comes after what the publish set going
        assert await broker.consume(["b"], "v", 1, 0, None)
        await broker.settle([Settlement(held[0].id, Event.ACK, held[0].lease)])
        async with asyncio.timeout(20):
            assert [message.queue for message in await poll] == ["a"]


async def test_a_page_of_large_messages_is_short_and_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as (broker, _):
        await broker.create_queue("q", QueueConfig())
        ids = [broker.new_ids(1, now())[0] for _ in range(30)]
        for number in ids:
            await broker.publish("q", [Draft(number, b'"%b"' % (b"x" * 1_000_000))])
        seen: list[int] = []
        cursor: str | None = None
        pages = 0
        while pages == 0 or cursor is not None:
            page, cursor = await broker.browse("q", None, None, None, 500, cursor)
            assert 0 < sum(len(message.content) for message in page) <= PAGE_BYTES
            seen += [message.id for message in page]
            pages += 1
        assert seen == ids
        assert pages == 4
