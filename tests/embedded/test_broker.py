"""The broker within a program: the SDK's calls, without a server in between."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from streambroker import Broker
from streambroker.client import errors
from streambroker.client.models import Draft
from streambroker.core.errors import ConfigError, DataDirUnusable


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker(":memory:") as opened:
        yield opened


async def test_what_is_published_is_received_with_everything_that_was_said_of_it(broker: Broker) -> None:
    published = await broker.publish("q", {"a": [1, 2]}, priority=7, key="k", headers={"x": "y"}, correlation_id="c")
    message = await broker.receive("q")
    assert message is not None
    assert message.message_id == published.message_id
    assert (message.content, message.body) == ({"a": [1, 2]}, b'{"a":[1,2]}')
    assert (message.priority, message.key, message.headers, message.correlation_id) == (7, "k", {"x": "y"}, "c")
    assert message.attempt == 1


async def test_bytes_stay_bytes(broker: Broker) -> None:
    await broker.publish("q", b"\x00\xff", content_type="image/png")
    message = await broker.receive("q")
    assert message is not None
    assert (message.content, message.content_type) == (b"\x00\xff", "image/png")


async def test_a_message_that_is_acked_is_processed_and_not_delivered_again(broker: Broker) -> None:
    await broker.publish("q", 1)
    message = await broker.receive("q")
    assert message is not None
    await message.ack()
    assert (await broker.messages.get(message.message_id)).status == "processed"
    assert await broker.receive("q") is None


async def test_an_ack_that_nobody_awaits_is_done_all_the_same(tmp_path: Path) -> None:
    async with Broker(tmp_path) as broker:
        await broker.publish("q", 1)
        message = await broker.receive("q")
        assert message is not None
        message.ack()
    async with Broker(tmp_path) as broker:
        assert (await broker.messages.get(message.message_id)).status == "processed"


async def test_messages_are_consumed_as_they_come_in_the_order_of_their_priority(broker: Broker) -> None:
    await broker.publish_many("q", [Draft(content=n, priority=n) for n in range(5)])
    got: list[int] = []
    async with aclosing(broker.consume("q")) as messages:
        async for message in messages:
            got.append(message.content)
            await message.ack()
            if len(got) == 5:
                break
    assert got == [4, 3, 2, 1, 0]
    assert (await broker.queues.get("q")).counts.processed == 5


async def test_no_more_is_delivered_than_the_credit_allows(broker: Broker) -> None:
    await broker.publish_many("q", [Draft(content=n) for n in range(5)])
    async with aclosing(broker.consume("q", credit=2)) as messages:
        first, second = await anext(messages), await anext(messages)
        third = asyncio.ensure_future(anext(messages))
        assert (await broker.queues.get("q")).counts.processing == 2
        assert not third.done()
        await first.ack()
        assert (await third).content == 2
        await second.ack()


async def test_a_consumer_that_stops_gives_back_what_it_has_not_settled_without_a_failure(broker: Broker) -> None:
    await broker.queues.create("q", max_attempts=1)
    await broker.publish_many("q", [Draft(content=n) for n in range(3)])
    async with aclosing(broker.consume("q")) as messages:
        await anext(messages)
    counts = (await broker.queues.get("q")).counts
    assert (counts.pending, counts.processing, counts.failed) == (3, 0, 0)


async def test_a_nack_without_requeue_fails_the_message_with_its_reason(broker: Broker) -> None:
    published = await broker.publish("q", 1)
    async with aclosing(broker.consume("q")) as messages:
        await (await anext(messages)).nack(requeue=False, reason="no good")
        info = await broker.messages.get(published.message_id)
        assert (info.status, info.error) == ("failed", "no good")
        assert await broker.queues.redrive("q") == 1
        again = await anext(messages)
        await again.ack()


async def test_a_requeue_without_delay_is_delivered_again_at_once(broker: Broker) -> None:
    await broker.publish("q", 1)
    async with aclosing(broker.consume("q")) as messages:
        await (await anext(messages)).nack(delay_ms=0)
        assert (await anext(messages)).attempt == 2


async def test_a_message_that_was_deleted_is_lost_to_its_holder(broker: Broker) -> None:
    await broker.publish("q", 1)
    async with aclosing(broker.consume("q")) as messages:
        message = await anext(messages)
        assert not message.is_lost
        await broker.messages.delete(message.message_id)
        await message.lost.wait()
        with pytest.raises(errors.ApiError) as refused:
            await message.ack()
    assert refused.value.code in ("lease_lost", "not_found")


async def test_a_lease_that_somebody_else_has_is_lost(broker: Broker) -> None:
    await broker.publish("q", 1)
    message = await broker.receive("q", lease_ms=1)
    assert message is not None
    again = await broker.receive("q", wait_ms=10_000)
    assert again is not None and again.attempt == 2
    with pytest.raises(errors.LeaseLost):
        await message.ack()
    await again.ack()


async def test_a_wait_ends_when_something_is_published(broker: Broker) -> None:
    waiting = asyncio.create_task(broker.receive("q", wait_ms=60_000))
    while not (queues := [queue async for queue in broker.queues.list()]) or not queues[0].consumers:
        await asyncio.sleep(0)
    await broker.publish("q", "here")
    message = await waiting
    assert message is not None and message.content == "here"


async def test_who_stops_waiting_takes_no_message_along(broker: Broker) -> None:
    with pytest.raises(errors.StreambrokerTimeout):
        await broker.receive("q", wait_ms=60_000, timeout=0.01)
    await broker.publish("q", 1)
    message = await broker.receive("q")
    assert message is not None and message.attempt == 1


async def test_a_batch_is_stored_whole_or_not_at_all(broker: Broker) -> None:
    with pytest.raises(errors.Invalid) as refused:
        await broker.publish_many("q", [Draft(content=1), Draft(content=2, priority=10)])
    assert refused.value.errors[0].pointer.endswith("/priority")
    assert await broker.receive("q") is None
    with pytest.raises(ValueError, match="1 to 1,000"):
        await broker.publish_many("q", [])
    batch = await broker.publish_many("q", [Draft(content=1, dedup_id="d"), Draft(content=1, dedup_id="d")])
    assert batch.duplicates == [1] and batch.message_ids[0] == batch.message_ids[1]


async def test_what_json_cannot_say_is_a_type_error_and_nothing_is_stored(broker: Broker) -> None:
    for content in (float("nan"), "\ud800", object()):
        with pytest.raises(TypeError):
            await broker.publish("q", content)
    assert await broker.receive("q") is None


async def test_a_dedup_id_is_stored_once(broker: Broker) -> None:
    first = await broker.publish("q", 1, dedup_id="d")
    second = await broker.publish("q", 1, dedup_id="d")
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.message_id == second.message_id
    with pytest.raises(errors.Invalid):
        await broker.publish("q", 2, dedup_id="d")


async def test_a_full_queue_refuses_and_says_so(broker: Broker) -> None:
    await broker.queues.create("q", max_messages=1)
    await broker.publish("q", 1)
    with pytest.raises(errors.QueueFull) as refused:
        await broker.publish("q", 2)
    assert refused.value.status == 507 and refused.value.retryable


async def test_names_that_are_none_are_refused(broker: Broker) -> None:
    with pytest.raises(errors.Invalid):
        await broker.publish("../q", 1)
    with pytest.raises(errors.Invalid):
        await anext(broker.consume("../q"))


async def test_queues_are_administered_as_over_the_network(broker: Broker) -> None:
    queue = await broker.queues.create("q", lease_ms=5_000)
    assert queue.config.lease_ms == 5_000
    with pytest.raises(errors.Conflict):
        await broker.queues.create("q", lease_ms=6_000)
    await broker.queues.pause("q")
    await broker.publish("q", 1)
    assert await broker.receive("q") is None
    await broker.queues.resume("q")
    assert [message.content async for message in broker.messages.browse("q")] == [1]
    assert await broker.queues.purge("q") == 1
    await broker.queues.delete("q")
    with pytest.raises(errors.NotFound):
        await broker.queues.get("q")


async def test_a_consumer_hears_that_its_queue_was_deleted(broker: Broker) -> None:
    await broker.publish("q", 1)
    async with aclosing(broker.consume("q")) as messages:
        await anext(messages)
        await broker.queues.delete("q")
        with pytest.raises(errors.NotFound):
            await anext(messages)


async def test_what_happens_in_a_queue_can_be_followed(broker: Broker) -> None:
    await broker.queues.create("q")
    async with aclosing(broker.events("q")) as events:
        first = asyncio.ensure_future(anext(events))
        while not first.done():  # published until somebody listens
            await broker.publish("q", 1)
            await asyncio.sleep(0.01)
        assert (await first).event == "new_message"


async def test_consumers_end_when_the_broker_is_closed() -> None:
    broker = Broker()
    await broker.open()
    seen: list[int] = []

    async def consume() -> None:
        seen.extend([message.content async for message in broker.consume("q")])

    consuming = asyncio.create_task(consume())
    await broker.publish("q", 1)
    while not (await broker.queues.get("q")).counts.processing:
        await asyncio.sleep(0)
    await broker.close()
    await consuming
    assert seen == [1]
    with pytest.raises(errors.Draining):
        await broker.publish("q", 2)


async def test_data_on_a_path_is_there_again(tmp_path: Path) -> None:
    async with Broker(tmp_path / "data") as broker:
        await broker.publish("q", "kept")
    async with Broker(tmp_path / "data") as broker:
        message = await broker.receive("q")
        assert message is not None and message.content == "kept"


async def test_a_path_has_one_broker_at_a_time(tmp_path: Path) -> None:
    async with Broker(tmp_path):
        with pytest.raises(DataDirUnusable):
            await Broker(tmp_path).open()
    async with Broker(tmp_path):
        pass


async def test_nothing_is_left_of_a_broker_in_memory() -> None:
    async with Broker() as broker:
        place = Path(broker._heart.settings.data_dir)
        assert place.exists()
    assert not place.parent.exists()


async def test_settings_are_those_of_the_configuration_file() -> None:
    async with Broker(max_message_bytes=1_024) as broker:
        with pytest.raises(errors.TooLarge):
            await broker.publish("q", "x" * 2_000)
    with pytest.raises((msgspec.ValidationError, ConfigError)):
        await Broker(no_such_setting=1).open()


async def test_a_broker_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Broker().publish("q", 1)


def test_importing_the_package_imports_no_server() -> None:
    script = "import streambroker, sys; print('starlette' in sys.modules, 'sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
