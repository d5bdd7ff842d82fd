"""What may name a queue, and how ids are made, written and read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambroker.core.names import IdSequence, QueueName, format_id, is_queue_name, parse_id

GOOD = ["a", "0", "A", "orders", "orders.eu-west_1", "x" * 128, "a..", "9-"]
BAD = ["", ".", "-a", "_a", "a b", "a/b", "a\n", "\na", "a\x00", "é", "a٣", "x" * 129, "*", "a?", "ａ"]
LARGEST = 2**63 - 1


@pytest.mark.parametrize("name", GOOD)
def test_a_queue_may_be_called(name: str) -> None:
    assert is_queue_name(name)
    assert msgspec.convert(name, QueueName) == name


@pytest.mark.parametrize("name", BAD)
def test_a_queue_may_not_be_called(name: str) -> None:
    assert not is_queue_name(name)


@pytest.mark.parametrize("name", [name for name in BAD if not name.endswith("\n")])
def test_the_type_of_a_queue_name_refuses_what_the_function_refuses(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, QueueName)


@given(st.integers(0, LARGEST))
def test_an_id_is_read_back_as_it_was_written(number: int) -> None:
    assert parse_id(format_id(number)) == number


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_ids_sort_as_text_as_they_do_as_numbers(one: int, other: int) -> None:
    assert (format_id(one) < format_id(other)) is (one < other)


@pytest.mark.parametrize(
    "text", ["", "0", "0" * 15, "0" * 17, "G" * 16, "A" * 16, " " + "0" * 15, "0" * 16 + "\n", "٣" * 16, "-" + "0" * 15]
)
def test_a_text_that_is_no_id(text: str) -> None:
    assert parse_id(text) is None


@pytest.mark.parametrize("text", ["8" + "0" * 15, "f" * 16])
def test_a_number_that_no_store_could_hold_is_no_id(text: str) -> None:
    assert parse_id(text) is None


def test_the_largest_number_that_a_store_holds_is_an_id() -> None:
    assert parse_id("7" + "f" * 15) == LARGEST


def test_ids_of_one_take_follow_each_other() -> None:
    assert list(IdSequence().take(3, 1)) == [1 << 21, (1 << 21) + 1, (1 << 21) + 2]


def test_a_later_millisecond_starts_a_higher_block_of_ids() -> None:
    sequence = IdSequence()
    assert sequence.take(1, 1)[-1] < sequence.take(1, 2)[0]


def test_ids_go_on_from_the_newest_one_that_is_stored() -> None:
    assert IdSequence(last=LARGEST - 10).take(1, 1)[0] == LARGEST - 9


def test_more_ids_than_a_millisecond_has_flow_into_the_next_one() -> None:
    sequence = IdSequence()
    first = sequence.take(1 << 22, 1)
    assert sequence.take(1, 2)[0] == first[-1] + 1


def test_an_id_of_the_year_2100_fits_a_signed_64_bit_key() -> None:
    assert IdSequence().take(1_000, 4_102_444_800_000)[-1] <= LARGEST


@given(st.lists(st.tuples(st.integers(1, 1_000), st.integers(0, 2**41)), max_size=20), st.integers(0, 2**62))
def test_ids_only_grow_whatever_the_clock_does(takes: list[tuple[int, int]], last: int) -> None:
    sequence = IdSequence(last)
    for count, now in takes:
        ids = sequence.take(count, now)
        assert len(ids) == count
        assert ids[0] > last
        last = ids[-1]
