"""The log of requests, redelivery, and the test request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streambroker.observe.redaction import Redaction
from streambroker.store.sql.webhooks import KEPT
from tests.webhooks.receiver import Receiver, status
from tests.webhooks.world import LATER, World, broker, eventually


async def test_a_request_is_logged_with_what_came_of_it(world: World, receiver: Receiver) -> None:
    await world.config(**LATER)
    made = await world.make(receiver.url)
    receiver.answers.append(status(422, body=b"no such \xf0\x9f\x90\x8d, \x00\x1b[31mand " + b"x" * 2_000))
    number = await world.publish()
    await world.failed_once(number)
    (one,) = await world.logged(made, 1)
    assert (one["kind"], one["message_id"], one["attempt"]) == ("message", number, 1)
    assert (one["outcome"], one["status_code"], one["error"]) == ("refused", 422, None)
    assert one["response"].startswith("no such 🐍, ��[31mand xxx")
    assert len(one["response"].encode()) < 1_100
    assert 0 <= one["latency_ms"] < 10_000


async def test_the_newest_hundred_are_kept_and_come_in_pages(world: World, receiver: Receiver) -> None:
    made = await world.make(receiver.url)
    numbers = [await world.publish(n) for n in range(KEPT + 7)]
    for number in numbers:
        await world.settled(number, "processed")
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params: dict[str, Any] = {"limit": 40, **({"cursor": cursor} if cursor else {})}
        page = (await world.api.get(f"{world.path(made)}/deliveries", params=params)).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(found) == KEPT
    assert found == sorted(found, reverse=True)


async def test_the_log_is_there_after_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    async with broker(tmp_path) as world:
        made = await world.make(receiver.url)
        number = await world.publish()
        await world.settled(number, "processed")
    async with broker(tmp_path) as world:
        (one,) = await world.log(made)
        assert (one["message_id"], one["outcome"]) == (number, "delivered")


@pytest.mark.parametrize("by", ["delivery", "message"])
async def test_a_processed_message_is_sent_again_and_stays_processed(world: World, receiver: Receiver, by: str) -> None:
    made = await world.make(receiver.url)
    number = await world.publish({"a": 1})
    await world.settled(number, "processed")
    (one,) = await world.logged(made, 1)
    named = one["id"] if by == "delivery" else number
    answer = await world.api.post(f"{world.path(made)}/deliveries/{named}/redeliver")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["message_id"], told["queued"], told["delivery"]["kind"]) == (number, False, "redelivery")
    again = (await receiver.until(2))[1]
    assert again.headers["webhook-id"] == number
    assert again.verified(made["secret"])["content"] == {"a": 1}
    assert "lease" not in again.json
    assert (await world.message(number))["status"] == "processed"
    assert (await world.log(made))[0] == told["delivery"]


async def test_a_failed_message_is_made_ready_again(world: World, receiver: Receiver) -> None:
    await world.config(max_attempts=1)
    made = await world.make(receiver.url)
    receiver.answers.append(500)
    number = await world.publish()
    await world.settled(number, "failed")
    (one,) = await world.logged(made, 1)
    answer = await world.api.post(f"{world.path(made)}/deliveries/{one['id']}/redeliver")
    assert answer.json() == {"message_id": number, "queued": True, "delivery": None}
    await world.settled(number, "processed")


async def test_what_cannot_be_delivered_again_is_told(world: World, receiver: Receiver) -> None:
    await world.config(max_attempts=1)
    made = await world.make(receiver.url)
    again = f"{world.path(made)}/deliveries/{{}}/redeliver"
    for unknown in ("0" * 24, "0" * 16, "x"):
        assert (await world.api.post(again.format(unknown))).status_code == 404
    tried = (await world.api.post(f"{world.path(made)}/test")).json()
    assert (await world.api.post(again.format(tried["id"]))).status_code == 404  # it was no message
    receiver.otherwise = 500
    failed = await world.publish()
    await world.settled(failed, "failed")
    await world.change(made, disabled=True)
    assert (await world.api.post(again.format(failed))).status_code == 409
    waiting = await world.publish()
    assert (await world.api.post(again.format(waiting))).status_code == 409
    other = (await world.api.post("/queues/other/messages", json={"content": 1})).json()["message_id"]
    assert (await world.api.post(again.format(other))).status_code == 404


async def test_a_test_request_is_signed_and_no_message_and_reaches_one_that_is_disabled(
    world: World, receiver: Receiver
) -> None:
    made = await world.make(receiver.url, disabled=True)
    receiver.answers.append(status(500, body=b"not yet"))
    told = (await world.api.post(f"{world.path(made)}/test")).json()
    assert (told["kind"], told["message_id"], told["status_code"]) == ("test", None, 500)
    assert told["response"] == "not yet"
    request = await receiver.one()
    body = request.verified(made["secret"])
    assert (body["type"], body["data"]) == ("webhook.test", {"webhook_id": made["id"], "queue": "q"})
    assert "message_id" not in body
    assert request.headers["webhook-id"].startswith("test_")
    assert (await world.look(made))["status"] == "disabled"
    assert await world.log(made) == [told]


async def test_a_log_that_cannot_be_written_holds_up_nothing(world: World, receiver: Receiver) -> None:
    """The webhook is deleted while its request is under way: there is nobody left to keep the log for."""
    made = await world.make(receiver.url)
    receiver.open.clear()
    number = await world.publish()
    await receiver.one()
    await world.api.delete(world.path(made))
    receiver.open.set()
    await world.settled(number, "processed")
    other = await world.make(receiver.url)
    await world.settled(await world.publish(), "processed")
    await eventually(lambda: world.log(other), lambda seen: len(seen) == 1)


def test_secrets_of_webhooks_stand_in_no_log() -> None:
    text = Redaction().text("signing with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw+/== failed")
    assert text == "signing with whsec_*** failed"


async def test_no_answer_and_no_log_line_holds_a_secret(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    made = await world.make(receiver.url, headers={"Authorization": "hush-hush"})
    receiver.answers.append(410)
    await world.publish()
    await world.has_become(made, "disabled")
    shown = [await world.look(made), await world.log(made), (await world.api.get(world.path())).json()]
    seen = str(shown) + caplog.text
    assert made["secret"] not in seen
    assert "hush-hush" not in seen
    assert not re.search(r"whsec_\w", caplog.text)
