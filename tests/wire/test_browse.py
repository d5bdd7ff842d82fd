"""Looking at messages without taking them (contract §4)."""

from __future__ import annotations

import pytest

from tests.wire.doors import MESSAGE_FIELDS, Messages, Queue


@pytest.fixture
def mixed(queue: Queue, messages: Messages) -> dict[str, str]:
    """One message in each status; key ``a`` or ``b``; their ids by status."""
    for n, key in enumerate(["a", "b", "a"]):
        queue.publish({"n": n}, key=key)
    processed, failed, processing = queue.take_many(3)
    messages.ack(processed)
    messages.nack(failed, reason="bad")
    return {
        "processed": processed["message_id"],
        "failed": failed["message_id"],
        "processing": processing["message_id"],
        "pending": queue.publish({"n": "needle in a haystack"}, key="b"),
    }


def ids(found: list[dict[str, str]]) -> list[str]:
    return [message["message_id"] for message in found]


def test_browsing_shows_every_message_and_leases_none(queue: Queue, mixed: dict[str, str]) -> None:
    before = queue.counts()
    for _ in range(2):
        seen = queue.browse()
        assert {message["status"]: message["message_id"] for message in seen} == mixed
        for message in seen:
            assert set(message) >= MESSAGE_FIELDS
            assert not message.get("lease")
    assert queue.counts() == before
    assert queue.take()["message_id"] == mixed["pending"]


@pytest.mark.parametrize("status", ["pending", "processing", "processed", "failed"])
def test_browsing_by_status(queue: Queue, mixed: dict[str, str], status: str) -> None:
    assert ids(queue.browse(status=status)) == [mixed[status]]


def test_browsing_by_key(queue: Queue, mixed: dict[str, str]) -> None:
    assert sorted(ids(queue.browse(key="a"))) == sorted([mixed["processed"], mixed["processing"]])
    assert ids(queue.browse(key="nobody")) == []
    assert ids(queue.browse(key="a", status="processing")) == [mixed["processing"]]


def test_browsing_by_what_the_content_contains(queue: Queue, mixed: dict[str, str]) -> None:
    assert ids(queue.browse(contains="needle")) == [mixed["pending"]]
    assert ids(queue.browse(contains="needle", status="failed")) == []
    assert ids(queue.browse(contains="no such thing")) == []


@pytest.mark.parametrize("wild", ["%", "_", "needle%haystack", "*", "n__dle", "' OR 1=1 --", "\\"])
def test_what_is_looked_for_is_no_pattern(queue: Queue, mixed: dict[str, str], wild: str) -> None:
    assert ids(queue.browse(contains=wild)) == []
    assert ids(queue.browse(key=wild)) == []


def test_a_filtered_list_has_pages_too(queue: Queue) -> None:
    wanted = []
    for n in range(12):
        message_id = queue.publish({"word": "odd" if n % 2 else "even"}, key=str(n % 2))
        wanted += [message_id] if n % 2 else []
    for filters in ({"key": "1"}, {"contains": "odd"}):
        seen: list[str] = []
        params: dict[str, str] = {"limit": "4", **filters}
        while True:
            page = queue.api.get(queue.path + "/messages", params=params).json()
            seen += ids(page["items"])
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert seen == wanted


def test_a_message_looked_at_alone_shows_no_lease(queue: Queue, messages: Messages) -> None:
    queue.publish()
    held = queue.take()
    seen = messages.get(held["message_id"])
    assert seen["status"] == "processing"
    assert not seen.get("lease")
    assert {field: held[field] for field in MESSAGE_FIELDS} == {field: seen[field] for field in MESSAGE_FIELDS}
