"""Clients that take their time, against a real broker with its real deadlines; others are served meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.front.conftest import NO_LIMITS, resident_kib
from tests.front.raw import Raw, authorization, frame, handshake, request
from tests.harness import BrokerProcess
from tests.system.conftest import StartBroker, start_broker  # noqa: F401

HEAD_S, UNREAD_S, KERNEL_S = 10, 10, 21
LATE_S = 20
"""What a busy machine may add."""


def timed(raw: Raw, began: float) -> tuple[float, bytes]:
    """Seconds from then until the broker closes the connection, and what it said."""
    said = raw.gone()
    return time.monotonic() - began, said


def together(*waits: Callable[[], Any]) -> list[Any]:
    """Do all at the same time; what each returns."""
    results: list[Any] = [None] * len(waits)

    def run(index: int, wait: Callable[[], Any]) -> None:
        results[index] = wait()

    threads = [threading.Thread(target=run, args=(index, wait), daemon=True) for index, wait in enumerate(waits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def trickle(raw: Raw, began: float) -> tuple[float, bytes]:
    """The same, of a connection on which a byte is sent each second."""
    raw.socket.settimeout(1)
    while True:
        try:
            raw._more()
        except TimeoutError:
            raw.send(b"x")
        except Exception:
            return time.monotonic() - began, raw._came


def test_silence_and_half_heads_are_closed_after_ten_seconds_and_a_long_poll_is_not(unharmed: BrokerProcess) -> None:
    broker = unharmed
    start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    began = time.monotonic()
    silent, half, slow = Raw(broker, 40), Raw(broker, 40), Raw(broker, 40)
    half.send(start)
    slow.send(start)
    poll = Raw(broker, 40)
    poll.send(request(broker, "GET", "/queues/slow/messages/consume?wait_ms=13000"))
    idle = Raw(broker, 40)
    idle.send(request(broker, "GET", "/users/me"))  # who is not recognized is not idle for so long
    assert idle.answer().status == 200
    results = together(
        lambda: timed(silent, began), lambda: timed(half, began), lambda: trickle(slow, began), poll.answer
    )
    for took, said in results[:3]:
        assert HEAD_S - 1 <= took <= HEAD_S + LATE_S
        assert said == b"" or said.startswith(b"HTTP/1.1 408 ")
    assert results[1][1].startswith(b"HTTP/1.1 408 ")
    assert (results[3].status, results[3].body) == (200, b"null")
    idle.send(request(broker, "GET", "/readyz"))
    assert idle.answer().status == 200


def test_a_client_that_does_not_read_what_it_asked_for_is_cut_off_and_costs_little(start_broker: StartBroker) -> None:  # noqa: F811
    broker = start_broker(env=NO_LIMITS)
    content = '{"content":"%s"}' % ("x" * 900_000)
    with broker.client() as client:
        for _ in range(8):
            assert client.post("/queues/big/messages", content=content).status_code == 201
    before = resident_kib(broker)
    browse = request(broker, "GET", "/queues/big/messages?limit=8")
    stuck = [Raw(broker, 60, receive_buffer=4_096) for _ in range(5)]
    for raw in stuck:
        raw.send(browse * 20)
    highest, deadline = before, time.monotonic() + KERNEL_S + LATE_S
    with broker.client() as client:
        while client.get("/stats").status_code == 200 and still_open(broker) > 1:
            assert time.monotonic() < deadline, "they are still open"
            highest = max(highest, resident_kib(broker))
            time.sleep(0.1)
    assert highest - before < 256 * 1024  # two answers of 7 MB for each, and what it takes to make them
    for raw in stuck:
        raw.socket.close()


def still_open(broker: BrokerProcess) -> int:
    """The connections that the broker has open, counted by the system."""
    port = int(broker.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(1 for row in rows if int(row[1].split(":")[1], 16) == port and row[3] == "01")


def test_websockets_that_answer_no_ping_and_read_nothing_are_gone_in_two_heartbeats_and_ten_seconds(
    unharmed: BrokerProcess,
) -> None:
    broker = unharmed
    asking = frame(b"[" + b",".join([b'{"op":"ping"}'] * 500) + b"]")
    with broker.client() as client:
        before = client.get("/stats").json()["connections"]["websocket"]
        stuck = [Raw(broker, 60, receive_buffer=4_096) for _ in range(5)]
        for raw in stuck:
            raw.send(handshake(broker))
            raw.send(b"")
            assert raw.answer().status == 101
            raw.send(asking * 5)
        deadline = time.monotonic() + 20 + KERNEL_S + LATE_S
        while client.get("/stats").json()["connections"]["websocket"] > before:
            assert time.monotonic() < deadline, "they are still there"
            time.sleep(0.2)
        for raw in stuck:
            raw.socket.close()


def test_a_hundred_hung_clients_do_not_keep_others_from_publishing(unharmed: BrokerProcess) -> None:
    broker = unharmed
    head = b"POST /queues/x/messages HTTP/1.1\r\nHost: localhost\r\n" + authorization(broker) + b"\r\n"
    hung = [Raw(broker) for _ in range(100)]
    for number, raw in enumerate(hung):
        raw.send((b"", head, head + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")[number % 3])
    with broker.client() as client:
        for number in range(200):
            assert client.post("/queues/served/messages", json={"content": number}).status_code == 201
    for raw in hung:
        raw.socket.close()
