"""How hard a receiver is pressed that fails, in milliseconds that nobody waits for."""

from __future__ import annotations

from streambroker.transport.webhooks.circuit import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, MOST_ASKED_MS, THRESHOLD, Circuit


def failing(circuit: Circuit, times: int, now: int = 0) -> None:
    for _ in range(times):
        circuit.failed(now, None, 1.0)


def told(circuit: Circuit) -> tuple[bool, int | None, int]:
    return circuit.open, circuit.failing_since, circuit.room(10, 8)


def test_a_few_failures_change_nothing() -> None:
    circuit = Circuit()
    failing(circuit, THRESHOLD - 1)
    assert (circuit.open, circuit.room(10, 0)) == (False, 10)


def test_from_the_threshold_on_there_is_one_request_after_each_pause() -> None:
    circuit = Circuit()
    failing(circuit, THRESHOLD)
    assert circuit.open
    assert circuit.room(10, 0) == 0
    assert circuit.room(10, FIRST_PAUSE_MS) == 1


def test_what_was_under_way_when_it_opened_counts_once() -> None:
    circuit = Circuit()
    failing(circuit, THRESHOLD + 40)
    assert circuit.resume_at == FIRST_PAUSE_MS


def test_pauses_double_up_to_a_minute() -> None:
    circuit, now, pauses = Circuit(), 0, []
    failing(circuit, THRESHOLD - 1)
    for _ in range(9):
        circuit.failed(now, None, 1.0)
        pauses.append(circuit.resume_at - now)
        now = circuit.resume_at
    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]
    assert pauses[-1] == LONGEST_PAUSE_MS


def test_chance_takes_away_up_to_half_of_a_pause() -> None:
    circuit = Circuit()
    failing(circuit, THRESHOLD - 1)
    circuit.failed(0, None, 0.0)
    assert circuit.resume_at == FIRST_PAUSE_MS // 2


def test_one_success_ends_the_run() -> None:
    circuit = Circuit()
    failing(circuit, THRESHOLD + 3, 7)
    assert (circuit.open, circuit.failing_since) == (True, 7)
    circuit.succeeded()
    assert told(circuit) == (False, None, 10)
    failing(circuit, THRESHOLD, 100)
    assert circuit.resume_at == 100 + FIRST_PAUSE_MS


def test_the_receivers_wish_stops_everything_for_ten_minutes_at_most() -> None:
    circuit = Circuit()
    circuit.failed(0, 5_000, 0.5)
    assert (circuit.room(10, 4_999), circuit.room(10, 5_000)) == (0, 10)
    circuit.failed(5_000, 10**9, 0.5)
    assert circuit.resume_at == 5_000 + MOST_ASKED_MS


def test_a_run_goes_on_after_a_restart_with_one_request() -> None:
    circuit = Circuit(failing_since=1_000)
    assert (circuit.open, circuit.room(10, 2_000)) == (True, 1)
    assert not circuit.given_up(2_000, 5_000)
    assert circuit.given_up(6_000, 5_000)
    assert not circuit.given_up(10**12, 0)
