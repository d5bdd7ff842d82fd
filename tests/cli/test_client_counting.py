"""How ``consume`` ends: what it fetched beyond what was wanted, and what it gives back."""

from __future__ import annotations

import httpx
import pytest

from tests.cli.ops import Command, Started, browsed, counts, every, message_id, published


def test_what_is_given_back_counts_no_failure(start: Started, api: httpx.Client, queue: str) -> None:
    api.post("/queues", json={"name": queue, "max_attempts": 1}).raise_for_status()
    published(api, queue, *range(5))
    process = start("consume", queue, "--ack", "manual", "--credit", 5, "--wait", 0)
    process.communicate(b"a\nq\n", timeout=30)
    process = start("consume", queue, "--wait", "1h")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()  # as `head -1` does
    published(api, queue, *range(5))
    assert process.wait(30) == 0
    assert counts(api, queue)["failed"] == 0


@pytest.mark.parametrize("options", [["--exec", "cat >&2"], ["--exec", "cat >&2", "--concurrency", 2], []])
def test_wait_zero_comes_to_an_end_when_all_that_is_there_is_done(
    run: Command, api: httpx.Client, queue: str, options: list[object]
) -> None:
    published(api, queue, *range(7))
    assert "7 messages" in run("consume", queue, *options, "--wait", 0).err
    assert counts(api, queue)["processed"] == 7
    assert "0 messages" in run("consume", queue, *options, "--wait", 0).err


@pytest.mark.parametrize("count", [1, 2, 7, 250])
def test_no_message_beyond_the_count_is_fetched_to_be_printed(
    run: Command, api: httpx.Client, queue: str, count: int
) -> None:
    ids = published(api, queue, *range(count + 100))
    ended = run("consume", queue, "--count", count)
    assert ended.out.split() == [str(number) for number in range(count)]
    found = every(api, queue, "processed") + every(api, queue, "pending")
    delivered = {one["message_id"] for one in found if one["attempt"]}
    assert delivered == set(ids[:count])


def test_no_message_beyond_the_count_is_fetched_by_hand(start: Started, api: httpx.Client, queue: str) -> None:
    published(api, queue, *range(4))
    process = start("consume", queue, "--ack", "manual", "--count", 2)
    process.communicate(b"a\na\n", timeout=30)
    assert process.returncode == 0
    assert [one["attempt"] for one in sorted(browsed(api, queue), key=message_id)] == [1, 1, 0, 0]


def test_no_message_beyond_the_count_is_fetched_for_commands(run: Command, api: httpx.Client, queue: str) -> None:
    published(api, queue, *range(8))
    ended = run("consume", queue, "--exec", "true", "--concurrency", 3, "--count", 5)
    assert ended.code == 0 and "5 messages" in ended.err
    assert [one["attempt"] for one in sorted(browsed(api, queue), key=message_id)] == [1, 1, 1, 1, 1, 0, 0, 0]
