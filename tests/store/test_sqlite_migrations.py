"""How the file is brought up to date, and what is kept of it before."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from streambroker.core.errors import (
    DataDirUnusable,
)
from streambroker.store.sql.connection import migrate, migrations, open_writer
from tests.store.sqlite_files import Sqlite, contents, opened

SECOND = (2, "ALTER TABLE queue ADD COLUMN made_up TEXT;\nCREATE TABLE made_up (a);")
BROKEN = (3, "CREATE TABLE half_done (a);\nCREATE TABLE queue (a);")


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
