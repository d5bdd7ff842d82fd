"""What the disk and SQLite allow without a broker: ``python -m bench.floors FLOOR COUNT BYTES DIRECTORY``.

Each runs in a process of its own, as a server's client does, and prints a JSON object.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from pathlib import Path

import msgspec

from bench.numbers import percentile

BLOCK = 4096
"""Bytes of one append: the smallest thing a disk writes."""
COMMIT_ROWS = 1_000


def append_sync(directory: Path, count: int) -> dict[str, float]:
    """Milliseconds of one 4 KiB append and fdatasync, ``count`` times, p50 and p99."""
    block = os.urandom(BLOCK)
    file = os.open(directory / "append", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    took = []
    try:
        for _ in range(count):
            start = time.perf_counter()
            os.write(file, block)
            os.fdatasync(file)
            took.append(time.perf_counter() - start)
    finally:
        os.close(file)
    took.sort()
    return {"p50_ms": percentile(took, 0.5) * 1e3, "p99_ms": percentile(took, 0.99) * 1e3}


PLAIN = "id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, content BLOB NOT NULL"
FULL = """
    id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, content BLOB NOT NULL, state INTEGER NOT NULL,
    attempt INTEGER NOT NULL, failures INTEGER NOT NULL, max_attempts INTEGER, priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, available_at INTEGER NOT NULL, expires_at INTEGER,
    lease TEXT, error TEXT, "key" TEXT, attributes BLOB
"""
_ROW = (0, 0, 0, None, 0, 1_795_000_000_000, 1_795_000_000_000, 1_795_000_000_000, None, None, None, None, None)


def sqlite_insert(directory: Path, count: int, size: int, *, full: bool) -> dict[str, float]:
    """Rows per second of stdlib ``executemany`` into a WAL database, synchronous=FULL, 1,000 rows a commit.

    ``full`` inserts what a message broker must know of a message, with one index for the order of delivery; otherwise
    three columns and no index.
    """
    database = sqlite3.connect(directory / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"CREATE TABLE message ({FULL if full else PLAIN})")
    if full:
        database.execute("CREATE INDEX ready ON message (queue, state, priority DESC, id)")
    tail = _ROW if full else ()
    insert = f"INSERT INTO message VALUES ({', '.join('?' * (3 + len(tail)))})"
    body = os.urandom(size)
    start = time.perf_counter()
    for at in range(0, count, COMMIT_ROWS):
        rows = [(number, 1, body, *tail) for number in range(at, min(at + COMMIT_ROWS, count))]
        database.execute("BEGIN IMMEDIATE")
        database.executemany(insert, rows)
        database.execute("COMMIT")
    seconds = time.perf_counter() - start
    database.close()
    return {"rows_per_s": count / seconds}


def main() -> None:
    """Measure the floor of the command line."""
    floor, count, size, directory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    if floor == "append":
        measured = append_sync(directory, count)
    else:
        measured = sqlite_insert(directory, count, size, full=floor == "sqlite")
    sys.stdout.buffer.write(msgspec.json.encode(measured))


if __name__ == "__main__":
    main()
