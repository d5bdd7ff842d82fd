"""What is wrong with a broker, in words: rules over figures that somebody else has gathered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from streambroker.cli.db import size
from streambroker.cli.output import span

if TYPE_CHECKING:
    from streambroker.client.models import Consumer, MessageInfo, Queue

Severity = Literal["problem", "note"]

MIB = 1024 * 1024
LOW_DISK_BYTES = 1024 * MIB
"""The broker refuses publishes below 256 MiB."""
LARGE_LOG_BYTES = 128 * MIB
"""It keeps the log at 64 MiB, unless a reader holds it up."""
FEW_FILES = 4_096
MANY_ATTEMPTS = 5
CLOCK_OFF_S = 5.0
SLOW_SYNC_S = 0.05
OLD_MS = 60_000
WAL_RESET_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""SQLite versions from which on, or in whose series from which on, the WAL-reset bug is fixed."""


ERROR_SHOWN = 200  # characters of a message's error


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: `what` it is, `why` it matters, what `todo`. A `note` is nothing wrong by itself."""

    severity: Severity
    subject: str
    what: str
    why: str
    todo: str


def problem(subject: str, what: str, why: str, todo: str) -> Finding:
    """Something that keeps messages from flowing, or soon will."""
    return Finding("problem", subject, what, why, todo)


def note(subject: str, what: str, why: str, todo: str) -> Finding:
    """Something worth knowing."""
    return Finding("note", subject, what, why, todo)


# -- queues ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueueLook:
    """What was seen of a queue. `waiting` are some of its unfinished messages, `failed` some of the failed ones.

    `first_delayed` is the delayed one that comes first, `letters` the dead-letter queue where there is one.
    """

    queue: Queue
    consumers: Sequence[Consumer] = ()
    waiting: Sequence[MessageInfo] = ()
    failed: Sequence[MessageInfo] = ()
    first_delayed: datetime | None = None
    letters: Queue | None = None


def of_queue(look: QueueLook) -> Iterator[Finding]:
    """What is wrong with a queue, the most likely reason for a standstill first."""
    yield from _standstill(look)
    yield from _poison(look)
    yield from _failures(look)
    yield from _bounds(look)


def _standstill(look: QueueLook) -> Iterator[Finding]:
    queue, counts = look.queue, look.queue.counts
    ready, name = counts.pending - counts.delayed, f"queue {look.queue.name}"
    if queue.paused:
        waiting = f", while {_messages(counts.pending)} waiting" if counts.pending else ""
        found = problem if counts.pending else note
        yield found(
            name, f"it is paused{waiting}", "a paused queue takes messages and delivers none",
            f"streambroker queue resume {queue.name}",
        )  # fmt: skip
    elif ready and not taken_from(queue):
        yield _dead_letters(look, ready) if _holds_dead_letters(look) else _nobody(queue, ready)
    elif ready and queue.consumers and not queue.rates.delivered:
        yield _idle_consumers(look, ready)
    elif counts.processing and not counts.pending and not queue.rates.settled:
        yield _all_leased(look)
    elif not ready and counts.delayed:
        until = "" if look.first_delayed is None else f", the next one until {_clock(look.first_delayed)}"
        yield note(
            name, f"all that waits ({counts.delayed:,}) is delayed{until}",
            "a delay was asked for at publish, or is the backoff after a nack", "wait, or look at their `error`",
        )  # fmt: skip
    elif _falling_behind(queue, ready):
        yield problem(
            name,
            f"it grows: {queue.rates.published:g}/s come in, {queue.rates.settled:g}/s are settled, {ready:,} are "
            f"ready and the oldest waits for {span(queue.oldest_pending_age_ms)}",
            "the consumers do not keep up", "start more consumers, or give them more credit or concurrency",
        )  # fmt: skip
    elif ready and not queue.consumers:
        yield note(
            name, f"{_messages(ready)} ready and no consumer is there now, though some came for messages within the "
            "last minute", "it is nothing wrong if they poll without waiting; else they have just left",
            "run this again in a minute",
        )  # fmt: skip


def taken_from(queue: Queue) -> bool:
    """Whether somebody takes messages from it: now, or by polls that do not wait, within the last minute."""
    return bool(queue.consumers or queue.rates.delivered)


def _nobody(queue: Queue, ready: int) -> Finding:
    return problem(
        f"queue {queue.name}",
        f"{_messages(ready)} ready and nobody consumes them; the oldest waits for {span(queue.oldest_pending_age_ms)}",
        "they stay until a consumer comes, or their time to live is over",
        f"start a consumer; to look at them without taking them: streambroker message search {queue.name}",
    )


def _holds_dead_letters(look: QueueLook) -> bool:
    """Whether all that was seen to wait in it came from another queue."""
    pending = [one for one in look.waiting if one.status == "pending"]
    home = look.queue.name
    return bool(pending) and all(one.dead_letter is not None and one.dead_letter.queue != home for one in pending)


def _dead_letters(look: QueueLook, ready: int) -> Finding:
    """A note: it is a problem of the queue that they came from, and told there."""
    name = look.queue.name
    homes = sorted({one.dead_letter.queue for one in look.waiting if one.dead_letter is not None})
    return note(
        f"queue {name}",
        f"{_count(ready, 'dead letter')} waiting, from {', '.join(homes[:3])}{' and others' if homes[3:] else ''}",
        "what was given up is kept there, and grows",
        f"streambroker message search {name}; then streambroker queue redrive {homes[0]} --from {name}, or purge them",
    )


def _all_leased(look: QueueLook) -> Finding:
    """Everything is in somebody's hands, and nothing comes of it: long work, or a worker that hangs."""
    queue = look.queue
    held = [f"{one.user} holds {one.in_flight:,}" for one in look.consumers if one.in_flight]
    by = f" ({', '.join(held[:3])})" if held else " under leases taken over REST, which no connection holds"
    return note(
        f"queue {queue.name}",
        f"all that is in it ({queue.counts.processing:,}) is being processed{by}, and nothing was settled for a minute",
        f"it is nothing wrong if the work takes long; a lease taken over REST ends by itself (lease_ms is "
        f"{span(queue.config.lease_ms)}), that of a session when its connection does",
        f"streambroker message search {queue.name} --status processing; if a worker hangs, restart it",
    )


