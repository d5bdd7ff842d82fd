"""The access log: trouble is told at once and once, the rest in sums."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, get_args

import pytest

from streambroker.config import FIELDS
from streambroker.observe import access
from streambroker.observe.access import MAX_KINDS, SAMPLE_S, AccessLog, Mode

PUBLISH = "POST", "/queues/{queue}/messages"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, access.__name__)


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines so far, each with its fields."""
    ordinary = vars(logging.makeLogRecord({})).keys() | {"message"}
    found = [
        {"event": record.getMessage(), **{k: v for k, v in vars(record).items() if k not in ordinary}}
        for record in caplog.records
    ]
    caplog.clear()
    return found


def test_its_modes_are_those_of_the_setting() -> None:
    assert get_args(get_args(FIELDS["access_log"].type)[0]) == get_args(Mode)


def test_what_goes_well_is_not_told(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("errors", clock=clock)
    for status in (200, 201, 204, 304, 404, 409, 422, 499):
        log.note(*PUBLISH, status)
    log.flush(at_end=True)
    assert told(caplog) == []


@pytest.mark.parametrize(("status", "event"), [(401, "refused"), (403, "refused"), (429, "refused"), (500, "failed")])
def test_trouble_is_told_with_who_and_which_request(
    clock: Clock, caplog: pytest.LogCaptureFixture, status: int, event: str
) -> None:
    AccessLog("errors", clock=clock).note(*PUBLISH, status, "mia", b"r-1", 1.23456)
    fields = {"route": " ".join(PUBLISH), "status": status, "user": "mia", "request_id": "r-1", "duration_ms": 1.235}
    assert told(caplog) == [{"event": f"request {event}", **fields}]


def test_of_one_kind_the_first_in_a_minute_is_told_and_the_rest_as_a_number(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog("errors", clock=clock)
    for _ in range(1_000):
        log.note(*PUBLISH, 401)
    log.note(*PUBLISH, 403)
    log.note("GET", "/stats", 401)
    assert [line["status"] for line in told(caplog)] == [401, 403, 401]
    clock.now += SAMPLE_S - 1
    log.flush()
    assert told(caplog) == []
    clock.now += 1
    log.flush()
    more = {"event": "more of the same", "route": " ".join(PUBLISH), "status": 401, "more": 999}
    assert told(caplog) == [more]
    log.note(*PUBLISH, 401)
    assert [line["event"] for line in told(caplog)] == ["request refused"]


def test_kinds_that_clients_make_up_do_not_fill_the_memory(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("errors", clock=clock)
    for number in range(2 * MAX_KINDS):
        log.note(f"M{number}", "/", 401)
    assert len(told(caplog)) == MAX_KINDS + 1
    log.flush(at_end=True)
    assert [line["more"] for line in told(caplog)] == [MAX_KINDS - 1]


def test_a_summary_counts_by_route_and_class_of_status(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    counts = [(*PUBLISH, 200, 1), (*PUBLISH, 201, 1), (*PUBLISH, 404, 1), (*PUBLISH, 204, 1), ("GET", "/stats", 200, 1)]
    log = AccessLog("summary", lambda: counts, clock=clock)
    log.flush()
    requests = {" ".join(PUBLISH): {"2xx": 3, "4xx": 1}, "GET /stats": {"2xx": 1}}
    assert told(caplog) == [{"event": "requests", "requests": requests}]
    log.flush()
    assert told(caplog) == []


def test_a_summary_tells_of_what_came_since_the_last_one(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    counts = {200: 5, 201: 1}
    log = AccessLog("summary", lambda: [(*PUBLISH, status, count) for status, count in counts.items()], clock=clock)
    log.flush()
    counts.update({200: 7, 503: 1})
    caplog.clear()
    log.flush()
    assert told(caplog) == [{"event": "requests", "requests": {" ".join(PUBLISH): {"2xx": 2, "5xx": 1}}}]


@pytest.mark.parametrize(("mode", "least"), [("all", 100), ("summary", 400), ("errors", 400)])
def test_only_what_it_tells_one_by_one_is_of_interest(mode: Mode, least: int) -> None:
    assert AccessLog(mode).hears_from == least


@pytest.mark.parametrize("mode", ["off", "errors"])
def test_without_a_summary_nothing_is_summed_up(clock: Clock, caplog: pytest.LogCaptureFixture, mode: Mode) -> None:
    AccessLog(mode, lambda: [(*PUBLISH, 200, 3)], clock=clock).flush(at_end=True)
    assert told(caplog) == []


def test_all_has_a_line_for_every_request(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("all", clock=clock)
    for status in (200, 200, 401, 401):
        log.note(*PUBLISH, status, "mia")
    assert [(line["event"], line["status"]) for line in told(caplog)] == [
        ("request", 200),
        ("request", 200),
        ("request", 401),
        ("request", 401),
    ]


def test_off_says_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("off", clock=clock)
    for status in (200, 401, 500):
        log.note(*PUBLISH, status)
    log.flush(at_end=True)
    assert told(caplog) == []


async def test_what_has_gathered_is_told_at_the_end(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("summary", lambda: [(*PUBLISH, 429, 2)], clock=clock)
    running = asyncio.create_task(log.run())
    await asyncio.sleep(0)
    log.note(*PUBLISH, 429)
    log.note(*PUBLISH, 429)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert [line["event"] for line in told(caplog)] == ["request refused", "requests", "more of the same"]
