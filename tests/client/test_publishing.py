"""Publishing through the SDK to a real broker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from streambroker.client import Client, Draft, Forbidden, Grant, Invalid, QueueFull
from streambroker.client.encoding import encoded
from streambroker.client.publishing import MAX_WAITING
from tests.harness import PASSWORD, BrokerProcess


async def test_every_option_of_a_publish_comes_out_again(client: Client, queue: str) -> None:
    expires = datetime.now(UTC) + timedelta(hours=1)
    published = await client.publish(
        queue,
        {"n": [1, 2.5, None, "ü"]},
        priority=7,
        ttl_ms=3_600_000,
        key="k",
        dedup_id="d",
        headers={"a": 1, "b": True},
        content_type="application/vnd.x+json",
        correlation_id="c",
        reply_to="answers",
        max_attempts=3,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    message = await client.receive(queue)
    assert message is not None
    assert message.message_id == published.message_id
    assert message.content == {"n": [1, 2.5, None, "ü"]}
    assert message.headers == {"a": 1, "b": True}
    assert (message.priority, message.key, message.dedup_id, message.correlation_id) == (7, "k", "d", "c")
    assert (message.reply_to, message.max_attempts, message.attempt) == ("answers", 3, 1)
    assert message.content_type == "application/vnd.x+json"
    assert message.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert message.expires_at is not None and abs(message.expires_at - expires) < timedelta(minutes=5)


async def test_bytes_stay_bytes(client: Client, queue: str) -> None:
    content = bytes(range(256))
    await client.publish(queue, content, content_type="image/png")
    message = await client.receive(queue)
    assert message is not None
    assert (message.content, message.body, message.content_type) == (content, content, "image/png")


async def test_raw_json_comes_out_byte_for_byte(client: Client, queue: str) -> None:
    text = b'{ "b":1.0,   "a":[1e3, "\\u00fc\\ud800"] }'
    await client.publish(queue, msgspec.Raw(text))
    async for message in client.consume(queue):
        assert message.body == text
        assert message.content["b"] == 1.0
        await message.ack()
        break


async def test_a_content_can_be_read_as_a_type(client: Client, queue: str) -> None:
    class Order(msgspec.Struct):
        number: int

    await client.publish(queue, Order(5))
    message = await client.receive(queue)
    assert message is not None
    assert message.decode(Order) == Order(5)


async def test_the_same_dedup_id_is_a_duplicate_with_the_first_id(client: Client, queue: str) -> None:
    first = await client.publish(queue, 1, dedup_id="one")
    again = await client.publish(queue, 1, dedup_id="one")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert first.message_id == again.message_id
    with pytest.raises(Invalid):
        await client.publish(queue, 2, dedup_id="one")


async def test_a_batch_is_stored_in_order_with_its_duplicates(client: Client, queue: str) -> None:
    drafts = [Draft(content=1), Draft(content=2, dedup_id="x"), Draft(content=2, dedup_id="x"), Draft(content=b"3")]
    stored = await client.publish_many(queue, drafts)
    assert stored.duplicates == [2]
    assert stored.message_ids[1] == stored.message_ids[2]
    contents = [message.content for message in await client.receive_many(queue)]
    assert contents == [1, 2, b"3"]


async def test_batches_and_singles_at_once_each_get_their_own_answers(client: Client, queue: str) -> None:
    batches = [client.publish_many(queue, [Draft(content=[n, i]) for i in range(50)]) for n in range(20)]
    singles = [client.publish(queue, n) for n in range(200)]
    stored, published = await asyncio.gather(asyncio.gather(*batches), asyncio.gather(*singles))
    for n, batch in enumerate(stored):
        for index in (0, 49):
            assert (await client.messages.get(batch.message_ids[index])).content == [n, index]
    assert (await client.messages.get(published[17].message_id)).content == 17
    assert (await client.queues.get(queue)).counts.pending == 1_200


async def test_what_is_larger_than_a_frame_is_published_all_the_same(client: Client, queue: str) -> None:
    raw = await client.publish(queue, b"x" * 1_000_000)
    batch = await client.publish_many(queue, [Draft(content="y" * 100_000) for _ in range(30)])
    assert (await client.messages.get(raw.message_id)).body == b"x" * 1_000_000
    assert len(set(batch.message_ids)) == 30


async def test_a_publish_that_is_refused_names_the_field_and_harms_no_other(client: Client, queue: str) -> None:
    calls = client.publish(queue, 1), client.publish(queue, 2, priority=77), client.publish(queue, 3)
    good, bad, fine = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, Invalid) and "priority" in bad.errors[0].pointer
    assert not isinstance(good, BaseException) and not isinstance(fine, BaseException)
    assert (await client.queues.get(queue)).counts.pending == 2


async def test_a_full_queue_is_told_at_once(client: Client, queue: str) -> None:
    await client.queues.create(queue, max_messages=1)
    await client.publish(queue, 1)
    with pytest.raises(QueueFull) as full:
        await client.publish(queue, 2)
    assert full.value.status == 507


async def test_what_one_may_not_is_forbidden(broker: BrokerProcess, client: Client, queue: str) -> None:
    await client.publish(queue, 1)
    key = await client.api_keys.create("reader", grants=[Grant(queue, ("view",))])
    async with Client(broker.url, token=key.key, environment={}) as reader:
        with pytest.raises(Forbidden):
            await reader.publish(queue, 2)
        with pytest.raises(Forbidden):
            await anext(reader.consume(queue))


async def test_what_is_not_json_is_a_type_error_and_nothing_is_sent(client: Client, queue: str) -> None:
    with pytest.raises(TypeError):
        await client.publish(queue, object())
    with pytest.raises(ValueError, match="1 to 1,000"):
        await client.publish_many(queue, [])


@pytest.mark.parametrize(
    ("draft", "told"),
    [
        (Draft(content={"a/b": [1, float("nan")]}), "/content/a~1b/1 is NaN or infinite"),
        (Draft(content=float("-inf")), "/content is NaN or infinite"),
        (Draft(content={"name": "\ud800"}), "/content/name is not Unicode"),
        (Draft(content={"\ud800": 1}), r"/content/\\ud800 is not Unicode"),
        (Draft(content=1, key="\udfff"), "/key is not Unicode"),
        (Draft(content=b"raw", headers={"h": float("inf")}), "/headers/h is NaN or infinite"),
    ],
    ids=["NaN in a list", "infinite", "half a pair", "half a pair as a name", "half a pair as a key", "a header"],
)
def test_what_json_cannot_say_is_a_type_error_that_says_where(draft: Draft, told: str) -> None:
    with pytest.raises(TypeError, match=f"^{told}"):
        encoded(draft)


def test_null_is_not_taken_for_a_number_that_is_none() -> None:
    content = {"none": None, "text": "null", "time": datetime(2026, 1, 1, tzinfo=UTC), "raw": msgspec.Raw(b"[null]")}
    sent = b'{"none":null,"text":"null","time":"2026-01-01T00:00:00Z","raw":[null]}'
    assert encoded(Draft(content=content)) == b'{"content":%b}' % sent


async def test_the_reason_of_a_nack_is_carried_without_what_none_may_hold(client: Client, queue: str) -> None:
    await client.publish(queue, 1)
    message = await client.receive(queue)
    assert message is not None
    await message.nack(requeue=False, reason="half \ud800 and \0 nothing")
    (failed,) = [one async for one in client.messages.browse(queue, status="failed")]
    assert failed.error == "half ? and  nothing"


async def test_more_publishes_than_may_wait_wait_for_room(client: Client, queue: str) -> None:
    await client.queues.create(queue, durability="memory")
    count = MAX_WAITING + 500
    published = await asyncio.gather(*(client.publish(queue, n, timeout=60) for n in range(count)))
    assert len({one.message_id for one in published}) == count


async def test_the_environment_says_where_and_who(broker: BrokerProcess, queue: str) -> None:
    environment = {"STREAMBROKER_URL": broker.url, "STREAMBROKER_TOKEN": broker.token()}
    async with Client(environment=environment) as client:
        assert (await client.publish(queue, 1)).message_id


async def test_a_username_and_a_password_will_do(broker: BrokerProcess, queue: str) -> None:
    async with Client(broker.url, username="admin", password=PASSWORD, environment={}) as client:
        assert (await client.publish(queue, 1)).message_id
