"""What is particular to SQLite: how its file is opened, checked and migrated, and what happens when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from streambroker.core.errors import (
    DataDamaged,
    DataDirUnusable,
    Internal,
    Overloaded,
    StorageFailed,
    StorageFull,
)
from streambroker.core.lifecycle import Event
from streambroker.core.message import Draft, State, Status
from streambroker.core.policy import QueueConfig
from streambroker.core.timeline import RESTARTED, Mark
from streambroker.store.contract import (
    Claim,
    Command,
    Delete,
    Depth,
    DropQueue,
    Overdue,
    Purge,
    SaveQueue,
    Settle,
    Sweep,
)
from streambroker.store.sql import checkpoints, reads
from streambroker.store.sql import connection as opening
from streambroker.store.sql.connection import DATABASE, DirectoryLock, migrate, migrations, open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.sqlite import SqliteStore
from streambroker.store.sql.statements import OLDEST, OLDEST_WEIGHED
from tests.store.subjects import START, Bench, SpecificationSubject, count, ids, wish

SECOND = (2, "ALTER TABLE queue ADD COLUMN made_up TEXT;\nCREATE TABLE made_up (a);")
BROKEN = (3, "CREATE TABLE half_done (a);\nCREATE TABLE queue (a);")


class Sqlite:
    """An engine without threads around it, and its connection to look behind it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.connection = open_writer(directory)
        self.engine = SqliteEngine(self.connection, START)
        self.bench = Bench(SpecificationSubject())  # for its drafts, claims and clock only
        self.statements: list[str] = []
        if not self.engine.catalog.by_name:
            self.save("q")

    def save(self, name: str = "q", **config: Any) -> None:
        self.apply(SaveQueue(name, QueueConfig(**config), False, self.bench.now))

    def turn(self, *commands: Command) -> list[Any]:
        return self.engine.turn(commands)

    def apply(self, command: Command) -> Any:
        (answer,) = self.turn(command)
        return answer

    def publish(self, number: int = 1, queue: str = "q", **options: Any) -> list[Draft]:
        drafts = self.bench.drafts(number, **options)
        assert self.apply(self.bench.publishing(drafts, queue)).ids == ids(drafts)
        return drafts

    def take(self, limit: int = 1, **options: Any) -> Any:
        return self.apply(self.bench.claim(limit=limit, **options))

    def trace(self) -> None:
        """From now on, write down every statement that SQLite runs."""
        self.connection.set_trace_callback(self.statements.append)

    def pragma(self, name: str) -> Any:
        return self.connection.execute(f"PRAGMA {name}").fetchone()[0]

    def recount(self, queue: str = "q") -> Depth:
        """Counted from the table."""
        number = self.engine.catalog.by_name[queue].id
        found = self.connection.execute("SELECT state FROM message WHERE queue_id = ?", (number,)).fetchall()
        states = [state for (state,) in found]
        return Depth(*[states.count(state) for state in State])

    def check_counts(self) -> None:
        for name in self.engine.catalog.by_name:
            assert self.engine.catalog.depth(name) == self.recount(name), name


@contextmanager
def opened(directory: Path) -> Iterator[Sqlite]:
    sqlite = Sqlite(directory)
    try:
        yield sqlite
        sqlite.check_counts()
    finally:
        sqlite.engine.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Sqlite]:
    with opened(tmp_path) as sqlite:
        yield sqlite


def crashed(sqlite: Sqlite, directory: Path) -> Path:
    """A copy of the files as a crash would leave them: nothing closed, nothing checkpointed."""
    directory.mkdir()
    for name in (DATABASE, f"{DATABASE}-wal"):
        shutil.copy(sqlite.directory / name, directory / name)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """All files but the lock and the index of the log, which is made anew at each start."""
    return {f.name: f.read_bytes() for f in directory.iterdir() if f.suffix != ".lock" and not f.name.endswith("-shm")}


def damage(directory: Path, pages: int = 3) -> None:
    """Overwrite pages in the middle of the file."""
    with (directory / DATABASE).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        assert size > 4096 * (pages + 12)
        file.seek(4096 * 8)
        file.write(b"\xff" * 4096 * pages)


