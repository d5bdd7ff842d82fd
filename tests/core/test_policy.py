"""The configuration of a queue, and how long a retry waits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.policy import MAX_MS, Backoff, QueueConfig, QueueConfigChange, backoff_ms

STEADY = Backoff(jitter=False)
CHANCES = (0.0, 0.25, 0.5, 0.999_999)


def config(**members: Any) -> QueueConfig:
    return msgspec.convert(members, QueueConfig)


# -- what a queue is when nobody says otherwise ------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_documentation() -> None:
    assert msgspec.to_builtins(QueueConfig()) == {
        "lease_ms": 30_000,
        "max_attempts": 5,
        "backoff": {"kind": "exponential", "base_ms": 1_000, "factor": 2, "max_ms": 300_000, "jitter": True},
        "dead_letter_queue": None,
        "message_ttl_ms": 0,
        "max_messages": 0,
        "overflow": "reject",
        "retention_ms": 3_600_000,
        "dedup_window_ms": 86_400_000,
        "durability": "fsync",
    }


def test_a_configuration_comes_back_from_its_json() -> None:
    written = QueueConfig(lease_ms=7, backoff=Backoff("fixed", 3), dead_letter_queue="dead", durability="memory")
    assert msgspec.json.decode(msgspec.json.encode(written), type=QueueConfig) == written


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("lease_ms", 0),
        ("lease_ms", 7 * 86_400_000 + 1),
        ("lease_ms", "1"),
        ("lease_ms", 1.5),
        ("max_attempts", -1),
        ("max_attempts", None),
        ("backoff", {"kind": "linear"}),
        ("backoff", {"factor": 0.5}),
        ("backoff", {"factor": 101}),
        ("backoff", {"base_ms": -1}),
        ("backoff", {"jitter": 1}),
        ("backoff", {"unknown": 1}),
        ("dead_letter_queue", ""),
        ("dead_letter_queue", "no name"),
        ("message_ttl_ms", -1),
        ("message_ttl_ms", MAX_MS + 1),
        ("max_messages", -1),
        ("max_messages", 2**53 + 1),
        ("overflow", "drop"),
        ("retention_ms", True),
        ("dedup_window_ms", -1),
        ("durability", "none"),
        ("lease", 1),
    ],
)
def test_a_configuration_is_refused(member: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        config(**{member: value})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({member: value}, QueueConfigChange)


# -- changing it -------------------------------------------------------------------------------------------------------


def test_an_empty_change_changes_nothing() -> None:
    before = QueueConfig(lease_ms=7, dead_letter_queue="dead")
    assert QueueConfigChange().applied_to(before) == before


@pytest.mark.parametrize("member", QueueConfig.__struct_fields__)
def test_a_change_may_name_each_member_and_touches_no_other(member: str) -> None:
    other = QueueConfig(1, 2, Backoff("fixed"), "dead", 3, 4, "drop_oldest", 5, 6, "memory")
    value = getattr(other, member)
    change = msgspec.convert({member: msgspec.to_builtins(value)}, QueueConfigChange)
    assert change.applied_to(QueueConfig()) == msgspec.structs.replace(QueueConfig(), **{member: value})


def test_null_takes_the_dead_letter_queue_away_and_absence_does_not() -> None:
    before = QueueConfig(dead_letter_queue="dead")
    assert (
        msgspec.json.decode(b'{"dead_letter_queue":null}', type=QueueConfigChange).applied_to(before) == QueueConfig()
    )
    assert msgspec.json.decode(b"{}", type=QueueConfigChange).applied_to(before) == before


def test_a_change_knows_the_members_and_limits_of_the_configuration() -> None:
    assert QueueConfigChange.__struct_fields__ == QueueConfig.__struct_fields__


# -- backoff -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "wait"), [(1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000), (999, 300_000)]
)
def test_an_exponential_backoff_doubles_up_to_its_limit(failures: int, wait: int) -> None:
    assert backoff_ms(STEADY, failures, 0.5) == wait


@pytest.mark.parametrize("failures", [1, 2, 50])
def test_a_fixed_backoff_stays_as_it_is(failures: int) -> None:
    assert backoff_ms(Backoff("fixed", 70, jitter=False), failures, 0.5) == 70


def test_a_limit_below_the_base_is_the_wait() -> None:
    assert backoff_ms(Backoff("fixed", 70, max_ms=10, jitter=False), 1, 0.5) == 10
    assert backoff_ms(Backoff("exponential", 70, max_ms=10, jitter=False), 1, 0.5) == 10


def test_a_factor_of_one_waits_the_base_each_time() -> None:
    assert [backoff_ms(Backoff(factor=1, jitter=False), n, 0.5) for n in (1, 2, 100)] == [1_000] * 3


def test_a_base_of_zero_does_not_wait() -> None:
    assert backoff_ms(Backoff(base_ms=0), 3, 0.9) == 0


def test_the_steepest_backoff_stays_finite_after_any_number_of_failures() -> None:
    assert backoff_ms(Backoff(base_ms=MAX_MS, factor=100, max_ms=MAX_MS, jitter=False), 1_000_000, 0.5) == MAX_MS


def test_jitter_takes_the_wait_from_the_upper_half() -> None:
    assert [backoff_ms(Backoff(), 1, chance) for chance in CHANCES] == [500, 625, 750, 999]


@pytest.mark.parametrize("chance", CHANCES)
def test_without_jitter_the_dice_do_not_count(chance: float) -> None:
    assert backoff_ms(STEADY, 1, chance) == 1_000


@given(
    st.sampled_from(["exponential", "fixed"]),
    st.integers(0, MAX_MS),
    st.floats(1, 100),
    st.integers(0, MAX_MS),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_jitter_never_leaves_the_upper_half_of_the_steady_wait(
    kind: Any, base: int, factor: float, limit: int, failures: int, chance: float
) -> None:
    steady = backoff_ms(Backoff(kind, base, factor, limit, False), failures, chance)
    jittered = backoff_ms(Backoff(kind, base, factor, limit, True), failures, chance)
    assert 0 <= steady <= limit
    assert steady // 2 <= jittered <= steady
