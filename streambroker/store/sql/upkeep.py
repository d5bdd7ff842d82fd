"""The data while nobody serves it, or beside a broker that does: copied, checked, brought up to date, made smaller.

SQLite before 3.51.3 can damage a file when two connections write or checkpoint at the same instant. So what may run
beside a broker opens the file with ``mode=ro``: such a connection neither writes nor checkpoints, also not when it is
closed. What writes takes the directory's lock first.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streambroker.core.errors import DataDamaged, DataDirUnusable
from streambroker.core.message import STATUS_OF, State
from streambroker.core.policy import QueueConfig
from streambroker.store.sql.connection import DATABASE, DirectoryLock, migrations, missing_end, open_writer

PAGES_A_STEP = 1_024
"""Pages copied between two looks at the progress: 4 MiB."""
_PARTIAL = f"{DATABASE}.partial"
_SPARE_BYTES = 16 * 1024 * 1024

Progress = Callable[[int, int], None]
"""How much is done, of how much."""


def _quiet(done: int, of: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that was made. `schema` is the version of its tables."""

    path: Path
    bytes: int
    messages: int
    schema: int


@dataclass(frozen=True, slots=True)
class Examined:
    """What a check found. `schema` is the version of the tables, `newest` the one that this program writes."""

    problems: list[str]
    messages: Mapping[str, int]
    queues: int
    bytes: int
    free_bytes: int
    schema: int
    newest: int


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From which version of the tables to which; `backup` is the copy of what was there before, if that was another."""

    before: int
    after: int
    backup: Path | None


@dataclass(frozen=True, slots=True)
class Compacted:
    """The size of the database in bytes."""

    before: int
    after: int


@contextmanager
def _reading(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """The data of one moment: in a read transaction, on a connection that cannot write or checkpoint.

    Raises `DataDirUnusable` and `DataDamaged`.
    """
    path = _there(data_dir)
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as source:
            source.execute("PRAGMA busy_timeout = 5000")
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment is now
            yield source
    except sqlite3.OperationalError as error:
        raise DataDirUnusable(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise DataDamaged(f"{path} is damaged: {error}") from error


def _there(data_dir: Path) -> Path:
    path = data_dir / DATABASE
    if not path.exists() or not path.stat().st_size:
        raise DataDirUnusable(f"there is no data in {data_dir}; see --data-dir")
    return path


# -- copy --------------------------------------------------------------------------------------------------------------


def copy(data_dir: Path, destination: Path, progress: Progress = _quiet) -> Copied:
    """Copy the database of one moment into the directory `destination`, where a broker can then start.

    May run beside a broker: everything that it had confirmed when this began is in the copy. The copy is complete,
    checked and on the disk when this returns, and there is none otherwise. It is for its owner only. Raises
    `DataDirUnusable` where something is in the way or room is missing, `DataDamaged`, and `OSError`.
    """
    target, partial = destination / DATABASE, destination / _PARTIAL
    if target.exists():
        raise DataDirUnusable(f"{target} is there already; name a directory that is new, or empty")
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _reading(data_dir) as source:
        size = _pragma(source, "page_count") * _pragma(source, "page_size")
        if (free := shutil.disk_usage(destination).free) < size + _SPARE_BYTES:
            raise DataDirUnusable(f"{destination} has room for {free:,} bytes, and the copy takes {size:,}")
        # In the way of a second backup at the same moment, too. What a killed one left behind is nobody's.
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            schema = _fill(source, partial, progress)
            messages = source.execute("SELECT count(*) FROM message").fetchone()[0]
            _verify(partial)
            _to_disk(partial)
            partial.replace(target)
            _to_disk(destination)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return Copied(target, target.stat().st_size, messages, schema)


def _fill(source: sqlite3.Connection, path: Path, progress: Progress) -> int:
    """The transaction that is open holds one moment, so that no commit beside it makes the copy begin anew."""
    with closing(sqlite3.connect(path, isolation_level=None)) as copied:
        copied.execute("PRAGMA journal_mode = off")  # half a copy is thrown away, not repaired
        copied.execute("PRAGMA synchronous = off")  # the whole is synced once, at the end
        source.backup(
            copied, pages=PAGES_A_STEP, progress=lambda status, left, whole: progress(whole - left, whole), sleep=0
        )
        return _pragma(source, "user_version")


def _verify(path: Path) -> None:
    # Immutable: nobody else has it, and no files are made beside it.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as copied:
        found = copied.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found == "ok":
        found = missing_end(path) or "ok"
    if found != "ok":
        raise DataDamaged(
            f"the copy is not sound, and so is perhaps the database: {found}; see `streambroker db check`"
        )


def copy_file(source: Path, destination: Path) -> None:
    """Copy a small file for its owner only, on the disk when this returns. Raises `FileExistsError`."""
    descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(source.read_bytes())
    _to_disk(destination)
    _to_disk(destination.parent)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- check -------------------------------------------------------------------------------------------------------------

_RULES = (
    ("{} messages are of a queue that does not exist", "message WHERE queue_id NOT IN (SELECT id FROM queue)"),
    ("{} messages have lost their content", "message WHERE content IS NULL AND id NOT IN (SELECT id FROM content)"),
    ("{} contents are of no message", "content WHERE id NOT IN (SELECT id FROM message)"),
    ("{} messages are in no state that there is", f"message WHERE state NOT BETWEEN 0 AND {len(State) - 1}"),
    ("{} leased messages have no lease", f"message WHERE state = {State.LEASED:d} AND lease IS NULL"),
    (
        "{} messages wait for a moment that is not set",
        f"message WHERE state IN ({State.DELAYED:d}, {State.PROCESSED:d}) AND due_at IS NULL",
    ),
    (
        "{} dedup records are of a queue that does not exist",
        "dedup WHERE queue_id NOT IN (SELECT id FROM queue)",
    ),
)
_SINCE_SCHEMA_7 = (
    ("{} records of the past are of no message", "timeline WHERE message_id NOT IN (SELECT id FROM message)"),
)


def examine(data_dir: Path) -> Examined:
    """Read all of the database, and hold what is in it against the rules of the store. May run beside a broker.

    Raises `DataDirUnusable` where it cannot be read at all.
    """
    try:
        with _reading(data_dir) as source:
            return _examined(data_dir, source)
    except DataDamaged as error:
        newest = migrations()[-1][0]
        return Examined([str(error)], {}, 0, (data_dir / DATABASE).stat().st_size, 0, 0, newest)


def _examined(data_dir: Path, source: sqlite3.Connection) -> Examined:
    page = _pragma(source, "page_size")
    schema, newest = _pragma(source, "user_version"), migrations()[-1][0]
    problems = [line for (line,) in source.execute("PRAGMA integrity_check(20)") if line != "ok"]
    if (cut := missing_end(data_dir / DATABASE)) is not None:
        problems.append(f"the file's end is missing: {cut}")
    if schema > newest:
        problems.append(f"it was written by a newer streambroker (schema {schema}); this one knows {newest}")
    messages, queues = {}, 0
    if not problems:
        rules = _RULES + (_SINCE_SCHEMA_7 if schema >= 7 else ())
        problems = [*_broken(source, rules), *_wrong_configurations(source)]
        messages = {} if problems else _by_status(source)
        queues = source.execute("SELECT count(*) FROM queue WHERE name IS NOT NULL").fetchone()[0]
    whole, free = _pragma(source, "page_count") * page, _pragma(source, "freelist_count") * page
    return Examined(problems, messages, queues, whole, free, schema, newest)


def _broken(source: sqlite3.Connection, rules: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for sentence, rows in rules:
        if count := source.execute(f"SELECT count(*) FROM {rows}").fetchone()[0]:
            yield sentence.format(f"{count:,}")


def _wrong_configurations(source: sqlite3.Connection) -> Iterator[str]:
    for name, config in source.execute("SELECT name, config FROM queue WHERE name IS NOT NULL").fetchall():
        try:
            msgspec.json.decode(config, type=QueueConfig)
        except msgspec.MsgspecError as error:
            yield f"the configuration of queue {name} cannot be read: {error}"


def _by_status(source: sqlite3.Connection) -> dict[str, int]:
    counts = dict.fromkeys((status.value for status in STATUS_OF), 0)
    query = "SELECT state, count(*) FROM message WHERE queue_id IN (SELECT id FROM queue WHERE name IS NOT NULL)"
    for state, count in source.execute(f"{query} GROUP BY state").fetchall():
        counts[STATUS_OF[state].value] += count
    return counts


# -- write -------------------------------------------------------------------------------------------------------------


@contextmanager
def _writing(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """The one connection that writes, while no broker runs. Raises `DataDirUnusable` where one does."""
    _there(data_dir)
    lock = DirectoryLock(data_dir)
    try:
        with closing(open_writer(data_dir)) as connection:
            yield connection
    finally:
        lock.release()


def upgrade(data_dir: Path) -> Upgraded:
    """Bring the tables up to date, as the next start would; what was there before is copied first.

    Raises `DataDirUnusable` while a broker runs, and for data that a newer streambroker wrote; `DataDamaged`.
    """
    with _reading(data_dir) as source:
        before = _pragma(source, "user_version")
    known = set(data_dir.glob("backup-schema-*.db"))
    with _writing(data_dir) as connection:
        after = _pragma(connection, "user_version")
    made = sorted(set(data_dir.glob("backup-schema-*.db")) - known)
    return Upgraded(before, after, made[0] if made else None)


def compact(data_dir: Path) -> Compacted:
    """Write the database anew without the room that messages have left. Raises as `upgrade`.

    It takes as much room again as the messages need, for the time being, in the same directory.
    """
    path = _there(data_dir)
    before = path.stat().st_size
    with _writing(data_dir) as connection:
        in_use = (_pragma(connection, "page_count") - _pragma(connection, "freelist_count")) * _pragma(
            connection, "page_size"
        )
        # Once beside the file while it is put together, once in the write-ahead log.
        if (free := shutil.disk_usage(data_dir).free) < 2 * in_use + _SPARE_BYTES:
            raise DataDirUnusable(f"this takes room for {2 * in_use:,} bytes for a while, and there are {free:,}")
        os.environ["SQLITE_TMPDIR"] = str(data_dir.absolute())
        connection.execute("PRAGMA temp_store = file")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Compacted(before, path.stat().st_size)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