def _falling_behind(queue: Queue, ready: int) -> bool:
    old = (queue.oldest_pending_age_ms or 0) > OLD_MS
    return bool(ready and taken_from(queue) and old and queue.rates.published > 1.1 * queue.rates.settled)


def _idle_consumers(look: QueueLook, ready: int) -> Finding:
    """Messages are ready, somebody is there, and nothing moves: why?"""
    queue, name = look.queue, f"queue {look.queue.name}"
    what = (
        f"{_messages(ready)} ready, {_count(queue.consumers, 'consumer')} there, and nothing was delivered for a minute"
    )
    if look.consumers and all(one.paused for one in look.consumers):
        return problem(
            name, f"{what}: all of them have paused themselves", "a subscription that is paused takes nothing",
            "resume them (`resume` on the WebSocket), or restart them",
        )  # fmt: skip
    if look.consumers and all(one.in_flight >= one.credit for one in look.consumers):
        held = ", ".join(f"{one.user} holds {one.in_flight}" for one in list(look.consumers)[:3])
        return problem(
            name,
            f"{what}: each has as many unsettled messages as its credit allows ({held})",
            "a consumer gets no more until it acks or nacks; one that has forgotten to holds its messages for ever if "
            "its lease is its session's",
            "look at the workers: are they stuck, or do they forget to ack? `DELETE /consumers/{id}` gives back what "
            "one holds",
        )
    return problem(
        name, what, "they may wait for more room, be at the quota of leases of their user, or have just come",
        "look at max_in_flight_per_user and at the consumers' logs; run this again in a minute",
    )  # fmt: skip


