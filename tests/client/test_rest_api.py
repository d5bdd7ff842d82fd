"""Everything that REST can do, against a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from streambroker.client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LeaseLost,
    NotFound,
    Unauthenticated,
    from_code,
)
from streambroker.client.models import Draft, Grant, SettleItem
from streambroker.client.rest import Rest
from tests.client.answers import drained
from tests.harness import PASSWORD, BrokerProcess


@pytest.fixture
async def rest(broker: BrokerProcess) -> AsyncIterator[Rest]:
    """Logged in as the admin."""
    async with Rest(broker.url, username="admin", password=PASSWORD, environment={}) as connected:
        yield connected


# ---- queues


async def test_a_queue_from_its_creation_to_its_end(rest: Rest, queue: str) -> None:
    made = await rest.queues.create(queue, max_attempts=2, backoff={"kind": "fixed", "base_ms": 5})
    assert (made.config.max_attempts, made.config.backoff.kind, made.paused) == (2, "fixed", False)
    again = await rest.queues.create(queue, max_attempts=2, backoff={"kind": "fixed", "base_ms": 5})
    assert again.created_at == made.created_at
    with pytest.raises(Conflict):
        await rest.queues.create(queue, max_attempts=3)
    assert (await rest.queues.update(queue, lease_ms=5_000)).config.lease_ms == 5_000
    assert (await rest.queues.pause(queue)).paused
    assert not (await rest.queues.resume(queue)).paused
    await rest.posting.publish(queue, Draft(content=1))
    assert (await rest.queues.get(queue)).counts.pending == 1
    assert await rest.queues.purge(queue) == 1
    await rest.queues.delete(queue)
    with pytest.raises(NotFound):
        await rest.queues.get(queue)


async def test_lists_are_whole_whatever_the_size_of_a_page(rest: Rest, queue: str) -> None:
    names = [f"{queue}.{number}" for number in range(5)]
    for name in names:
        await rest.queues.create(name)
    found = [one.name async for one in rest.queues.list()]
    small = [one["name"] async for one in rest.http.pages("/queues", dict[str, object], page_size=2)]
    assert small == found
    assert set(names) <= set(found)


async def test_what_is_wrong_is_named(rest: Rest) -> None:
    with pytest.raises(Invalid) as caught:
        await rest.queues.create("bad name", lease_ms=-1)
    assert caught.value.errors
    assert caught.value.request_id


# ---- messages


async def test_every_option_of_a_publish_comes_out_again(rest: Rest, queue: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    draft = Draft(
        content={"n": 12345678901234567890123, "s": "ü"},
        priority=7,
        available_at=later,
        ttl_ms=7_200_000,
        key="k",
        dedup_id="d",
        headers={"a": "b", "n": 1, "t": True, "z": None},
        correlation_id="c",
        reply_to="r",
        max_attempts=9,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    published = await rest.posting.publish(queue, draft)
    assert (await rest.posting.publish(queue, draft)).duplicate
    message = await rest.messages.get(published.message_id)
    for name in ("content", "priority", "key", "dedup_id", "headers", "correlation_id", "reply_to", "max_attempts"):
        assert getattr(message, name) == getattr(draft, name), name
    assert message.traceparent == draft.traceparent
    assert message.available_at == later.replace(microsecond=later.microsecond // 1_000 * 1_000)
    assert message.status == "pending"


@pytest.mark.parametrize("key", ["plain", "ünïcode"])
@pytest.mark.parametrize("media_type", [None, "image/png", "application/json", "application/cloudevents+json"])
async def test_raw_bytes_stay_bytes_with_their_options(
    rest: Rest, queue: str, key: str, media_type: str | None
) -> None:
    content = bytes(range(256)) * 3
    draft = Draft(content=content, content_type=media_type, key=key, headers={"h": "ü"}, delay_ms=60_000, priority=3)
    published = await rest.posting.publish(queue, draft)
    message = await rest.messages.get(published.message_id)
    assert message.content == message.body == content
    assert message.content_type == (media_type or "application/octet-stream")
    assert (message.key, message.headers, message.priority) == (key, {"h": "ü"}, 3)
    assert message.available_at is not None and message.available_at > datetime.now(UTC)


@pytest.mark.parametrize("text", ['"\\ud800"', "[" * 1_000 + "]" * 1_000, "1e400", '{"a":1,"a":2}', "-0.0"])
async def test_content_comes_byte_for_byte(rest: Rest, queue: str, text: str) -> None:
    path = f"/queues/{queue}/messages"
    body = f'{{"content":{text}}}'.encode()
    await rest.http.call("POST", path, raw=body, headers={"content-type": "application/json"})
    message = await rest.receiving.receive(queue)
    assert message is not None
    assert message.body == text.encode()


async def test_half_a_surrogate_pair_can_be_read(rest: Rest, queue: str) -> None:
    raw = b'{"content":["\\ud800"]}'
    await rest.http.call("POST", f"/queues/{queue}/messages", raw=raw, headers={"content-type": "application/json"})
    message = await rest.receiving.receive(queue)
    assert message is not None
    assert message.content == ["\ud800"]


@pytest.mark.parametrize(
    ("draft", "where"),
    [
        (Draft(content=float("nan")), "/content"),
        (Draft(content="\ud800"), "/content"),
        (Draft(content=b"raw", headers={"h": float("inf")}), "/headers/h"),
    ],
    ids=["NaN", "half a pair", "a header of raw bytes"],
)
async def test_what_json_cannot_say_is_a_type_error(rest: Rest, queue: str, draft: Draft, where: str) -> None:
    with pytest.raises(TypeError, match=rf"^{where} "):
        await rest.posting.publish(queue, draft)
    with pytest.raises(TypeError, match=rf"^{where} "):
        await rest.posting.publish_many(queue, [Draft(content=1), draft])


async def test_a_batch_is_stored_whole(rest: Rest, queue: str) -> None:
    drafts = [Draft(content=1, dedup_id="a"), Draft(content=b"\0raw"), Draft(content=1, dedup_id="a")]
    stored = await rest.posting.publish_many(queue, drafts)
    assert stored.duplicates == [2]
    assert stored.message_ids[0] == stored.message_ids[2]
    with pytest.raises(Invalid):
        await rest.posting.publish_many(queue, [Draft(content=1), Draft(content=2, priority=99)])
    assert (await rest.queues.get(queue)).counts.pending == 2


async def test_a_message_is_settled_by_its_lease_and_the_same_again_does_no_harm(rest: Rest, queue: str) -> None:
    await rest.posting.publish(queue, Draft(content="x"))
    message = await rest.receiving.receive(queue, wait_ms=1_000)
    assert message is not None and message.lease is not None
    extended = await rest.messages.extend(message.message_id, 60_000, message.lease)
    assert extended.lease_expires_at is not None
    assert not (await rest.messages.ack(message.message_id, message.lease)).already_acked
    assert (await rest.messages.ack(message.message_id, message.lease)).already_acked
    with pytest.raises(LeaseLost):
        await rest.messages.ack(message.message_id, "0" * 32)


async def test_a_nack_asks_for_another_try_unless_told_otherwise(rest: Rest, queue: str) -> None:
    await rest.posting.publish(queue, Draft(content="x"))
    first = await rest.receiving.receive(queue)
    assert first is not None
    assert (await rest.messages.nack(first.message_id, first.lease, delay_ms=0, reason="boom")).status == "pending"
    second = await rest.receiving.receive(queue)
    assert second is not None and (second.attempt, second.error) == (2, "boom")
    assert (await rest.messages.nack(second.message_id, second.lease, requeue=False)).status == "failed"
    assert (await rest.messages.retry(second.message_id)).status == "pending"
    events = [moment.event for moment in await rest.messages.timeline(second.message_id)]
    assert events[0] == "published"
    assert events[-1] == "redriven"


async def test_many_are_settled_at_once_and_judged_alone(rest: Rest, queue: str) -> None:
    await rest.posting.publish_many(queue, [Draft(content=number) for number in range(3)])
    messages = await rest.receiving.receive_many(queue, most=10, wait_ms=1_000)
    assert [message.content for message in messages] == [0, 1, 2]
    items = [SettleItem(message.message_id, message.lease) for message in messages[:2]]
    results = await rest.messages.settle_many("ack", [*items, SettleItem("x", "lease")])
    assert [(result.ok, result.code) for result in results] == [(True, None), (True, None), (False, "not_found")]
    assert isinstance(from_code(results[2].code or ""), NotFound)
    last = messages[2]
    (result,) = await rest.messages.settle_many(
        "nack", [SettleItem(last.message_id, last.lease, requeue=True, delay_ms=0, reason="again")]
    )
    assert result.ok
    assert (await rest.messages.get(last.message_id)).error == "again"


async def test_the_first_of_several_queues_that_has_some_is_consumed(rest: Rest, queue: str) -> None:
    await rest.posting.publish(f"{queue}-b", Draft(content="b"))
    (message,) = await rest.receiving.receive_many([f"{queue}-a", f"{queue}-b"], wait_ms=1_000)
    assert message.queue == f"{queue}-b"


async def test_nothing_is_none(rest: Rest, queue: str) -> None:
    assert await rest.receiving.receive(queue, wait_ms=1) is None
    assert await rest.receiving.receive_many(queue) == []


async def test_browsing_takes_nothing(rest: Rest, queue: str) -> None:
    drafts = [Draft(content={"name": f"n{number}"}, key=f"k{number % 2}") for number in range(5)]
    await rest.posting.publish_many(queue, drafts)
    assert [message.key async for message in rest.messages.browse(queue, key="k1")] == ["k1", "k1"]
    assert [message.content async for message in rest.messages.browse(queue, contains="n3")] == [{"name": "n3"}]
    page = await rest.messages.page(queue, 2, status="pending")
    assert len(page.items) == 2 and page.next_cursor
    await rest.messages.delete(page.items[0].message_id)
    with pytest.raises(NotFound):
        await rest.messages.get(page.items[0].message_id)
    assert (await rest.queues.get(queue)).counts.pending == 4


async def test_dead_letters_come_home(rest: Rest, queue: str) -> None:
    await rest.queues.create(queue, dead_letter_queue=f"{queue}.dead")
    await rest.posting.publish(queue, Draft(content="x"))
    message = await rest.receiving.receive(queue)
    assert message is not None
    assert (await rest.messages.nack(message.message_id, message.lease, requeue=False)).queue == f"{queue}.dead"
    letter = (await rest.messages.get(message.message_id)).dead_letter
    assert letter is not None and (letter.queue, letter.reason) == (queue, "rejected")
    assert await rest.queues.redrive(queue, f"{queue}.dead") == 1


async def test_events_are_followed(rest: Rest, queue: str) -> None:
    await rest.queues.create(queue)
    events = rest.events(queue)
    while (await rest.stats()).connections.sse:  # another test's, which is counted for a moment longer
        await asyncio.sleep(0.01)
    first = asyncio.ensure_future(anext(events))
    while not (await rest.stats()).connections.sse:
        await asyncio.sleep(0.01)
    published = await rest.posting.publish(queue, Draft(content=1))
    event = await first
    assert (event.event, event.message_id, event.queue) == ("new_message", published.message_id, queue)
    await rest.queues.delete(queue)
    with pytest.raises(NotFound):
        await drained(events)


# ---- users and keys


async def test_a_user_from_its_creation_to_its_end(rest: Rest, broker: BrokerProcess, queue: str) -> None:
    name = f"ann-{queue}"
    made = await rest.users.create(name, "anns-password", grants=[Grant(f"{queue}*", ("publish", "view"))])
    assert made.grants == (Grant(f"{queue}*", ("publish", "view")),)
    assert name in [user.username async for user in rest.users.list()]
    async with Rest(broker.url, username=name, password="anns-password", environment={}) as ann:
        assert (await ann.users.me()).credential.kind == "session"
        await ann.posting.publish(queue, Draft(content=1))
        with pytest.raises(Forbidden):
            await ann.receiving.receive(queue)
        await rest.users.update(name, grants=[])
        with pytest.raises(NotFound):
            await ann.posting.publish(queue, Draft(content=1))
        assert (await rest.users.update(name, disabled=True)).disabled
        with pytest.raises(Unauthenticated):
            await ann.users.me()
    await rest.users.delete(name)
    with pytest.raises(NotFound):
        await rest.users.get(name)


async def test_an_api_key_from_its_making_to_its_end(rest: Rest, broker: BrokerProcess, queue: str) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    made = await rest.api_keys.create("ci", grants=[Grant(queue, ("publish",))], expires_at=ends)
    assert made.key not in repr(made)
    async with Rest(broker.url, token=made.key, environment={}) as keyed:
        await keyed.posting.publish(queue, Draft(content=1))
        assert (await keyed.users.me()).credential.name == "ci"
        assert made.id in [key.id async for key in rest.api_keys.list()]
        await rest.api_keys.delete(made.id)
        with pytest.raises(Unauthenticated):
            await keyed.users.me()


async def test_a_session_that_was_ended_elsewhere_begins_anew(rest: Rest) -> None:
    await rest.users.me()
    await rest.http.call("POST", "/logout")  # behind the back of the session
    assert (await rest.users.me()).username == "admin"


async def test_a_login_changes_who_is_asking(broker: BrokerProcess) -> None:
    async with Rest(broker.url, environment={}) as client:
        with pytest.raises(Unauthenticated):
            await client.users.me()
        await client.login("admin", PASSWORD)
        assert (await client.users.me()).username == "admin"
        await client.logout()


async def test_a_wrong_password_is_told(broker: BrokerProcess, queue: str) -> None:
    async with Rest(broker.url, username=f"nobody-{queue}", password="wrong-one", environment={}) as client:
        with pytest.raises(Unauthenticated):
            await client.users.me()


# ---- the broker


async def test_the_broker_tells_of_itself(rest: Rest, queue: str) -> None:
    await rest.posting.publish(queue, Draft(content=1))
    stats = await rest.stats()
    assert stats.queues[queue].pending == 1
    assert stats.uptime_seconds > 0
    assert await rest.ready() == "ready"
    files = [file async for file in rest.logs.list()]
    assert files and await rest.logs.read(files[0].name, tail=1)


async def test_a_consumer_is_listed_and_disconnected(rest: Rest, queue: str) -> None:
    await rest.queues.create(queue)
    polling = asyncio.ensure_future(rest.receiving.receive(queue, wait_ms=30_000))
    while not (found := [consumer async for consumer in rest.consumers.list(queue)]):
        await asyncio.sleep(0.01)
    assert (found[0].kind, found[0].user) == ("long_poll", "admin")
    await rest.consumers.disconnect(found[0].id)
    assert await polling is None


async def test_a_webhook_from_its_making_to_its_end(rest: Rest, queue: str) -> None:
    url = "https://127.0.0.1:1/hook"
    with pytest.raises(Invalid, match="url"):
        await rest.webhooks.create(queue, url)  # not where it is not allowed
    # A public address, which needs no resolver; a disabled webhook sends nothing there.
    made = await rest.webhooks.create(queue, "https://9.9.9.9/hook", description="d", concurrency=2, disabled=True)
    assert made.secret is not None and made.secret not in repr(made)
    assert [(hook.id, hook.secret) async for hook in rest.webhooks.list(queue)] == [(made.id, None)]
    rotated = await rest.webhooks.update(queue, made.id, rotate_secret=True, description=None)
    assert rotated.secret not in (None, made.secret)
    found = await rest.webhooks.get(queue, made.id)
    assert (found.concurrency, found.disabled, found.description) == (2, True, None)
    assert [delivery async for delivery in rest.webhooks.deliveries(queue, made.id)] == []
    await rest.webhooks.delete(queue, made.id)
    with pytest.raises(NotFound):
        await rest.webhooks.get(queue, made.id)