def ignored(error: StorageFailed) -> None:
    raise AssertionError(error)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("wal_autocheckpoint", 0),
        ("foreign_keys", 0),
        ("busy_timeout", 5_000),
        ("temp_store", 2),
        ("secure_delete", 2),  # fast: zeros over what is deleted only where they cost no room
        ("journal_size_limit", 64 << 20),
        ("cache_size", -32 * 1024),
    ],
)
def test_the_writer_is_set_up_anew_at_each_connect(tmp_path: Path, pragma: str, value: object) -> None:
    for _ in range(2):
        with closing(open_writer(tmp_path)) as connection:
            assert connection.execute(f"PRAGMA {pragma}").fetchone()[0] == value


def test_a_file_system_on_which_a_setting_does_not_hold_is_refused() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.OperationalError, match="journal_mode"),
    ):
        opening._configure(connection)  # a database in memory has no write-ahead log


def test_nobody_else_on_the_machine_may_read_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "data"
    before = os.umask(0)  # as open as can be: the modes are not the umask's doing
    try:
        lock = DirectoryLock(directory)
        sqlite = Sqlite(directory)
    finally:
        os.umask(before)
    with closing(sqlite.engine):
        sqlite.publish()
        assert directory.stat().st_mode & 0o777 == 0o700
        files = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "streambroker.lock")
        assert {f.name: f.stat().st_mode & 0o077 for f in directory.iterdir()} == dict.fromkeys(files, 0)
    lock.release()
    assert not caplog.records


def test_a_data_directory_that_others_may_look_into_is_kept_and_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    DirectoryLock(tmp_path).release()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert "chmod 700" in caplog.text
    (tmp_path / DATABASE).touch(mode=0o644)
    open_writer(tmp_path).close()
    assert (tmp_path / DATABASE).stat().st_mode & 0o777 == 0o600


async def test_readers_cannot_write(tmp_path: Path) -> None:
    open_writer(tmp_path).close()
    reader = reads.Reader(tmp_path / DATABASE)
    async with reader._engine.connect() as connection:
        with pytest.raises(Exception, match="readonly"):
            await connection.exec_driver_sql("DELETE FROM message")
    await reader.close()


async def test_a_data_directory_may_have_any_name(tmp_path: Path) -> None:
    directory = tmp_path / "50% off? #1 & more;ü"
    for expected in ([], ["q"]):
        store = await SqliteStore.open(directory, START, ignored)
        assert [queue.name for queue in await store.queues()] == expected
        await store.submit(SaveQueue("q", QueueConfig(), False, START))
        await store.close()
    assert [file.name for file in tmp_path.iterdir()] == [directory.name]


# -- one broker at a time ----------------------------------------------------------------------------------------------


async def test_a_second_broker_is_refused_and_told_who_holds_the_data(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, START, ignored)
    with pytest.raises(DataDirUnusable, match=rf"pid {os.getpid()}\b"):
        await SqliteStore.open(tmp_path, START, ignored)
    await store.submit(SaveQueue("q", QueueConfig(), False, START))
    await store.close()
    again = await SqliteStore.open(tmp_path, START, ignored)
    assert [queue.name for queue in await again.queues()] == ["q"]
    await again.close()


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from streambroker.store.sql.connection import DirectoryLock;"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirUnusable, match=rf"pid {holder.pid}\b"):
            DirectoryLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    DirectoryLock(tmp_path).release()


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirUnusable):
            DirectoryLock(path)


def test_a_database_that_is_a_directory_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()
    with pytest.raises(DataDirUnusable):
        open_writer(tmp_path)