def _poison(look: QueueLook) -> Iterator[Finding]:
    worst = max(look.waiting, key=lambda message: message.attempt, default=None)
    if worst is None or worst.attempt < MANY_ATTEMPTS:
        return
    limit = worst.max_attempts
    ends = f"it fails after {limit} failures" if limit else "max_attempts is 0, so it will never end"
    yield problem(
        f"queue {look.queue.name}",
        f"message {worst.message_id} was delivered {worst.attempt} times and is not done; its last error: "
        f"{_short(worst.error) if worst.error else 'none was given'}",
        f"a message that no consumer can handle goes round and takes the place of others; {ends}",
        f"streambroker message show {worst.message_id}; mend the consumer, or delete the message; a dead_letter_queue "
        "and max_attempts take such messages out by themselves",
    )


def _failures(look: QueueLook) -> Iterator[Finding]:
    queue, counts, name = look.queue, look.queue.counts, f"queue {look.queue.name}"
    if counts.failed:
        why = look.failed[0].error if look.failed else None
        only = not (counts.pending or counts.processing or counts.processed)
        found = problem if only else note
        yield found(
            name,
            f"{'everything in it' if only else f'{counts.failed:,} of its messages'} failed"
            f"{f' ({counts.failed:,})' if only else ''}; one of the errors: {_short(why) if why else 'none was given'}",
            "failed messages stay until somebody does something about them",
            f"streambroker message search {queue.name} --status failed; then streambroker queue redrive {queue.name}, "
            "or purge them",
        )
    target = queue.config.dead_letter_queue
    if target is None:
        return
    if look.letters is None:
        yield problem(
            name, f"its dead-letter queue {target} does not exist, or you may not view it",
            "messages that are given up fail in place where there is none",
            f"streambroker queue create {target}",
        )  # fmt: skip
    elif look.letters.counts.pending and not look.letters.consumers:
        yield problem(
            name,
            f"in {target} {_count(look.letters.counts.pending, 'dead letter')} waiting, and nobody looks at them",
            "what was given up is kept there, and grows",
            f"streambroker message search {target}; then streambroker queue redrive {queue.name} --from {target}, or "
            "purge them",
        )


def _bounds(look: QueueLook) -> Iterator[Finding]:
    queue, counts, most = look.queue, look.queue.counts, look.queue.config.max_messages
    held = counts.pending + counts.processing
    if most and held >= 0.9 * most:
        dropped = queue.config.overflow == "drop_oldest"
        consequence = (
            "the oldest messages are dropped for new ones" if dropped else "publishes are refused (queue_full)"
        )
        yield problem(
            f"queue {queue.name}", f"it holds {held:,} of the {most:,} messages that max_messages allows",
            f"beyond it {consequence}", f"consume faster, or streambroker queue set {queue.name} --max-messages N",
        )  # fmt: skip


# -- the broker --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NodeLook:
    """A broker's metrics by name, labels in braces where there are any; `now` is this machine's time since 1970."""

    metrics: Mapping[str, float]
    sqlite: str
    now: float

    def value(self, name: str) -> float:
        """A metric's value; 0 where it is not told."""
        return self.metrics.get(name, 0.0)


def of_node(look: NodeLook) -> Iterator[Finding]:
    """What is wrong with the broker as a whole."""
    yield from _storage(look)
    yield from _clocks(look)
    yield from of_files(look.value("process_open_fds"), look.value("process_max_fds"))
    yield from of_sqlite(look.sqlite)


def _storage(look: NodeLook) -> Iterator[Finding]:
    subject = "storage"
    free, log_bytes = look.value("streambroker_store_free_bytes"), look.value("streambroker_store_wal_bytes")
    if look.value('streambroker_store_full{reason="disk"}'):
        yield problem(
            subject, f"the disk is full ({size(int(free))} free): publishes are refused with 507",
            "consuming and acking go on, with what the broker had kept back for it",
            "make room on the disk, or purge messages; publishes are taken again by themselves",
        )  # fmt: skip
    elif "streambroker_store_free_bytes" in look.metrics:
        yield from of_disk(int(free))
    if look.value('streambroker_store_full{reason="quota"}'):
        yield problem(
            subject, "max_stored_bytes is used up: publishes are refused with 507", "everything else goes on",
            "consume or purge messages, shorten retention_ms, or raise max_stored_bytes",
        )  # fmt: skip
    yield from of_log(int(log_bytes))
    syncs = look.value("streambroker_sync_duration_seconds_count")
    if syncs and (mean := look.value("streambroker_sync_duration_seconds_sum") / syncs) > SLOW_SYNC_S:
        yield note(
            subject, f"a commit takes {mean * 1_000:.0f} ms on average", "each publish and ack waits for one",
            "a faster or less busy disk; on a network disk this is as good as it gets",
        )  # fmt: skip


