"""An engine over an SQLite file of its own, without threads around it, to look behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streambroker.core.errors import (
    StorageFailed,
)
from streambroker.core.message import Draft, State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import (
    Command,
    Depth,
    SaveQueue,
)
from streambroker.store.sql.connection import DATABASE, open_writer
from streambroker.store.sql.engine import SqliteEngine
from tests.store.subjects import START, Bench, SpecificationSubject, ids


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
