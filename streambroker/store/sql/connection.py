"""Opening the one SQLite file: who may, with which settings, and whether what is in it is sound.

SQLite 3.7.0 to 3.51.2 can corrupt a file when two connections write or checkpoint at the same instant. So one
connection of one process writes and checkpoints; the lock file keeps other brokers off, readers are ``query_only``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from contextlib import closing
from importlib import resources
from pathlib import Path

from streambroker.core.errors import DataDamaged, DataDirUnusable

log = logging.getLogger(__name__)

DATABASE = "streambroker.db"
_LOCK = "streambroker.lock"
_SETTINGS = {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0, "foreign_keys": 0}
_WAL_LIMIT_BYTES = 64 * 1024 * 1024
_CACHE_KIB = 32 * 1024


class DirectoryLock:
    """Holds a data directory for this process until `release()`, or until the process is gone however it ends."""

    def __init__(self, data_dir: Path) -> None:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            _warn_of_others(data_dir)
            self._fd = os.open(data_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirUnusable(f"the data directory {data_dir} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise DataDirUnusable(
                f"another broker (pid {holder}) holds the data directory {data_dir}; stop it or use another --data-dir"
            ) from None
        with contextlib.suppress(OSError):  # a courtesy to whoever comes next, and no reason to fail on a full disk
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next broker in."""
        os.close(self._fd)


def pid_of_holder(data_dir: Path) -> str | None:
    """The process that holds the directory, as it says itself; None where none does. Nothing is made or changed."""
    try:
        descriptor = os.open(data_dir / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(descriptor)
    return None


def _warn_of_others(data_dir: Path) -> None:
    """A directory that was there keeps its mode, which may be meant; what the broker puts into it is private anyhow."""
    mode = data_dir.stat().st_mode & 0o777
    if mode & 0o077:
        log.warning("others may look into the data directory %s (mode %03o); chmod 700 is advised", data_dir, mode)


def _make_private(path: Path) -> None:
    """An empty file that is nobody else's from the beginning, for SQLite to fill: it would make one by the umask."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)


def open_writer(data_dir: Path) -> sqlite3.Connection:
    """The one connection that writes: settings set and checked, the file checked and migrated.

    Raises `DataDamaged` where the file is not sound (nothing is changed then) and `DataDirUnusable` where it cannot be
    opened.
    """
    path = data_dir / DATABASE
    _check(path)
    try:
        _make_private(path)  # the log and its index take its mode
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    except (sqlite3.Error, OSError) as error:
        raise DataDirUnusable(f"{path} cannot be opened: {error}") from error
    try:
        # Fixed with the first table. Incremental: the file can give room back to a full disk.
        if not path.stat().st_size:
            connection.execute("PRAGMA auto_vacuum = 2")
        _configure(connection)
        migrate(connection, data_dir)
    except sqlite3.OperationalError as error:
        connection.close()
        raise DataDirUnusable(f"{path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DataDamaged(f"{path} is damaged: {error}; restore a backup") from error
    return connection


def _check(path: Path) -> None:
    """Read all of the file. On a connection of its own that cannot write: the last one that can would, when it closes,
    move the write-ahead log into a file that is damaged."""
    if not path.exists() or not path.stat().st_size:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:  # SQLite would take the file for a new one, and delete the log
            raise DataDamaged(f"{path} is empty, but there is a write-ahead log of it; nothing was changed")
        return
    try:
        if path.with_name(f"{path.name}-journal").exists():
            # The first start died before the file had its write-ahead log: only a writer can roll that back.
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found == "ok":
            found = missing_end(path) or "ok"
    except (sqlite3.OperationalError, OSError) as error:
        raise DataDirUnusable(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        found = error
    if found != "ok":
        raise DataDamaged(f"{path} is damaged: {found}; restore a backup, nothing was changed")


def missing_end(path: Path) -> str | None:
    """What is wrong where the end of the file is cut off, which SQLite's own check does not see."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return None  # the last pages may still be in there
    with path.open("rb") as file:
        header = file.read(100)
    page = int.from_bytes(header[16:18], "big")
    if page == 0:
        return None  # nothing was ever written: SQLite sees an empty file
    page = 65_536 if page == 1 else page
    due = page * int.from_bytes(header[28:32], "big")
    size = path.stat().st_size
    return None if size >= due and size % page == 0 else f"it has {size:,} bytes and should have {due:,}"


def _configure(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute("PRAGMA temp_store = memory")
    # Debian's SQLite writes zeros over what is deleted, into the log: a purge would need as much room as it makes, and
    # on a full disk could not be. Where it costs nothing, zeros are written still.
    connection.execute("PRAGMA secure_delete = FAST")
    for name, value in _SETTINGS.items():
        connection.execute(f"PRAGMA {name} = {value}")
    for name, value in _SETTINGS.items():
        got = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if got != value:
            raise sqlite3.OperationalError(f"PRAGMA {name} is {got!r} and not {value!r} on this file system")


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, each a script; the number is the file's `user_version` after it."""
    folder = resources.files("streambroker.store.sql") / "migrations"
    scripts = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [(int(entry.name[:4]), entry.read_text()) for entry in scripts]


def migrate(connection: sqlite3.Connection, data_dir: Path, scripts: list[tuple[int, str]] | None = None) -> None:
    """Bring the file up to date, each step in one transaction, with a copy of what was there before it."""
    steps = migrations() if scripts is None else scripts
    version = found = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > steps[-1][0]:
        raise sqlite3.OperationalError(f"it was written by a newer streambroker (schema {version}); use that one")
    for number, script in steps:
        if number <= version:
            continue
        backup = _back_up(connection, data_dir, version) if found else None
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            # Nothing was changed. A broker that is started again and again must not fill the disk with copies.
            if backup and any(copy != backup for copy in data_dir.glob(f"backup-schema-{version}-*.db")):
                backup.unlink()
            raise
        version = number


def _back_up(connection: sqlite3.Connection, data_dir: Path, version: int) -> Path:
    """A whole copy of the file as it is now; until it is whole it has another name, which the next try takes again."""
    backup, part = data_dir / f"backup-schema-{version}-{int(time.time())}.db", data_dir / "backup-schema.part"
    part.unlink(missing_ok=True)
    _make_private(part)
    connection.execute("VACUUM INTO ?", (str(part),))
    return part.replace(backup)
