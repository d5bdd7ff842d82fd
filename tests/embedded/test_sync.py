"""The broker within a program that has no event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from streambroker import SyncBroker
from streambroker.client import errors
from streambroker.client.models import Draft
from streambroker.core.errors import DataDirUnusable
from streambroker.embedded import ManualClock


@pytest.fixture
def broker() -> Iterator[SyncBroker]:
    with SyncBroker(clock=ManualClock()) as opened:
        yield opened


def test_publish_receive_ack(broker: SyncBroker) -> None:
    published = broker.publish("q", {"n": 1}, key="k")
    message = broker.receive("q")
    assert message is not None
    assert (message.message_id, message.content, message.key) == (published.message_id, {"n": 1}, "k")
    message.ack()
    assert broker.messages.get(message.message_id).status == "processed"


def test_consume_is_an_iterator(broker: SyncBroker) -> None:
    broker.publish_many("q", [Draft(content=n) for n in range(3)])
    got = []
    for message in broker.consume("q"):
        message.ack()
        got.append(message.content)
        if len(got) == 3:
            break
    assert got == [0, 1, 2]


def test_lists_are_iterators(broker: SyncBroker) -> None:
    broker.queues.create("a")
    broker.queues.create("b")
    assert [queue.name for queue in broker.queues.list()] == ["a", "b"]


def test_errors_are_those_of_the_client(broker: SyncBroker) -> None:
    with pytest.raises(errors.NotFound):
        broker.queues.get("none")
    broker.publish("q", 1)
    message = broker.receive("q", lease_ms=1_000)
    assert message is not None
    broker.advance(1)
    again = broker.receive("q")
    assert again is not None
    with pytest.raises(errors.LeaseLost):
        message.ack()


def test_a_nack_and_an_extend(broker: SyncBroker) -> None:
    broker.publish("q", 1)
    message = broker.receive("q", lease_ms=1_000)
    assert message is not None
    message.extend(60_000)
    broker.advance(59)
    message.nack(delay_ms=0, reason="later")
    again = broker.receive("q")
    assert again is not None and again.attempt == 2


def test_two_threads_may_use_it(broker: SyncBroker) -> None:
    taken: list[object] = []

    def take() -> None:
        message = broker.receive("q", wait_ms=60_000)
        taken.append(None if message is None else message.content)

    thread = threading.Thread(target=take)
    thread.start()
    broker.publish("q", "for the other")
    thread.join(30)
    assert taken == ["for the other"]


def test_it_can_be_served(broker: SyncBroker) -> None:
    with broker.serve() as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        answer = httpx.post(f"{served.url}/queues/q/messages", json={"content": 1}, headers=headers, trust_env=False)
        assert answer.status_code == 201
    message = broker.receive("q")
    assert message is not None and message.content == 1


def test_the_directory_is_free_after_the_block_also_where_the_opening_failed(tmp_path: Path) -> None:
    with SyncBroker(tmp_path), pytest.raises(DataDirUnusable):
        SyncBroker(tmp_path).open()
    with SyncBroker(tmp_path) as broker:
        broker.publish("q", 1)


def test_no_thread_is_left(broker: SyncBroker) -> None:
    before = set(threading.enumerate())
    with SyncBroker() as other:
        other.publish("q", 1)
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before


def test_a_broker_that_is_not_open_says_so() -> None:
    with pytest.raises(RuntimeError, match="with SyncBroker"):
        SyncBroker().publish("q", 1)


def test_a_broker_that_is_dropped_lets_go_of_its_data(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    broker = SyncBroker(tmp_path)
    broker.open()
    broker.publish("q", 1)
    (thread,) = (one for one in set(threading.enumerate()) - before if one.name == "streambroker client")
    del broker
    thread.join(15)
    assert not thread.is_alive()
    with SyncBroker(tmp_path) as again:
        assert again.receive("q") is not None
