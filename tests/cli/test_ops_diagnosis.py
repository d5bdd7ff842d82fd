"""The rules of ``streambroker doctor``, over made-up figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streambroker.cli.diagnosis import MIB, Finding, NodeLook, QueueLook, fixed_wal_reset, of_node, of_queue
from streambroker.cli.directory import file_system
from streambroker.cli.doctor import node_look
from streambroker.client.models import Consumer, Counts, DeadLetter, MessageInfo, Queue, QueueConfig, Rates

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def queue(name: str = "q", **members: Any) -> Queue:
    config = QueueConfig(**members.pop("config", {}))
    counts, rates = Counts(**members.pop("counts", {})), Rates(**members.pop("rates", {}))
    return Queue(name, NOW, members.pop("paused", False), config, counts, rates, **members)


def consumer(**members: Any) -> Consumer:
    return Consumer("c1", "websocket", "worker", "q", "q", **members)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


WAITS = {"pending": 10}


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (QueueLook(queue(paused=True, counts=WAITS)), "paused, while 10 messages are waiting"),
        (QueueLook(queue(counts=WAITS, oldest_pending_age_ms=90_000)), "nobody consumes them"),
        (QueueLook(queue(counts=WAITS, consumers=1), [consumer(credit=5, paused=True)]), "paused themselves"),
        (QueueLook(queue(counts=WAITS, consumers=1), [consumer(credit=5, in_flight=5)]), "as its credit allows"),
        (QueueLook(queue(counts=WAITS, consumers=1), [consumer(credit=5)]), "nothing was delivered for a minute"),
        (
            QueueLook(
                queue(
                    counts={"pending": 5_000},
                    consumers=1,
                    rates={"published": 100, "delivered": 50, "settled": 50},
                    oldest_pending_age_ms=120_000,
                )
            ),
            "it grows",
        ),
        (
            QueueLook(
                queue(counts={"processing": 1}, consumers=1, rates={"settled": 1}),
                waiting=[MessageInfo("m1", "q", "processing", attempt=7, error="boom")],
            ),
            "message m1 was delivered 7 times",
        ),
        (
            QueueLook(queue(counts={"failed": 3}), failed=[MessageInfo("m1", "q", "failed", error="boom")]),
            "everything in it failed (3); one of the errors: boom",
        ),
        (
            QueueLook(queue(counts={"failed": 3}), failed=[MessageInfo("m1", "q", "failed", error="boom\n" * 1_000)]),
            "one of the errors: " + "boom " * 39 + "boom…",
        ),
        (QueueLook(queue(config={"dead_letter_queue": "dead"})), "dead-letter queue dead does not exist"),
        (
            QueueLook(queue(config={"dead_letter_queue": "dead"}), letters=queue("dead", counts={"pending": 4})),
            "in dead 4 dead letters are waiting",
        ),
        (
            QueueLook(queue(config={"max_messages": 10}, counts={"processing": 9}, consumers=1, rates={"settled": 1})),
            "9 of the 10 messages",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_of_a_queue_is_told(look: QueueLook, words: str) -> None:
    found = only(list(of_queue(look)))
    assert found.severity == "problem"
    assert words in found.what
    assert found.why and found.todo


def test_a_queue_that_flows_is_well() -> None:
    flowing = queue(counts={"pending": 5, "processing": 5}, consumers=2, rates={"delivered": 9, "settled": 9})
    assert list(of_queue(QueueLook(flowing, [consumer(credit=5, in_flight=5)]))) == []
    assert list(of_queue(QueueLook(queue()))) == []


def test_a_queue_that_is_polled_without_waiting_has_consumers_though_none_is_there_now() -> None:
    polled = queue(counts=WAITS, rates={"delivered": 2, "settled": 2}, oldest_pending_age_ms=90_000)
    found = only(list(of_queue(QueueLook(polled))))
    assert (found.severity, "came for messages within the last minute" in found.what) == ("note", True)


def test_looking_at_a_queue_that_nobody_consumes_takes_nothing_out_of_it() -> None:
    found = only(list(of_queue(QueueLook(queue(counts=WAITS)))))
    assert "streambroker consume" not in found.todo


def test_that_everything_is_in_somebody_s_hands_is_told_with_whose() -> None:
    leased = queue(counts={"processing": 7}, consumers=1)
    found = only(list(of_queue(QueueLook(leased, [consumer(credit=10, in_flight=7)]))))
    assert (found.severity, "worker holds 7" in found.what) == ("note", True)
    over_rest = only(list(of_queue(QueueLook(queue(counts={"processing": 7})))))
    assert "under leases taken over REST" in over_rest.what


def test_dead_letters_are_led_home_and_not_to_a_consumer() -> None:
    note = DeadLetter("orders", "rejected", "boom", 1, NOW)
    letters = [MessageInfo("m1", "q", "pending", dead_letter=note)]
    found = only(list(of_queue(QueueLook(queue(counts={"pending": 1}), waiting=letters))))
    assert (found.severity, "1 dead letter is waiting, from orders" in found.what) == ("note", True)
    assert "queue redrive orders --from q" in found.todo


def test_a_redriven_message_at_home_waits_like_any_other() -> None:
    note = DeadLetter("q", "rejected", "boom", 1, NOW)
    letters = [MessageInfo("m1", "q", "pending", dead_letter=note)]
    found = only(list(of_queue(QueueLook(queue(counts={"pending": 1}), waiting=letters))))
    assert (found.severity, "nobody consumes" in found.what) == ("problem", True)


def test_an_empty_queue_may_be_paused() -> None:
    assert only(list(of_queue(QueueLook(queue(paused=True))))).severity == "note"


def test_that_all_that_waits_is_delayed_is_no_problem() -> None:
    found = only(list(of_queue(QueueLook(queue(counts={"pending": 2, "delayed": 2}), first_delayed=NOW))))
    assert found.severity == "note"
    assert "2026-11-22 00:00:00Z" in found.what


def test_some_failures_among_others_are_no_problem() -> None:
    look = QueueLook(queue(counts={"failed": 3, "processed": 500}))
    assert only(list(of_queue(look))).severity == "note"


def test_a_message_that_can_never_fail_is_called_so() -> None:
    waiting = [MessageInfo("m1", "q", "processing", attempt=9, max_attempts=0)]
    assert "never end" in only(list(of_queue(QueueLook(queue(), waiting=waiting)))).why


SOUND = {
    "streambroker_store_free_bytes": 50_000.0 * MIB,
    "streambroker_store_wal_bytes": 8.0 * MIB,
    "streambroker_clock_seconds": 1_000_000.0,
    "streambroker_clock_step_seconds": 0.0,
    "process_open_fds": 50.0,
    "process_max_fds": 65_536.0,
}


def of(changed: dict[str, float] | None = None, sqlite: str = "3.53.4") -> list[Finding]:
    metrics = SOUND | (changed or {})
    return list(of_node(NodeLook(metrics, sqlite, metrics.pop("now", 1_000_000.0))))


def test_a_sound_broker_is_well() -> None:
    assert of() == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({'streambroker_store_full{reason="disk"}': 1.0}, "the disk is full"),
        ({'streambroker_store_full{reason="quota"}': 1.0}, "max_stored_bytes is used up"),
        ({"streambroker_store_free_bytes": 500.0 * MIB}, "500.0 MiB are free"),
        ({"streambroker_store_wal_bytes": 900.0 * MIB}, "write-ahead log has 900.0 MiB"),
        ({"streambroker_clock_step_seconds": -3_600.0, "now": 996_400.0}, "set by -3,600 s"),
        ({"now": 1_000_100.0}, "differ by 100 s"),
        ({"process_open_fds": 60_000.0}, "60,000 of at most 65,536 files"),
        ({"process_max_fds": 1_024.0}, "only 1,024 files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_problem_of_the_broker_is_told(changed: dict[str, float], words: str) -> None:
    found = only(of(changed))
    assert found.severity == "problem"
    assert words in found.what


def test_a_slow_disk_is_noted() -> None:
    changed = {"streambroker_sync_duration_seconds_sum": 12.0, "streambroker_sync_duration_seconds_count": 100.0}
    assert "120 ms" in only(of(changed)).what


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.40.1", False), ("3.44.5", False), ("3.44.6", True), ("3.45.0", False), ("3.50.7", True), ("3.51.2", False),
        ("3.51.3", True), ("3.53.4", True), ("3.6.23", True),
    ],
)  # fmt: skip
def test_the_versions_of_sqlite_with_the_bug_are_known(version: str, fixed: bool) -> None:
    assert fixed_wal_reset(version) is fixed
    assert len(of(sqlite=version)) == (0 if fixed else 1)


def test_metrics_are_read_with_their_labels() -> None:
    look = node_look(
        '# TYPE a gauge\na 1.5\nstreambroker_store_full{reason="disk"} 1\n'
        'streambroker_build_info{version="0.1.0",python="3.11.7",sqlite="3.40.1"} 1\n',
        7.0,
    )
    assert (look.value("a"), look.value('streambroker_store_full{reason="disk"}'), look.sqlite) == (1.5, 1.0, "3.40.1")


def test_the_file_system_of_a_directory_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert file_system(tmp_path / "data", mounts) == "nfs4"
    assert file_system(Path("/"), mounts) == "ext4"
    assert file_system(Path("/"), tmp_path / "none") == ""
