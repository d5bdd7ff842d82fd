"""Messages are pushed, signed, settled by the answer, and tried again as the queue says."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from streambroker.transport.webhooks import circuit
from tests.webhooks.receiver import Receiver, status
from tests.webhooks.world import World, eventually

SOON = {"backoff": {"kind": "fixed", "base_ms": 10, "jitter": False}}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


async def test_a_message_is_pushed_as_it_is_delivered_elsewhere_and_acked(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    number = await world.publish({"n": 1}, headers={"a": "b"}, key="k", priority=3)
    request = await receiver.one()
    assert request.line == "POST /hook HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["webhook-id"] == number
    message = request.verified(made["secret"])
    assert (message["message_id"], message["content"], message["key"]) == (number, {"n": 1}, "k")
    assert (message["status"], message["attempt"], message["lease_expires_at"]) == ("processing", 1, None)
    done = await world.settled(number, "processed")
    assert message.keys() == {*done, "lease", "lease_expires_at"}


async def test_payload_bytes_come_out_as_they_went_in(world: World, receiver: Receiver) -> None:
    await world.make(receiver.url)
    answer = await world.api.post(
        f"/queues/{world.queue}/messages", content=b"\x00\xff", headers={"content-type": "a/b"}
    )
    assert answer.status_code == 201
    message = (await receiver.one()).json
    assert (message["content"], base64.b64decode(message["content_base64"])) == (None, b"\x00\xff")


async def test_the_signature_is_of_the_very_bytes_and_of_a_fresh_time(world: World, receiver: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    assert "secret" not in await world.make(receiver.url, secret=secret)
    await world.publish("héllo")
    request = await receiver.one()
    assert request.verified(secret)["content"] == "héllo"
    assert abs(int(request.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body + b" ", request.headers)
    with pytest.raises(WebhookVerificationError):
        request.verified("whsec_" + base64.b64encode(b"x" * 24).decode())


async def test_after_a_rotation_both_secrets_sign_for_a_while(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    changed = await world.change(made, rotate_secret=True)
    assert changed["secret"] != made["secret"]
    assert instant(changed["previous_secret_until"]) > datetime.now(UTC) + timedelta(hours=23)
    await world.publish()
    request = await receiver.one()
    assert request.verified(made["secret"]) == request.verified(changed["secret"])
    again = await world.change(made, rotate_secret=True, secret_overlap_ms=0)
    assert again["previous_secret_until"] is None
    await world.publish()
    request = (await receiver.until(2))[1]
    assert len(request.headers["webhook-signature"].split()) == 1
    request.verified(again["secret"])


async def test_headers_of_the_owner_and_the_trace_are_sent_along(world: World, receiver: Receiver) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    made = await world.make(receiver.url, headers={"Authorization": "Bearer abc"})
    assert made["headers"] == {"Authorization": "***"}
    await world.publish(traceparent=trace)
    request = await receiver.one()
    assert (request.headers["authorization"], request.headers["traceparent"]) == ("Bearer abc", trace)


async def test_what_a_publisher_wrote_for_a_trace_is_no_header(world: World, receiver: Receiver) -> None:
    await world.make(receiver.url)
    await world.publish(traceparent="a\r\nX-Evil: 1")
    assert not {"x-evil", "traceparent"} & (await receiver.one()).headers.keys()


@pytest.mark.parametrize("code", [301, 400, 404, 500, 503])
async def test_any_other_answer_is_a_failure_and_the_message_is_tried_again(
    world: World, receiver: Receiver, code: int
) -> None:
    await world.config(**SOON)
    made = await world.make(receiver.url)
    receiver.answers.append(code)
    number = await world.publish()
    first, second = await receiver.until(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == number
    assert (first.json["attempt"], second.json["attempt"]) == (1, 2)
    second.verified(made["secret"])
    assert (await world.settled(number, "processed"))["attempt"] == 2


async def test_a_failure_is_told_in_the_messages_error_and_waits_for_the_queues_backoff(
    world: World, receiver: Receiver
) -> None:
    await world.config(backoff={"kind": "fixed", "base_ms": 200_000, "jitter": False})
    await world.make(receiver.url)
    receiver.answers.append(500)
    message = await world.failed_once(await world.publish())
    assert message["error"] == "webhook: the receiver answered 500"
    assert instant(message["available_at"]) - instant(message["updated_at"]) == timedelta(seconds=200)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_the_delay(world: World, receiver: Receiver, form: str) -> None:
    await world.config(**SOON)
    await world.make(receiver.url)
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.answers.append(status(503, f"Retry-After: {3600 if form == 'seconds' else at}"))
    message = await world.failed_once(await world.publish())
    delay = instant(message["available_at"]) - instant(message["updated_at"])
    assert timedelta(minutes=59) < delay <= timedelta(hours=1)


async def test_a_receiver_that_is_overrun_gets_nothing_else_meanwhile(world: World, receiver: Receiver) -> None:
    await world.make(receiver.url, concurrency=1)
    receiver.answers.append(status(429, "Retry-After: 3600"))
    await world.failed_once(await world.publish(1))
    number = await world.publish(2)
    assert (await world.message(number))["status"] == "pending"
    assert len(receiver.seen) == 1


async def test_attempts_used_up_lead_to_the_dead_letter_queue(world: World, receiver: Receiver) -> None:
    await world.config(**SOON, max_attempts=2, dead_letter_queue="dead")
    await world.make(receiver.url)
    receiver.otherwise = 500
    number = await world.publish()
    await receiver.until(2)
    dead = await eventually(lambda: world.message(number), lambda m: m["queue"] == "dead")
    assert dead["dead_letter"]["reason"] == "attempts"
    assert dead["dead_letter"]["error"] == "webhook: the receiver answered 500"


async def test_410_disables_and_the_message_stays_without_a_failure(world: World, receiver: Receiver) -> None:
    await world.config(max_attempts=1)
    made = await world.make(receiver.url)
    receiver.answers.append(410)
    number = await world.publish()
    shown = await world.has_become(made, "disabled")
    assert (shown["disabled"], shown["reason"]) == (True, "the receiver answered 410 Gone")
    assert (await world.settled(number, "pending"))["error"] is None
    assert (await world.api.get(f"/queues/{world.queue}")).json()["consumers"] == 0
    enabled = await world.change(made, disabled=False)
    assert (enabled["status"], enabled["reason"]) == ("active", None)
    await world.settled(number, "processed")


async def test_concurrency_bounds_the_requests_at_a_time(world: World, receiver: Receiver) -> None:
    await world.make(receiver.url, concurrency=3)
    receiver.open.clear()
    for number in range(10):
        await world.publish(number)
    await receiver.until(3)
    assert (await world.api.get(f"/queues/{world.queue}")).json()["counts"]["processing"] == 3
    receiver.open.set()
    await receiver.until(10)
    assert receiver.most_waiting == 3


async def test_with_one_at_a_time_messages_come_in_the_queues_order(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url, concurrency=1, disabled=True)
    for number in range(5):
        await world.publish(number)
    await world.publish("first", priority=9)
    await world.change(made, disabled=False)
    assert [request.json["content"] for request in await receiver.until(6)] == ["first", 0, 1, 2, 3, 4]


async def test_a_message_that_was_acked_elsewhere_meanwhile_is_not_settled_again(
    world: World, receiver: Receiver
) -> None:
    made = await world.make(receiver.url)
    receiver.open.clear()
    number = await world.publish()
    lease = (await receiver.one()).json["lease"]
    assert (await world.api.post(f"/messages/{number}/ack", json={"lease": lease})).status_code == 200
    receiver.answers.append(500)
    receiver.open.set()
    await world.logged(made, 1)
    assert (await world.message(number))["status"] == "processed"


async def test_five_failures_in_a_row_slow_it_down_and_one_success_ends_that(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "FIRST_PAUSE_MS", 600_000)  # no pause ends while the test looks
    monkeypatch.setattr(circuit, "LONGEST_PAUSE_MS", 600_000)
    await world.config(**SOON, max_attempts=0)
    made = await world.make(receiver.url, concurrency=5)
    receiver.open.clear()
    numbers = [await world.publish(number) for number in range(8)]
    await receiver.until(5)
    receiver.answers.extend([500] * 5)
    receiver.open.set()
    slowed = await world.has_become(made, "slowed")
    assert slowed["reason"] == "webhook: the receiver answered 500"
    assert slowed["failing_since"] is not None
    assert len(receiver.seen) == 5  # though three more messages are ready
    tried = await world.api.post(f"{world.path(made)}/test")
    assert tried.json()["outcome"] == "delivered"
    assert (await world.look(made))["status"] == "active"
    for number in numbers:
        await world.settled(number, "processed")


async def test_failing_for_too_long_disables_it(world: World, receiver: Receiver) -> None:
    await world.config(**SOON, max_attempts=0)
    made = await world.make(receiver.url, disable_after_ms=1)
    receiver.otherwise = 500
    number = await world.publish()
    shown = await world.has_become(made, "disabled")
    assert "without a break" in shown["reason"]
    assert (await world.message(number))["status"] == "pending"
