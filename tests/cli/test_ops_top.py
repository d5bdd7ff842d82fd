"""``streambroker top``: what it shows, and that it can be left."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from rich.console import Console

from streambroker import SyncBroker
from streambroker.cli.top import ORDERS, Snapshot, View, screen, short
from streambroker.client.models import Counts, Queue, QueueConfig, Rates, Stats
from streambroker.embedded import Served
from tests.cli.ops import Command

NOW = datetime(2026, 11, 22, tzinfo=UTC)
URL = "http://broker.example:8000"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


@pytest.fixture
def served() -> Iterator[Served]:
    with SyncBroker() as broker, broker.serve() as listening:
        broker.publish("orders", 1)
        broker.publish("bills", 1)
        broker.publish("bills", 2)
        yield listening


def queue(name: str, pending: int = 0, consumers: int = 0, published: float = 0.0) -> Queue:
    rates = Rates(published=published)
    return Queue(name, NOW, False, QueueConfig(), Counts(pending=pending), rates, None, consumers)


def shown(view: View, width: int = 80, height: int = 24) -> list[str]:
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as captured:
        console.print(screen(view, URL, width, height))
    return captured.get().splitlines()


def view_of(*queues: Queue) -> View:
    return View(snapshot=Snapshot(Stats(uptime_seconds=7_200), queues, 5 * 2**30, 2**20))


@pytest.mark.parametrize("size", [(80, 24), (60, 10), (200, 60)])
def test_it_fits_the_screen_however_many_queues_there_are(size: tuple[int, int]) -> None:
    width, height = size
    view = view_of(*(queue(f"a-queue-with-quite-a-long-name-{n:04d}" * 2, 10**7) for n in range(500)))
    lines = shown(view, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert f"of {len(view.snapshot.queues if view.snapshot else ())}" in "\n".join(lines)


def test_the_figures_of_a_busy_broker_fit_80_columns() -> None:
    stats = Stats(uptime_seconds=7_200, pending=99_999, processing=1_000, failed=1_000)
    busy = Snapshot(stats, [queue("a", 99_999, published=999.9)], 500 * 2**30, 64 * 2**20)
    assert not [line for line in shown(View(snapshot=busy)) if line.endswith("…")]


def test_queues_stand_in_the_order_that_was_asked_for() -> None:
    view = view_of(queue("a", 1, published=9), queue("b", 3), queue("c", 2, consumers=5))
    orders = {}
    for name, _, _ in ORDERS:
        orders[name] = [one.name for one in view.sorted_queues()]
        view.pressed("s")
    assert orders["ready"] == ["b", "c", "a"]
    assert orders["in/s"][0] == "a"
    assert orders["consumers"][0] == "c"
    assert orders["name"] == ["a", "b", "c"]
    assert view.order == 0
    view.pressed("r")
    assert [one.name for one in view.sorted_queues()] == ["a", "c", "b"]


def test_it_scrolls_no_further_than_there_is_something() -> None:
    view = view_of(*(queue(f"q{n:02d}", 100 - n) for n in range(30)))
    for _ in range(100):
        view.pressed("\x1b[B")
    text = "\n".join(shown(view))
    assert "q29" in text and "q00" not in text
    for _ in range(100):
        view.pressed("k")
    assert "q00" in "\n".join(shown(view))


def test_a_broker_that_went_away_leaves_the_last_figures_and_says_so() -> None:
    view = view_of(queue("orders", 7))
    view.trouble = "connection refused"
    text = "\n".join(shown(view))
    assert "orders" in text and "connection refused" in text


def test_what_keeps_the_broker_from_taking_messages_stands_above_the_queues() -> None:
    view = View(snapshot=Snapshot(Stats(), [queue(f"q{n}") for n in range(50)], notices=["the disk is full"]))
    lines = shown(view)
    assert "the disk is full" in lines
    assert len(lines) <= 24


def test_a_queue_that_is_polled_is_not_shown_as_if_nobody_came() -> None:
    polled = Queue("polled", NOW, False, QueueConfig(), Counts(pending=5), Rates(delivered=1), None, 0)
    console = Console(width=80, height=24, color_system="standard", force_terminal=True)
    with console.capture() as captured:
        console.print(screen(view_of(polled, queue("left", 5)), URL, 80, 24))
    of = {name: next(row for row in captured.get().splitlines() if name in row) for name in ("polled", "left")}
    assert "\x1b[31m" in of["left"] and "\x1b[31m" not in of["polled"]


def test_names_cannot_play_with_the_terminal() -> None:
    assert "\x1b" not in "\n".join(shown(view_of(queue("\x1b[2Jevil", 1))))


def test_large_counts_stay_short() -> None:
    assert [short(n) for n in (0, 99_999, 123_456, 4_600_000)] == ["0", "99999", "123k", "4.6M"]


def test_one_look_is_a_table_or_a_document(command: Command, served: Served) -> None:
    ended = command("top", "--once", "--url", served.url, "--token", served.token)
    assert ended.code == 0
    rows = [line.split("\t")[:2] for line in ended.out.splitlines()]
    assert rows == [["QUEUE", "READY"], ["bills", "2"], ["orders", "1"]]
    document = command("top", "--json", "--sort", "name", "--url", served.url, "--token", served.token).document
    assert [one["name"] for one in document["queues"]] == ["bills", "orders"]
    assert document["stats"]["pending"] == 3
    assert document["free_bytes"] > 0


def test_without_a_terminal_it_says_what_to_do(command: Command, served: Served) -> None:
    ended = command("top", "--url", served.url, "--token", served.token)
    assert ended.code == 64
    assert "--once" in ended.err
    assert command("top", "--once", "--sort", "colour", "--url", served.url, "--token", served.token).code == 64


@pytest.mark.system
@pytest.mark.parametrize("leave", [b"q", b"\x03"], ids=["q", "ctrl-c"])
def test_on_a_terminal_it_shows_the_queues_and_is_left_by_a_key(served: Served, leave: bytes) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    env = {**os.environ, "STREAMBROKER_TOKEN": served.token, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    argv = [sys.executable, "-m", "streambroker", "top", "--url", served.url]
    with closing(os.fdopen(ours, "rb+", buffering=0)) as terminal:
        process = subprocess.Popen(
            argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        try:
            seen = read_until(terminal.fileno(), b"sorted by ready")
            assert b"bills" in seen and b"orders" in seen
            terminal.write(leave)
            # What it still writes has to be read, else it could not end.
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                if select.select([terminal], [], [], 0.1)[0]:
                    os.read(terminal.fileno(), 65_536)
            assert process.poll() == 0
            assert termios.tcgetattr(theirs)[3] == before[3]  # echo and line editing as before
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(theirs)


def read_until(descriptor: int, words: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while words not in seen and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.5)[0]:
            seen += os.read(descriptor, 65_536)
    assert words in seen, seen
    return seen
