"""Streams of events from a real broker, read by a client that others wrote (httpx-sse), and raw."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from tests.front.raw import Closed, Raw
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Messages, Queue, eventually
from tests.wire.people import Person, client_of, grant, somebody
from tests.wire.problems import check_refusal

pytestmark = pytest.mark.system

ENDS_WITHIN_S = 5


class Watch:
    """One stream that is open. Every read has an end; `last_id` is what a browser would send when it comes back."""

    def __init__(self, events: Iterator[ServerSentEvent], response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self._events = events

    def next(self) -> ServerSentEvent:
        """The next event that has data."""
        while True:
            event = next(self._events)
            self.last_id = event.id
            if event.data:
                return event

    def take(self, count: int) -> list[tuple[str, str]]:
        """Kind and message of the next events."""
        found = [self.next() for _ in range(count)]
        return [(event.event, json.loads(event.data)["message_id"]) for event in found]

    def begun(self) -> Watch:
        """Once the stream has begun: what happens from now on is told."""
        self.last_id = next(self._events).id
        return self


@contextlib.contextmanager
def watch(client: httpx.Client, queue: str, last_id: str = "", **params: Any) -> Iterator[Watch]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    timeout = httpx.Timeout(40)
    path = f"/queues/{queue}/events"
    with connect_sse(client, "GET", path, params=params, headers=headers, timeout=timeout) as source:
        source.response.raise_for_status()
        yield Watch(source.iter_sse(), source.response)


def test_the_life_of_messages_as_it_happens(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    with watch(api, queue.name) as stream:
        stream.begun()
        first = queue.publish(1)
        second = queue.publish(2)
        messages.ack(queue.take())
        messages.nack(queue.take(), requeue=True, delay_ms=0)
        messages.nack(queue.take(), reason="no good")
        told = [stream.next() for _ in range(5)]
    assert [(event.event, json.loads(event.data)["message_id"]) for event in told] == [
        ("new_message", first),
        ("new_message", second),
        ("message_processed", first),
        ("message_requeued", second),
        ("message_failed", second),
    ]
    last = json.loads(told[-1].data)
    assert {name: last[name] for name in ("queue", "status", "attempt")} == {
        "queue": queue.name,
        "status": "failed",
        "attempt": 2,
    }
    assert set(last) == {"message_id", "queue", "status", "attempt", "at"}
    assert len({event.id for event in told}) == 5


def test_dead_letters_tell_at_which_attempt_they_failed(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    rejected = Queue(api, f"{queue.name}-rejected", max_attempts=5, dead_letter_queue=queue.name)
    expired = Queue(api, f"{queue.name}-expired", max_attempts=1, lease_ms=1_000, dead_letter_queue=queue.name)
    only = {"events": "message_failed"}
    with watch(api, rejected.name, **only) as one, watch(api, expired.name, **only) as other:
        one.begun(), other.begun()
        rejected.publish(1), expired.publish(2)
        messages.nack(rejected.take(), requeue=True, delay_ms=0)
        messages.nack(rejected.take())
        expired.take()
        assert [json.loads(stream.next().data)["attempt"] for stream in (one, other)] == [2, 1]


def test_a_stream_that_is_cut_again_and_again_loses_nothing_and_tells_nothing_twice(
    api: httpx.Client, queue: Queue
) -> None:
    with watch(api, queue.name) as stream:
        last_id = stream.begun().last_id
    published: list[str] = []
    told: list[str] = []
    for cut in range(1, 8):
        published += queue.publish_many(*range(5))
        with watch(api, queue.name, last_id) as stream:
            published += queue.publish_many(*range(3))
            told += [message_id for _, message_id in stream.take(cut)]  # the rest was sent, and is never read
            last_id = stream.last_id
    with watch(api, queue.name, last_id) as stream:
        told += [message_id for _, message_id in stream.take(len(published) - len(told))]
        published.append(queue.publish("the end"))
        told += [message_id for _, message_id in stream.take(1)]
    assert told == published


def test_a_restart_is_a_gap(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data")
    with broker:
        with broker.client() as api:
            queue = Queue(api, "q", lease_ms=30_000)
            with watch(api, "q") as stream:
                stream.begun()
                queue.publish(1)
                stream.take(1)
                last_id = stream.last_id
            queue.publish(2)
        broker.kill()
        broker.start()
        with broker.client() as api, watch(api, "q", last_id) as stream:
            gap = stream.next()
            assert (gap.event, json.loads(gap.data)["lost"]) == ("gap", None)
            third = Queue(api, "q").publish(3)
            assert stream.take(1) == [("new_message", third)]


def test_a_stop_ends_the_stream_and_does_not_wait_for_who_watches(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker, broker.client() as api:
        Queue(api, "q", lease_ms=30_000)
        with watch(api, "q") as stream:
            stream.begun()
            stopped = threading.Thread(target=broker.terminate, kwargs={"timeout": 60})
            stopped.start()
            end = stream.next()
            assert (end.event, json.loads(end.data)["reason"]) == ("end", "draining")
            with pytest.raises(StopIteration):
                stream.next()
            stopped.join()
        assert broker.process is not None and broker.process.returncode == 0


# -- who may -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mia(api: httpx.Client) -> Iterator[Person]:
    with somebody(api, grants=[grant("q-*", "view")]) as person:
        yield person


def log_out(person: Person) -> httpx.Response:
    return person.client.post("/logout")


def disable(person: Person) -> httpx.Response:
    return person.change(disabled=True)


def take_away(person: Person) -> httpx.Response:
    return person.change(grants=[grant("q-*", "consume")])


@pytest.mark.parametrize(
    ("end", "reason"), [(log_out, "unauthenticated"), (disable, "unauthenticated"), (take_away, "forbidden")]
)
def test_d6_a_stream_ends_with_the_right_to_it(mia: Person, queue: Queue, end: Any, reason: str) -> None:
    with watch(client_of(mia.client, mia.pair["access_token"]), queue.name) as stream:
        stream.begun()
        assert end(mia).is_success
        queue.publish("not for mia any more")
        last = stream.next()
        assert (last.event, json.loads(last.data)["reason"]) == ("end", reason)
        assert last.id == stream.last_id


def test_d6_a_stream_ends_with_its_key(mia: Person, queue: Queue) -> None:
    key = mia.key()
    with watch(client_of(mia.client, key["key"]), queue.name) as stream:
        stream.begun()
        assert mia.client.delete(f"/api-keys/{key['id']}").status_code == 204
        assert stream.next().event == "end"


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
def test_a_token_in_the_url_is_refused(api: httpx.Client, queue: Queue, name: str) -> None:
    check_refusal(api.get(f"{queue.path}/events", params={name: "x"}), "malformed")


def test_a_queue_that_is_not_there_is_404_and_is_not_made(api: httpx.Client) -> None:
    check_refusal(api.get("/queues/nobody-made-it/events"), "not_found")
    assert api.get("/queues/nobody-made-it").status_code == 404


def test_a_bad_query_is_named(api: httpx.Client, queue: Queue) -> None:
    refused = check_refusal(api.get(f"{queue.path}/events", params={"events": "message_delivered"}), "invalid")
    assert refused["errors"][0]["pointer"] == "/events"
    assert "message_failed" in refused["errors"][0]["detail"]


# -- HTTP --------------------------------------------------------------------------------------------------------------


def test_head_answers_with_the_head_and_holds_nothing_open(api: httpx.Client, queue: Queue) -> None:
    answer = api.head(f"{queue.path}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    assert "content-length" not in answer.headers
    assert api.head("/queues/nobody-made-it/events").status_code == 404


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
def test_whatever_is_accepted_a_stream_comes_as_it_is(api: httpx.Client, queue: Queue, accept: str) -> None:
    headers = {"Accept": accept, "Accept-Encoding": "gzip, br"}
    with api.stream("GET", f"{queue.path}/events", headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-encoding" not in answer.headers


def test_a_stream_is_counted_while_it_is_open(api: httpx.Client, queue: Queue) -> None:
    def counted() -> tuple[int, bool]:
        stats = api.get("/stats").json()["connections"]["sse"]
        return stats, f'streambroker_connections{{kind="sse"}} {stats}\n' in api.get("/metrics").text

    with watch(api, queue.name) as stream, watch(api, queue.name) as other:
        stream.begun(), other.begun()
        assert eventually(counted, lambda seen: seen == (2, True))  # those of other tests have ended
    assert eventually(counted, lambda seen: seen == (0, True))


def test_a_page_of_another_site_may_send_the_last_event_id(tmp_path: Path) -> None:
    env = {**NO_LIMITS, "STREAMBROKER_ALLOWED_ORIGINS": "https://page.example"}
    with BrokerProcess(tmp_path / "data", env=env) as broker:
        preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
        answer = httpx.options(f"{broker.url}/queues/q/events", headers=preflight)
    assert "last-event-id" in answer.headers["access-control-allow-headers"]


def test_a_second_request_behind_a_stream_waits_and_the_stream_goes_on(broker: BrokerProcess, queue: Queue) -> None:
    raw = Raw(broker)
    raw.send(request(broker, f"{queue.path}/events") + request(broker, "/healthz"))
    assert raw.answer().status == 200
    until(raw, b"retry: 2000")
    published = queue.publish(1)
    until(raw, published.encode())
    raw.socket.close()


def request(broker: BrokerProcess, path: str) -> bytes:
    """A GET of the admin."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {broker.token()}\r\n\r\n".encode()


def until(raw: Raw, text: bytes) -> None:
    """Read until that text has come."""
    while text not in raw._came:
        raw._more()


# -- a slow reader -----------------------------------------------------------------------------------------------------


def test_a_client_that_reads_nothing_is_cut_off_and_others_are_served(broker: BrokerProcess, api: httpx.Client) -> None:
    queue = Queue(api, "x" * 120, lease_ms=30_000)
    raw = Raw(broker, receive_buffer=4_096)
    raw.send(request(broker, f"{queue.path}/events"))
    assert raw.answer().status == 200

    def streams() -> int:
        count: int = api.get("/stats").json()["connections"]["sse"]
        return count

    with watch(api, queue.name) as other:
        other.begun()
        eventually(streams, lambda seen: seen == 2)  # those of other tests have ended
        for _ in range(40):
            published = queue.publish_many(*[0] * 1_000)
            assert [message_id for _, message_id in other.take(1_000)] == published
        eventually(streams, lambda seen: seen == 1)
    with pytest.raises(Closed):
        until(raw, b"a stream has no end but this")