# -- migrations --------------------------------------------------------------------------------------------------------


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_new_file_is_brought_up_to_date_without_a_backup(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == migrations()[-1][0]
    assert list(tmp_path.glob("backup*")) == []


def test_a_migration_leaves_a_copy_of_what_was_there_before_it(sqlite: Sqlite) -> None:
    last = migrations()[-1][0]
    (draft,) = sqlite.publish()
    migrate(sqlite.connection, sqlite.directory, [*migrations(), (last + 1, SECOND[1])])
    assert sqlite.pragma("user_version") == last + 1
    sqlite.connection.execute("SELECT a FROM made_up")
    (backup,) = sqlite.directory.glob(f"backup-schema-{last}-*.db")
    assert backup.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone()[0] == last
        assert copy.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert copy.execute("SELECT id FROM message").fetchall() == [(draft.id,)]
        assert copy.execute("SELECT name FROM sqlite_schema WHERE name = 'made_up'").fetchall() == []


def test_a_migration_that_was_made_is_not_made_again(sqlite: Sqlite) -> None:
    last = migrations()[-1][0]
    steps = [*migrations(), (last + 1, SECOND[1])]
    for _ in range(2):
        migrate(sqlite.connection, sqlite.directory, steps)
    assert len(list(sqlite.directory.glob("backup*"))) == 1


def test_a_migration_that_fails_changes_nothing_and_keeps_those_before_it(sqlite: Sqlite) -> None:
    last = migrations()[-1][0]
    with pytest.raises(sqlite3.Error):
        migrate(sqlite.connection, sqlite.directory, [*migrations(), (last + 1, SECOND[1]), (last + 2, BROKEN[1])])
    sqlite.connection.rollback()
    assert sqlite.pragma("user_version") == last + 1
    names = {name for (name,) in sqlite.connection.execute("SELECT name FROM sqlite_schema")}
    assert "made_up" in names
    assert "half_done" not in names


def test_a_migration_that_fails_at_each_start_leaves_its_first_copy_alone(
    sqlite: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = migrations()[-1][0]
    for start in (1_000, 1_000, 1_001, 1_002):
        monkeypatch.setattr("time.time", partial(float, start))
        with pytest.raises(sqlite3.Error, match="already exists"):
            migrate(sqlite.connection, sqlite.directory, [*migrations(), (last + 1, BROKEN[1])])
        sqlite.connection.rollback()
    assert [file.name for file in sqlite.directory.glob("backup*")] == [f"backup-schema-{last}-1000.db"]


def test_a_copy_that_was_cut_short_is_made_anew(sqlite: Sqlite) -> None:
    (sqlite.directory / "backup-schema.part").write_bytes(b"half")
    last = migrations()[-1][0]
    migrate(sqlite.connection, sqlite.directory, [*migrations(), (last + 1, SECOND[1])])
    (backup,) = sqlite.directory.glob("backup*")
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("PRAGMA user_version").fetchone()[0] == last


def test_the_file_of_a_newer_broker_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as sqlite:
        sqlite.publish()
        sqlite.connection.execute("PRAGMA user_version = 999")
    before = contents(tmp_path)
    with pytest.raises(DataDirUnusable, match="newer"):
        open_writer(tmp_path)
    assert contents(tmp_path) == before


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path / "sound") as sqlite:
        sqlite.publish(200, content=b"x" * 500)
        sqlite.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sqlite.publish(5)
        directory = crashed(sqlite, tmp_path / "damaged")
    damage(directory)
    before = contents(directory)
    assert before.keys() == {DATABASE, f"{DATABASE}-wal"}
    for _ in range(2):
        with pytest.raises(DataDamaged):
            open_writer(directory)
        assert contents(directory) == before


@pytest.mark.parametrize("garbage", [b"\x00" * 8192, b"not a database, but long enough to be taken for one" * 99])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(garbage)
    with pytest.raises((DataDamaged, DataDirUnusable)):
        open_writer(tmp_path)
    assert contents(tmp_path) == {DATABASE: garbage}


@pytest.mark.parametrize("missing", [True, False])
def test_a_log_without_its_file_is_refused_and_not_deleted(tmp_path: Path, missing: bool) -> None:
    with opened(tmp_path / "sound") as sqlite:
        sqlite.publish()
        directory = crashed(sqlite, tmp_path / "damaged")
    if missing:
        (directory / DATABASE).unlink()
    else:
        os.truncate(directory / DATABASE, 0)
    before = contents(directory)
    with pytest.raises(DataDamaged):
        open_writer(directory)
    assert contents(directory) == before


async def test_a_start_that_failed_lets_go_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database" * 999)
    with pytest.raises(DataDamaged):
        await SqliteStore.open(tmp_path, START, ignored)
    DirectoryLock(tmp_path).release()


# -- after a crash -----------------------------------------------------------------------------------------------------


def test_all_that_was_answered_is_there_after_a_crash(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(20)
    held = sqlite.take(6)
    sqlite.apply(sqlite.bench.settling(*[wish(message, Event.ACK) for message in held[:3]]))
    expected = sqlite.recount()
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        assert again.recount() == again.engine.catalog.depth("q") == expected
        settled = again.apply(again.bench.settling(*[wish(message, Event.ACK) for message in held]))
        assert [item.already for item in settled] == [True] * 3 + [False] * 3
        assert [item.refusal for item in settled] == [None] * 6


def test_session_leases_are_given_back_after_a_crash_and_fixed_ones_run_on(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(2, expires_at=START + 9_000)
    (session,), (fixed,) = sqlite.take(lease_ms=None), sqlite.take(lease_ms=100)
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        rows = again.connection.execute("SELECT id, state, due_at, failures, lease FROM message ORDER BY id").fetchall()
        assert rows == [
            (session.id, State.READY, START + 9_000, 0, session.lease),
            (fixed.id, State.LEASED, START + 100, 0, fixed.lease),
        ]


@pytest.mark.parametrize("set_back", [0, 1, 5_000])
def test_a_lease_is_never_longer_than_it_was_given_when_the_clock_was_set_back(
    sqlite: Sqlite, tmp_path: Path, set_back: int
) -> None:
    sqlite.publish()
    sqlite.take(lease_ms=100)
    now = START - set_back
    with closing(SqliteEngine(open_writer(crashed(sqlite, tmp_path / "crashed")), now)) as engine:
        assert engine.turn([Overdue(now, 10)])[0].next_due == now + 100


def test_a_record_is_there_after_a_crash_with_the_change_that_it_tells_of(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(2)
    (requeued,), (session,) = sqlite.take(), sqlite.take(lease_ms=None)
    sqlite.apply(sqlite.bench.settling(wish(requeued, Event.REQUEUE, reason="busy")))
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        rows = again.connection.execute("SELECT message_id, mark, attempt, error FROM timeline").fetchall()
        assert rows == [
            (requeued.id, Mark.REQUEUED, 1, "busy"),
            (session.id, Mark.RELEASED, 1, RESTARTED),
        ]


def test_a_record_is_undone_with_the_change_that_it_tells_of(sqlite: Sqlite) -> None:
    drafts = sqlite.publish(2)
    held = sqlite.take(2)
    sqlite.connection.execute(
        f"CREATE TRIGGER refusing BEFORE INSERT ON timeline WHEN new.message_id = {drafts[1].id} "
        "BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    answers = sqlite.turn(*[sqlite.bench.settling(wish(message, Event.REQUEUE)) for message in held])
    assert isinstance(answers[1], Internal)
    states = dict(sqlite.connection.execute("SELECT id, state FROM message").fetchall())
    assert states == {drafts[0].id: State.DELAYED, drafts[1].id: State.LEASED}
    assert sqlite.connection.execute("SELECT message_id FROM timeline").fetchall() == [(drafts[0].id,)]


def test_a_dropped_queue_that_was_not_swept_is_swept_after_a_crash(sqlite: Sqlite, tmp_path: Path) -> None:
    sqlite.publish(3)
    sqlite.apply(DropQueue("q"))
    with opened(crashed(sqlite, tmp_path / "crashed")) as again:
        assert again.apply(Sweep(START, 10)) is False
        assert again.connection.execute("SELECT count(*) FROM message WHERE queue_id = 1").fetchone()[0] == 0


@pytest.mark.parametrize("way", ["deleted", "purged", "retired", "swept"])
def test_the_newest_id_is_known_after_a_crash_though_its_message_is_gone(
    sqlite: Sqlite, tmp_path: Path, way: str
) -> None:
    sqlite.save("other")
    sqlite.publish()
    (newest,) = sqlite.publish(queue="other")
    match way:
        case "deleted":
            sqlite.apply(Delete(newest.id))
        case "purged":
            assert sqlite.apply(Purge("other", (State.READY,), 10)) == 1
        case "retired":
            (held,) = sqlite.take(queue="other")
            sqlite.apply(sqlite.bench.settling(wish(held, Event.ACK)))
            sqlite.apply(Overdue(sqlite.bench.now + 2 * QueueConfig().retention_ms, 10))
        case "swept":
            sqlite.apply(DropQueue("other"))
            sqlite.apply(Sweep(sqlite.bench.now, 10))
    assert sqlite.connection.execute("SELECT id FROM message WHERE id = ?", (newest.id,)).fetchall() == []
    with opened(crashed(sqlite, tmp_path / "after")) as after:
        assert after.engine.last_id() == newest.id


def test_deleting_what_is_not_the_newest_keeps_nothing(sqlite: Sqlite) -> None:
    first, newest = sqlite.publish(2)
    sqlite.apply(Delete(first.id))
    assert sqlite.connection.execute("SELECT count(*) FROM totals").fetchone()[0] == 0
    assert sqlite.engine.last_id() == newest.id


def test_an_id_that_was_dropped_for_an_older_one_is_not_made_again(sqlite: Sqlite) -> None:
    sqlite.save("few", max_messages=1, overflow="drop_oldest")
    older, newest = sqlite.bench.drafts(2)
    for draft in (newest, older):  # they were made in one order and came in the other
        sqlite.apply(sqlite.bench.publishing([draft], "few"))
    assert sqlite.recount("few") == Depth(ready=1)
    assert sqlite.engine.last_id() == newest.id


def test_the_oldest_are_found_without_reading_all_that_wait(sqlite: Sqlite) -> None:
    for statement in (OLDEST, OLDEST_WEIGHED):
        steps = [row[3] for row in sqlite.connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1, 0))]
        assert [step for step in steps if "B-TREE" in step or step.startswith("SCAN message")] == []
        assert len([step for step in steps if step.startswith("SEARCH message")]) == 10


async def test_the_newest_id_is_known_after_a_restart(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, START, ignored)
    assert store.last_id == 0
    await store.submit(SaveQueue("q", QueueConfig(), False, START))
    bench = Bench(SpecificationSubject())
    drafts = bench.drafts(2)
    await store.submit(bench.publishing(drafts))
    await store.close()
    store = await SqliteStore.open(tmp_path, START, ignored)
    assert store.last_id == drafts[-1].id
    await store.close()


# -- durability --------------------------------------------------------------------------------------------------------


def synchronous(sqlite: Sqlite, *commands: Command) -> int:
    """The level of `PRAGMA synchronous` that a turn was committed with."""
    sqlite.turn(*commands)
    level: int = sqlite.pragma("synchronous")
    return level


def test_turns_of_memory_queues_do_not_wait_for_the_disk_and_all_others_do(sqlite: Sqlite) -> None:
    normal, full = 1, 2
    sqlite.save("memory", durability="memory")
    bench = sqlite.bench

    def publishing(queue: str) -> Command:
        return bench.publishing([bench.draft()], queue)

    assert synchronous(sqlite, publishing("q")) == full
    assert synchronous(sqlite, publishing("memory")) == normal
    assert synchronous(sqlite, publishing("memory"), publishing("q")) == full
    (message,) = sqlite.apply(bench.claim("memory"))
    assert sqlite.pragma("synchronous") == normal
    ack = bench.settling(wish(message, Event.ACK))
    assert synchronous(sqlite, ack) == full  # nobody said that it is of a memory queue
    relaxed = type(ack)(ack.items, ack.now, relaxed=True)
    assert synchronous(sqlite, relaxed) == normal
    assert synchronous(sqlite, relaxed, publishing("q")) == full
    assert synchronous(sqlite, Overdue(START, 10)) == full
    sqlite.turn(publishing("memory"))
    sqlite.engine.work(lambda connection: connection.execute("SELECT 1"))
    assert sqlite.pragma("synchronous") == full
    sqlite.turn(publishing("memory"))
    sqlite.save("memory", durability="fsync")
    assert synchronous(sqlite, publishing("memory")) == full


def test_the_level_changes_before_the_transaction_and_only_when_it_must(sqlite: Sqlite) -> None:
    sqlite.save("memory", durability="memory")
    sqlite.trace()
    sqlite.publish(queue="memory")
    sqlite.publish(queue="memory")
    sqlite.publish()
    steps = [s for s in sqlite.statements if s.startswith(("PRAGMA", "BEGIN", "COMMIT"))]
    transaction = ["BEGIN IMMEDIATE", "COMMIT"]
    assert steps == ["PRAGMA synchronous = 1", *transaction, *transaction, "PRAGMA synchronous = 2", *transaction]


def test_a_turn_is_one_transaction_in_few_statements(sqlite: Sqlite) -> None:
    sqlite.publish(100)
    held = sqlite.take(50)
    sqlite.trace()
    bench = sqlite.bench
    sqlite.turn(
        *[bench.publishing([bench.draft()]) for _ in range(64)],
        bench.settling(*[wish(message, Event.ACK) for message in held]),
        bench.claim(limit=100),
    )
    # BEGIN, one INSERT, the standings and the ack, the select and the lease, COMMIT.
    assert len([s for s in sqlite.statements if not s.startswith("--")]) == 7, sqlite.statements


def test_a_message_that_is_delivered_once_never_touches_the_timelines(sqlite: Sqlite) -> None:
    sqlite.trace()
    bench = sqlite.bench
    at_once = sqlite.turn(bench.publishing([bench.draft()], claims=[bench.claim()]))[0].claimed[0]
    sqlite.publish(3)
    held = [*at_once, *sqlite.take(3)]
    sqlite.apply(bench.settling(*[wish(message, Event.EXTEND, until=START + 9) for message in held]))
    sqlite.apply(Settle([wish(message, Event.ACK) for message in held[:2]], START, queue="q"))
    sqlite.apply(bench.settling(*[wish(message, Event.ACK) for message in held[2:]]))
    assert sqlite.recount() == Depth(processed=4)
    assert [statement for statement in sqlite.statements if "timeline" in statement] == []
    sqlite.publish()
    sqlite.apply(bench.settling(wish(sqlite.take()[0], Event.REQUEUE)))
    assert [statement for statement in sqlite.statements if "timeline" in statement] != []


def test_the_log_moves_into_the_file_when_enough_has_gathered(
    sqlite: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = sqlite.publish(50, content=b"x" * 1_000)
    sqlite.engine.tidy()  # not enough yet
    monkeypatch.setattr(checkpoints, "_CHECKPOINT_BYTES", 100_000)

    def in_the_file() -> int:
        shutil.copy(sqlite.directory / DATABASE, tmp_path / "copy.db")
        with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            tables = copy.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'message'").fetchone()[0]
            found: int = copy.execute("SELECT count(*) FROM message").fetchone()[0] if tables else 0
            return found

    assert in_the_file() == 0
    drafts += sqlite.publish(10)
    sqlite.engine.tidy()
    assert in_the_file() == len(drafts)


# -- a command that fails ----------------------------------------------------------------------------------------------


def same_id(sqlite: Sqlite) -> Command:
    (draft,) = sqlite.publish()
    return sqlite.bench.publishing([sqlite.bench.draft(), draft])


def lone_surrogate(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(key="\ud800")])


def wrong_type(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(key=object())])


def too_large_a_number(sqlite: Sqlite) -> Command:
    return sqlite.bench.publishing([sqlite.bench.draft(), sqlite.bench.draft(expires_at=2**63)])


@pytest.mark.parametrize("failing", [same_id, lone_surrogate, wrong_type, too_large_a_number])
@pytest.mark.parametrize("alone", [True, False])
def test_a_command_that_fails_in_the_database_fails_alone(sqlite: Sqlite, failing: Any, alone: bool) -> None:
    bench = sqlite.bench
    sqlite.publish(4, priority=1)
    held = sqlite.take(2)
    bad = failing(sqlite)
    before = sqlite.recount()
    if alone:
        assert isinstance(sqlite.apply(bad), Internal)
        assert sqlite.recount() == before
    else:
        good = bench.drafts(2)
        answers = sqlite.turn(
            bench.publishing(good[:1]),
            bad,
            bench.publishing(good[1:], claims=[bench.claim()]),
            bench.settling(wish(held[0], Event.ACK), wish(held[1], Event.REJECT)),
            SaveQueue("new", QueueConfig(dead_letter_queue="dead"), False, START),
            bench.claim(limit=1),
            Delete(good[0].id),
            DropQueue("unknown"),
        )
        assert [type(answer) for answer in answers].count(Internal) == 1
        assert isinstance(answers[1], Internal)
        assert [answer.ids for answer in (answers[0], answers[2])] == [[good[0].id], [good[1].id]]
        assert [item.state for item in answers[3]] == [State.PROCESSED, State.FAILED]
        assert answers[6].refusal is None
        assert sqlite.engine.catalog.by_name.keys() == {"q", "new", "dead"}
    sqlite.check_counts()
    assert sqlite.publish()  # and the next turn begins a transaction of its own


def test_a_queue_that_was_rolled_back_is_not_remembered(sqlite: Sqlite) -> None:
    def create_and_fail(_: sqlite3.Connection) -> None:
        sqlite.engine.catalog.save(SaveQueue("ghost", QueueConfig(), False, START))
        sqlite.engine.catalog.drop(DropQueue("q"))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        sqlite.engine.work(create_and_fail)
    assert sqlite.engine.catalog.by_name.keys() == {"q"}
    sqlite.publish()


def test_an_error_tells_nothing_of_the_database(sqlite: Sqlite) -> None:
    error = sqlite.apply(same_id(sqlite))
    assert "message" not in error.detail.lower()
    assert "UNIQUE" not in error.detail


def test_a_database_that_somebody_else_writes_to_is_overloaded_and_goes_on_afterwards(sqlite: Sqlite) -> None:
    sqlite.connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(sqlite.directory / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert isinstance(sqlite.apply(sqlite.bench.publishing(sqlite.bench.drafts(1))), Overloaded)
    sqlite.publish()


# -- a full disk -------------------------------------------------------------------------------------------------------


def fill(sqlite: Sqlite) -> None:
    """Give the file no page more, and publish until nothing fits any more."""
    sqlite.connection.execute(f"PRAGMA max_page_count = {sqlite.pragma('page_count')}")
    for size in (4_000, 400, 40):
        while not isinstance(sqlite.apply(sqlite.bench.publishing([sqlite.bench.draft(b"x" * size)])), StorageFull):
            pass


def test_a_full_disk_refuses_the_publish_and_takes_the_acks(sqlite: Sqlite) -> None:
    sqlite.publish(40, content=b"x" * 2_000)
    held = sqlite.take(20)
    fill(sqlite)
    bench = sqlite.bench
    for message in held[:5]:
        full, settled = sqlite.turn(
            bench.publishing(bench.drafts(3, content=b"x" * 9_000)), bench.settling(wish(message, Event.ACK))
        )
        assert isinstance(full, StorageFull)
        assert full.retry_after_ms
        assert settled[0].state is State.PROCESSED
    for event_, message in zip((Event.ACK, Event.REQUEUE, Event.REJECT, Event.RELEASE) * 3, held[5:17], strict=True):
        (settled,) = sqlite.apply(bench.settling(wish(message, event_, delay_ms=0)))
        assert settled.refusal is None
    sqlite.check_counts()


def test_publishing_goes_on_when_there_is_room_again(sqlite: Sqlite) -> None:
    sqlite.publish(40, content=b"x" * 2_000)
    held = sqlite.take(20)
    fill(sqlite)
    for message in held:
        assert sqlite.apply(Delete(message.id)).refusal is None
    sqlite.publish(10, content=b"x" * 2_000)
    much = sqlite.bench.drafts(100, content=b"x" * 2_000)
    assert isinstance(sqlite.apply(sqlite.bench.publishing(much)), StorageFull)
    sqlite.connection.execute("PRAGMA max_page_count = 1000000")
    assert sqlite.apply(sqlite.bench.publishing(much)).ids == ids(much)


# -- fail-stop ---------------------------------------------------------------------------------------------------------


def test_a_database_that_cannot_be_written_any_more_stops_everything(sqlite: Sqlite) -> None:
    sqlite.connection.execute("PRAGMA query_only = 1")
    bench = sqlite.bench
    for commands in ([bench.publishing(bench.drafts(1))], [bench.publishing(bench.drafts(1)) for _ in range(3)]):
        with pytest.raises(StorageFailed):
            sqlite.turn(*commands)
    with pytest.raises(StorageFailed):
        sqlite.engine.work(lambda connection: connection.execute("DELETE FROM message"))
    sqlite.connection.rollback()
    assert sqlite.recount() == Depth()


def test_a_file_that_is_damaged_under_the_running_broker_stops_everything(tmp_path: Path) -> None:
    sqlite = Sqlite(tmp_path)
    sqlite.publish(300, content=b"x" * 500)
    sqlite.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / DATABASE).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 40)
    sqlite.connection.execute("PRAGMA shrink_memory")
    with pytest.raises(StorageFailed):
        sqlite.take(300)
    sqlite.connection.close()


# -- beside the contract -----------------------------------------------------------------------------------------------


def test_what_is_due_of_a_dropped_queue_is_deleted_and_not_told_of(sqlite: Sqlite) -> None:
    sqlite.publish(available_at=START + 5)
    sqlite.apply(DropQueue("q"))
    lapsed = sqlite.apply(Overdue(START + 5, 10))
    assert (lapsed.items, lapsed.next_due) == ([], None)
    assert sqlite.connection.execute("SELECT count(*) FROM message").fetchone()[0] == 0


def test_a_sweep_leaves_nothing_of_a_dropped_queue(sqlite: Sqlite) -> None:
    drafts = [sqlite.bench.draft(dedup_id=f"d{n}") for n in range(5)]
    sqlite.apply(sqlite.bench.publishing(drafts, digests=[b"1"] * 5))
    sqlite.apply(sqlite.bench.settling(*[wish(message, Event.REJECT) for message in sqlite.take(5)]))
    sqlite.apply(DropQueue("q"))
    assert [sqlite.apply(Sweep(START, 3)) for _ in range(2)] == [True, False]
    for table in ("message", "queue", "dedup", "timeline"):
        assert sqlite.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0, table


async def test_a_filtered_page_that_looked_at_enough_goes_on_with_its_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "SCAN_LIMIT", 4)
    with opened(tmp_path) as sqlite:
        drafts = sqlite.publish(5, key="hay") + sqlite.publish(2, key="needle") + sqlite.publish(6, key="hay")
        sqlite.publish(1, key="needle", priority=9)
        reader = reads.Reader(tmp_path / DATABASE)
        found, sizes, cursor = [], [], None
        while True:
            page, cursor = await reader.browse("q", Status.PENDING, "needle", None, 10, cursor)
            found += page
            sizes.append(len(page))
            if cursor is None:
                break
        await reader.close()
    assert ids(found)[1:] == ids(drafts[5:7])
    assert sizes == [1, 2, 0, 0]


async def test_a_page_is_of_one_moment_though_messages_move_meanwhile(tmp_path: Path) -> None:
    with opened(tmp_path) as sqlite:
        sqlite.publish(3)
        reader = reads.Reader(tmp_path / DATABASE)
        moved = threading.Event()

        def move(*_: Any) -> None:
            """Between two statements of the page: what it saw as ready is leased, and stands further down."""
            if len(statements) == 15 and not moved.is_set():
                moved.set()
                sqlite.take(3)

        statements: list[str] = []
        event.listen(reader._engine.sync_engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        event.listen(reader._engine.sync_engine, "before_cursor_execute", move)
        page, _ = await reader.browse("q", None, None, None, 10, None)
        await reader.close()
    assert moved.is_set()
    assert count(page) == Depth(ready=3)


async def test_a_claim_is_seen_by_readers_once_it_is_answered(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path, START, ignored)
    bench = Bench(SpecificationSubject())
    await store.submit(SaveQueue("q", QueueConfig(), False, START))
    await store.submit(bench.publishing(bench.drafts(1)))
    claim: Claim = bench.claim()
    (message,) = await store.submit(claim)
    assert await store.get(message.id) == message
    await store.close()
