"""What ``kill -9`` and a new start leave of everything that a client can see: all of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker
from tests.system.history import to_monotonic
from tests.system.wire import Json, Refused, Rest, ids, rest, socket

LONG = 600_000
SOON = 40.0
PASSING = {"updated_at", "lease", "lease_expires_at"}


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    return start_broker()


def crash(broker: BrokerProcess) -> Rest:
    """``kill -9``, start again; a client of the new broker."""
    broker.kill()
    broker.start()
    return rest(broker)


async def settle(client: Rest, verdict: str, message: Json, **options: Any) -> Json:
    reply: Json = await client.post(
        f"/messages/{message['message_id']}/{verdict}", {"lease": message["lease"], **options}
    )
    return reply


def lasting(messages: list[Json]) -> list[Json]:
    """The messages without what a restart may change."""
    return [{name: value for name, value in message.items() if name not in PASSING} for message in messages]


async def test_session_leases_are_given_back_at_once_and_count_no_failure(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 1})
        published = await client.publish("work", 1, 2, 3)
    worker = await socket(broker)
    await worker.call("subscribe", queue="work", lease_ms=LONG)
    await worker.receive(3)
    async with crash(broker) as client:
        again = await client.collect("work", 3, timeout=SOON)
    assert ids(again) == published
    assert [message["attempt"] for message in again] == [2, 2, 2]
    assert await worker.closed in (None, 1006)


async def test_a_fixed_lease_runs_on_and_its_old_token_acks_after_the_restart(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        (polled,) = [await client.publish("work", "by poll")]
        (by_poll,) = await client.collect("work", 1, lease_ms=LONG)
        worker = await socket(broker)
        await worker.call("subscribe", queue="work", lease_mode="fixed", lease_ms=LONG)
        pushed = await client.publish("work", "by push")
        (by_push,) = await worker.receive()
        await client.publish("other", "anything: the commit that surely holds the leases")
    async with crash(broker) as client:
        assert ids([by_poll, by_push]) == polled + pushed
        assert await client.consume("work") == []
        for leased in (by_poll, by_push):
            now = await client.get(f"/messages/{leased['message_id']}")
            assert (now["status"], now["attempt"]) == ("processing", 1)
            assert (await settle(client, "ack", leased))["status"] == "processed"
            assert (await settle(client, "ack", leased))["already_acked"] is True
    async with crash(broker) as client:
        assert (await settle(client, "ack", by_poll))["already_acked"] is True
        with pytest.raises(Refused, match="already_settled"):
            await settle(client, "nack", by_poll)
        assert await client.consume("work") == []


async def test_a_fixed_lease_that_ends_while_the_broker_is_down_is_ready_after_the_restart(
    broker: BrokerProcess,
) -> None:
    async with rest(broker) as client:
        published = await client.publish("work", 1)
        await client.collect("work", 1, lease_ms=300)
    async with crash(broker) as client:
        (again,) = await client.collect("work", 1, timeout=SOON)
        assert ([again["message_id"]], again["attempt"]) == (published, 2)


async def test_an_old_token_loses_to_a_delivery_after_the_restart(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.publish("work", 1)
    worker = await socket(broker)
    await worker.call("subscribe", queue="work")
    (old,) = await worker.receive()
    async with crash(broker) as client:
        (new,) = await client.collect("work", 1, timeout=SOON)
        assert new["lease"] != old["lease"]
        with pytest.raises(Refused, match="lease_lost"):
            await settle(client, "ack", old)
        assert (await settle(client, "ack", new))["status"] == "processed"


async def test_every_field_of_every_message_survives(broker: BrokerProcess) -> None:
    options: Json = {
        "headers": {"tenant": "blue"},
        "key": "order-7",
        "dedup_id": "d-7",
        "correlation_id": "c-7",
        "reply_to": "answers",
        "max_attempts": 9,
        "ttl_ms": LONG,
        "priority": 7,
        "delay_ms": LONG,
    }
    async with rest(broker) as client:
        await client.post("/queues", {"name": "limited", "max_attempts": 1, "dead_letter_queue": "dead"})
        await client.publish("work", {"big": 2**70, "nested": [[]]}, **options)
        await client.publish("work", "will fail")
        await client.publish("limited", "will be a dead letter")
        (failing,) = await client.collect("work", 1)
        await settle(client, "nack", failing, reason="broken")
        (dying,) = await client.collect("limited", 1)
        await settle(client, "nack", dying, requeue=True, reason="poison")
        await client.publish("work", "will be processed")
        (done,) = await client.collect("work", 1)
        await settle(client, "ack", done)
        before = {queue: await client.browse(queue) for queue in ("work", "limited", "dead")}
    async with crash(broker) as client:
        after = {queue: await client.browse(queue) for queue in ("work", "limited", "dead")}
    assert {queue: lasting(messages) for queue, messages in after.items()} == {
        queue: lasting(messages) for queue, messages in before.items()
    }
    assert sorted(message["status"] for message in after["work"]) == ["failed", "pending", "processed"]
    assert [message["dead_letter"]["reason"] for message in after["dead"]] == ["attempts"]


async def test_the_order_of_priorities_survives(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        published = {p: await client.publish("work", f"{p}a", f"{p}b", priority=p) for p in (0, 9, 4)}
    async with crash(broker) as client:
        assert ids(await client.consume("work", 10)) == published[9] + published[4] + published[0]


async def test_a_delayed_message_comes_in_its_time(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        (message_id,) = await client.publish("work", 1, delay_ms=4000)
        due = to_monotonic((await client.get(f"/messages/{message_id}"))["available_at"])
    async with crash(broker) as client:
        (message,) = await client.collect("work", 1)
        assert message["message_id"] == message_id
        assert -0.005 <= time.monotonic() - due < SOON


async def test_attempts_and_failures_go_on_where_they_were(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "max_attempts": 2})
        published = await client.publish("work", 1)
        (first,) = await client.collect("work", 1)
        await settle(client, "nack", first, requeue=True, delay_ms=0, reason="once")
    async with crash(broker) as client:
        (second,) = await client.collect("work", 1)
        assert (second["attempt"], second["error"]) == (2, "once")
        reply = await settle(client, "nack", second, requeue=True, delay_ms=0, reason="twice")
        assert reply["status"] == "failed"
    async with crash(broker) as client:
        (failed,) = await client.browse("work", status="failed")
        assert ([failed["message_id"]], failed["attempt"], failed["error"]) == (published, 2, "twice")


async def test_dead_letters_can_be_driven_home_after_a_restart(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", "dead_letter_queue": "dead"})
        published = await client.publish("work", 1, 2)
        for message in await client.collect("work", 2):
            await settle(client, "nack", message)
    async with crash(broker) as client:
        assert await client.post("/queues/work/redrive", {"from": "dead"}) == {"redriven": 2}
    async with crash(broker) as client:
        assert ids(await client.collect("work", 2)) == published
        assert await client.browse("dead") == []


async def test_dedup_records_survive(broker: BrokerProcess) -> None:
    path, draft = "/queues/work/messages", {"content": "once", "dedup_id": "d-1"}
    async with rest(broker) as client:
        first = await client.post(path, draft)
        assert first["duplicate"] is False
        (message,) = await client.collect("work", 1)
        await settle(client, "ack", message)
    async with crash(broker) as client:
        again = await client.post(path, draft)
        assert (again["message_id"], again["duplicate"]) == (first["message_id"], True)
        with pytest.raises(Refused, match="invalid"):
            await client.post(path, {**draft, "content": "something else"})
        assert await client.consume("work") == []


async def test_queues_their_configuration_and_their_pause_survive(broker: BrokerProcess) -> None:
    config: Json = {
        "lease_ms": 1234,
        "max_attempts": 3,
        "backoff": {"kind": "exponential", "base_ms": 10, "factor": 3, "max_ms": 1000, "jitter": False},
        "dead_letter_queue": "dead",
        "message_ttl_ms": 99_000_000,
        "max_messages": 77,
        "overflow": "drop_oldest",
        "retention_ms": 5_000_000,
        "dedup_window_ms": 7_000_000,
        "durability": "fsync",
    }
    async with rest(broker) as client:
        await client.post("/queues", {"name": "work", **config})
        await client.post("/queues", {"name": "changed"})
        await client.call("PATCH", "/queues/changed", {"max_attempts": 8})
        await client.post("/queues/work/pause")
        await client.post("/queues", {"name": "gone"})
        await client.call("DELETE", "/queues/gone")
        published = await client.publish("work", 1)
        before = {queue["name"]: queue for queue in (await client.get("/queues"))["items"]}
    async with crash(broker) as client:
        after = {queue["name"]: queue for queue in (await client.get("/queues"))["items"]}
        assert after.keys() == before.keys() == {"work", "changed", "dead"}
        for name in after:
            for field in ("config", "paused", "created_at", "counts"):
                assert after[name][field] == before[name][field]
        assert (after["work"]["config"], after["work"]["paused"]) == (config, True)
        assert await client.consume("work") == []
        await client.post("/queues/work/resume")
        assert ids(await client.collect("work", 1)) == published


async def test_purged_and_deleted_messages_stay_away(broker: BrokerProcess) -> None:
    async with rest(broker) as client:
        await client.publish("purged", 1, 2, 3)
        assert await client.post("/queues/purged/purge") == {"purged": 3}
        kept, deleted = await client.publish("work", "kept", "deleted")
        await client.call("DELETE", f"/messages/{deleted}")
    async with crash(broker) as client:
        assert ids(await client.consume("purged", 10)) == []
        assert ids(await client.consume("work", 10)) == [kept]


async def test_message_ids_are_never_used_again(broker: BrokerProcess) -> None:
    seen: set[str] = set()
    for _ in range(3):
        async with rest(broker) as client:
            new = await client.publish("work", *range(50))
            await client.post("/queues/work/purge")
        assert seen.isdisjoint(new)
        seen.update(new)
        broker.kill()
        broker.start()


async def test_a_token_of_before_the_crash_is_still_good(broker: BrokerProcess) -> None:
    token = broker.token()
    broker.kill()
    broker.start()
    client = Rest(broker.url, token)
    assert await client.publish("work", 1)
    await client.close()
