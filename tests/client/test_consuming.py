"""Consuming through the SDK from a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streambroker.client import AlreadySettled, Client, ConnectionLost, Draft, LeaseLost, Message, NotFound
from tests.client.chaos import hasty
from tests.harness import BrokerProcess


async def filled(client: Client, queue: str, count: int) -> list[str]:
    return (await client.publish_many(queue, [Draft(content=n) for n in range(count)])).message_ids


async def until_pending(client: Client, queue: str, count: int) -> None:
    async with asyncio.timeout(40):
        while (await client.queues.get(queue)).counts.pending != count:
            await asyncio.sleep(0.01)


async def test_messages_come_in_order_and_an_ack_is_durable_when_it_returns(client: Client, queue: str) -> None:
    ids = await filled(client, queue, 5)
    seen: list[str] = []
    async for message in client.consume(queue, credit=2):
        await message.ack()
        assert (await client.messages.get(message.message_id)).status == "processed"
        seen.append(message.message_id)
        if len(seen) == 5:
            break
    assert seen == ids


async def test_no_more_than_the_credit_are_in_hand(client: Client, queue: str) -> None:
    await filled(client, queue, 20)
    consumption = client.subscribe(queue, credit=7)
    messages = [await consumption.take() for _ in range(7)]
    assert consumption.take_now() is None
    assert (await client.queues.get(queue)).counts.processing == 7
    await messages[0].ack()
    await consumption.take()
    await consumption.close()


async def test_leaving_the_loop_gives_back_what_is_not_settled_and_counts_no_failure(
    client: Client, queue: str
) -> None:
    await client.queues.create(queue, max_attempts=1)
    await filled(client, queue, 3)
    async for message in client.consume(queue, credit=3):
        assert message.content == 0
        await message.ack()
        break
    await until_pending(client, queue, 2)
    again = await client.receive(queue)
    assert again is not None and again.content == 1


async def test_a_consumer_that_is_cancelled_gives_back_at_once(client: Client, queue: str) -> None:
    async def consume() -> None:
        async for _ in client.consume(queue):
            got.set()

    got = asyncio.Event()
    await filled(client, queue, 2)
    task = asyncio.create_task(consume())
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_pending(client, queue, 2)


async def test_a_nack_carries_its_reason_and_the_message_comes_again(client: Client, queue: str) -> None:
    await filled(client, queue, 1)
    attempts: list[tuple[int, str | None]] = []
    async for message in client.consume(queue):
        attempts.append((message.attempt, message.error))
        if message.attempt == 2:
            await message.ack()
            break
        await message.nack(delay_ms=0, reason="busy")
    assert attempts == [(1, None), (2, "busy")]


async def test_a_nack_for_good_is_the_end_of_it(client: Client, queue: str) -> None:
    (message_id,) = await filled(client, queue, 1)
    message = await anext(client.consume(queue))
    await message.nack(requeue=False, reason="no good")
    info = await client.messages.get(message_id)
    assert (info.status, info.error) == ("failed", "no good")


async def test_acks_that_nobody_awaits_are_sent_all_the_same(client: Client, queue: str) -> None:
    ids = await filled(client, queue, 50)
    count = 0
    async for message in client.consume(queue, credit=10):
        message.ack()
        count += 1
        if count == 50:
            break
    assert [(await client.messages.get(one)).status for one in ids] == ["processed"] * 50


async def test_a_message_is_settled_once(client: Client, queue: str) -> None:
    await filled(client, queue, 1)
    message = await anext(client.consume(queue))
    settled = [message.settled]
    await message.ack()
    await message.ack()
    settled.append(message.settled)
    assert settled == [False, True]
    with pytest.raises(AlreadySettled):
        message.nack()


async def test_a_message_that_is_deleted_in_hand_is_lost(client: Client, queue: str) -> None:
    await filled(client, queue, 1)
    stream = client.consume(queue)
    message = await anext(stream)
    await client.messages.delete(message.message_id)
    async with asyncio.timeout(40):
        await message.lost.wait()
    with pytest.raises(LeaseLost):
        await message.ack()
    await stream.aclose()


async def test_a_fixed_lease_that_ends_is_lost_and_extend_keeps_it(client: Client, queue: str) -> None:
    await filled(client, queue, 2)
    consumption = client.subscribe(queue, credit=2, lease_mode="fixed", lease_ms=2_000)
    kept, expired = await consumption.take(), await consumption.take()
    await kept.extend(60_000)
    async with asyncio.timeout(40):
        await expired.lost.wait()
    assert not kept.is_lost
    await kept.ack()
    await consumption.close()


async def test_a_message_received_over_rest_is_settled_by_its_lease(client: Client, queue: str) -> None:
    await filled(client, queue, 3)
    one, two, three = [message for _ in range(3) if (message := await client.receive(queue)) is not None]
    assert one.lease_expires_at is not None
    await one.extend(120_000)
    await asyncio.gather(one.ack(), two.ack(), three.nack(requeue=False))
    counts = (await client.queues.get(queue)).counts
    assert (counts.processed, counts.failed) == (2, 1)
    assert await client.receive(queue, wait_ms=0) is None


async def test_receive_waits_for_a_message(client: Client, queue: str) -> None:
    waiting = asyncio.create_task(client.receive(queue, wait_ms=20_000))
    await client.publish(queue, "late")
    message = await waiting
    assert message is not None and message.content == "late"
    await message.ack()


async def test_the_end_of_a_queue_ends_its_consumer_and_no_other(client: Client, queue: str) -> None:
    other = f"{queue}-other"
    doomed, lasting = client.subscribe(queue), client.subscribe(other)
    waiting = asyncio.create_task(doomed.take())
    await client.publish(queue, 1)
    await (await waiting).ack()
    waiting = asyncio.create_task(doomed.take())
    await client.queues.delete(queue)
    with pytest.raises(NotFound, match="deleted"):
        await waiting
    await client.publish(other, 2)
    assert (await lasting.take()).content == 2
    await lasting.close()


async def test_several_takers_share_a_subscription(client: Client, queue: str) -> None:
    consumption = client.subscribe(queue, credit=4)
    takers = [asyncio.create_task(consumption.take()) for _ in range(4)]
    await asyncio.sleep(0)
    takers[0].cancel()
    await filled(client, queue, 3)
    messages: list[Message] = await asyncio.gather(*takers[1:])
    assert sorted(message.content for message in messages) == [0, 1, 2]
    await consumption.close()
    with pytest.raises(ConnectionLost):
        await consumption.take()


@pytest.mark.system
async def test_a_client_comes_back_after_a_restart(tmp_path: Path, queue: str) -> None:
    with BrokerProcess(tmp_path / "data") as own:
        own.port = int(own.url.rpartition(":")[2])
        async with hasty(own.url, own.token()) as client:
            consumption = client.subscribe(queue)
            await client.publish(queue, 1)
            await (await consumption.take()).ack()
            assert await asyncio.to_thread(own.terminate) == 0
            await asyncio.to_thread(own.start)
            await client.publish(queue, 2, timeout=30)
            second = await consumption.take()
            assert second.content == 2
            await second.ack()