def of_disk(free: int) -> Iterator[Finding]:
    """A disk that is nearly full."""
    if free < LOW_DISK_BYTES:
        yield problem(
            "storage", f"{size(free)} are free where the data is",
            "below 256 MiB (a sixteenth of a small disk) publishes are refused", "make room on the disk",
        )  # fmt: skip


def of_log(size_bytes: int) -> Iterator[Finding]:
    """A write-ahead log that nobody can empty."""
    if size_bytes > LARGE_LOG_BYTES:
        yield problem(
            "storage", f"the write-ahead log has {size(size_bytes)}; it is meant to stay below 64 MiB",
            "a reader that has the database open (a backup, a forgotten sqlite3) keeps it from being emptied",
            "find out who has streambroker.db open (lsof, fuser), and end that",
        )  # fmt: skip


def _clocks(look: NodeLook) -> Iterator[Finding]:
    broker, step = look.value("streambroker_clock_seconds"), look.value("streambroker_clock_step_seconds")
    if not broker:
        return
    if abs(step) > CLOCK_OFF_S:
        yield problem(
            "clock", f"the clock of the broker's machine was set by {step:+,.0f} s since the broker started",
            "leases and delays are not disturbed by that, for the broker's clock runs on; but the times that it tells "
            "are off by so much", "restart the broker when it suits you; keep the clock right with NTP",
        )  # fmt: skip
    if abs(off := look.now - (broker + step)) > CLOCK_OFF_S:
        yield problem(
            "clock", f"this machine's clock and that of the broker's machine differ by {abs(off):,.0f} s",
            "delays as absolute times (available_at) and the times in messages mean something else here",
            "keep both right with NTP",
        )  # fmt: skip


def of_files(opened: float, most: float) -> Iterator[Finding]:
    """A limit on open files that is low, or nearly reached. 0: not known."""
    if most and opened > 0.8 * most:
        yield problem(
            "open files", f"{opened:,.0f} of at most {most:,.0f} files are open",
            "at the limit connections are refused", "raise it: ulimit -n, LimitNOFILE= in the systemd unit",
        )  # fmt: skip
    elif most and most < FEW_FILES:
        yield problem(
            "open files", f"only {most:,.0f} files may be open (ulimit -n)", "each connection is one",
            "raise it: ulimit -n, LimitNOFILE= in the systemd unit",
        )  # fmt: skip


def of_sqlite(version: str) -> Iterator[Finding]:
    """A SQLite that can damage a file when two connections write or checkpoint at the same instant."""
    if version and not fixed_wal_reset(version):
        yield note(
            "SQLite", f"version {version} has the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6)",
            "it can damage a file that two connections write to at the same instant; the broker writes with one only",
            "never open streambroker.db for writing beside a broker, with the sqlite3 command for instance",
        )  # fmt: skip


def fixed_wal_reset(version: str) -> bool:
    """Whether that version of SQLite is one without the bug."""
    number = tuple(int(part) for part in version.split(".")[:3])
    first, *series = WAL_RESET_FIXED
    return number >= first or number < (3, 7) or any(number[:2] == one[:2] and number >= one for one in series)


def _messages(count: int) -> str:
    return _count(count, "message")


def _count(count: int, what: str) -> str:
    """``1 message is``, ``2 messages are``."""
    return f"{count:,} {what} is" if count == 1 else f"{count:,} {what}s are"


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _short(error: str) -> str:
    """The beginning of a message's error: some hold a whole traceback."""
    line = " ".join(error.split())
    return line if len(line) <= ERROR_SHOWN else line[: ERROR_SHOWN - 1] + "…"
