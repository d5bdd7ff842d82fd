"""Rates over a minute, from samples."""

from __future__ import annotations

from streambroker.broker.rates import SAMPLE_MS, WINDOW_MS, Meter, Rates

START = 1_700_000_000_000


def test_a_new_meter_measures_from_its_beginning_and_never_over_less_than_a_second() -> None:
    meter = Meter(START)
    assert meter.rates(START) == Rates(0, 0, 0)
    meter.published, meter.delivered, meter.settled = 10, 4, 2
    assert meter.rates(START) == meter.rates(START + 1_000) == Rates(10, 4, 2)
    assert meter.rates(START + 4_000) == Rates(2.5, 1, 0.5)


def test_a_steady_stream_has_its_rate() -> None:
    meter = Meter(START)
    for now in range(START + SAMPLE_MS, START + 5 * WINDOW_MS, SAMPLE_MS):
        meter.published += 7 * SAMPLE_MS // 1_000
        meter.sample(now)
        assert meter.rates(now).published == 7


def test_what_is_older_than_a_minute_does_not_count() -> None:
    meter = Meter(START)
    meter.settled = 600
    meter.sample(START + SAMPLE_MS)
    assert meter.rates(START + SAMPLE_MS).settled == 120
    now = START + SAMPLE_MS
    while now < START + SAMPLE_MS + WINDOW_MS:
        now += SAMPLE_MS
        meter.sample(now)
    assert meter.rates(now).settled == 0


def test_a_rate_is_over_a_minute_at_most_and_nearly_a_minute_at_least() -> None:
    meter = Meter(START)
    for n in range(1, 100):
        meter.sample(START + n * SAMPLE_MS)
    meter.delivered = 55
    assert meter.rates(START + 99 * SAMPLE_MS).delivered == 1


def test_a_clock_that_stands_still_is_no_division_by_zero() -> None:
    meter = Meter(START)
    for _ in range(50):
        meter.published += 1
        meter.sample(START)
    assert meter.rates(START).published <= 50
