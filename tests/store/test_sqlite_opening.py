"""How the file of SQLite is opened and checked, and who may."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from streambroker.core.errors import (
    DataDamaged,
    DataDirUnusable,
)
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import (
    SaveQueue,
)
from streambroker.store.sql import connection as opening
from streambroker.store.sql import reads
from streambroker.store.sql.connection import DATABASE, DirectoryLock, open_writer
from streambroker.store.sql.sqlite import SqliteStore
from tests.store.sqlite_files import Sqlite, contents, crashed, damage, ignored, opened
from tests.store.subjects import START

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
        holder.wait(60)
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
