"""The door to the broker's log files, for admins: only what the listing names can be read."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from streambroker.core.access import require_admin
from streambroker.core.errors import NotFound, invalid
from streambroker.protocol.times import rfc3339
from streambroker.transport import schemas
from streambroker.transport.http import Call, Endpoint, Reply, reply

MAX_ANSWER = 16 * 1024 * 1024
MAX_TAIL = 10_000
ANY_FILE = "/logs/{filename:path}"
"""Also names with slashes in them: whoever asks for one is judged here as well, a path in disguise or not."""
_BLOCK = 64 * 1024
_is_log = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.log(?:\.[0-9]{1,3})?").fullmatch


class LogFile(msgspec.Struct, frozen=True):
    """A log file: `.log` is the current one, `.log.1` the one before it. `size` in bytes."""

    name: str
    size: int
    modified_at: str


class LogFiles(msgspec.Struct, frozen=True):
    """A page of log files."""

    items: list[LogFile]
    next_cursor: str | None = None


class TailQuery(schemas.Body, frozen=True):
    """How many of the last lines; without it all, though at most the last 16 MiB."""

    tail: Annotated[int, msgspec.Meta(ge=1, le=MAX_TAIL)] | None = None


class LogsDoor:
    """Handlers over one directory; None where no log files are kept.

    Names are looked up in the open directory itself and never followed anywhere: not up, not through a link.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    async def files(self, call: Call) -> Reply:
        """The log files that there are, by name."""
        require_admin(call.user)
        page = call.options(schemas.ListQuery)
        after = page.cursor or ""
        if page.cursor is not None and not _is_log(after):
            raise invalid("/cursor", "is not a cursor of this list; take the last answer's next_cursor")
        found = [file for file in await asyncio.to_thread(self._list) if file.name > after]
        items = found[: page.limit]
        return reply(LogFiles(items, items[-1].name if len(found) > len(items) else None))

    async def file(self, call: Call) -> Reply:
        """The lines of a log file as text, each a JSON object; `Range` is not looked at."""
        require_admin(call.user)
        name = call.params["filename"]
        # First of all, so that a name that there cannot be is 404 whatever else is asked.
        if not _is_log(name):
            raise _no_such_file()
        asked = call.options(TailQuery)
        lines = await asyncio.to_thread(self._read, name, asked.tail)
        return Reply(200, lines, ((b"content-type", b"text/plain; charset=utf-8"),))

    def endpoints(self) -> list[Endpoint]:
        """What this door serves; `ANY_FILE` leads to the second of them as well."""
        return [
            Endpoint("GET", "/logs", self.files, "Log files", answers={200: LogFiles}, query=schemas.ListQuery),
            Endpoint("GET", "/logs/{filename}", self.file, "A log file", answers={200: str}, query=TailQuery),
        ]

    def _list(self) -> list[LogFile]:
        try:
            with self._opened() as directory, os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries)
                return [found for name in names if (found := _look(directory, name))]
        except OSError:
            return []

    def _read(self, name: str, tail: int | None) -> bytes:
        """The end of a file; raises `NotFound` where it is none of the listing."""
        # O_NONBLOCK: a pipe of that name would otherwise be waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with self._opened() as directory:
                file = os.open(name, flags, dir_fd=directory)
        except OSError:
            raise _no_such_file() from None
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise _no_such_file()
            return _everything(file, about.st_size) if tail is None else _last(file, about.st_size, tail)
        finally:
            os.close(file)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        if self._directory is None:
            raise FileNotFoundError
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _no_such_file() -> NotFound:
    return NotFound("there is no such log file; GET /logs lists them")


def _look(directory: int, name: str) -> LogFile | None:
    """The file of that name, if it is a log; None also where it has just been replaced by a newer one."""
    if not _is_log(name):
        return None
    try:
        about = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode):
        return None
    return LogFile(name, about.st_size, rfc3339(about.st_mtime_ns // 1_000_000))


def _everything(file: int, size: int) -> bytes:
    """The whole file, or the last lines that fit into an answer."""
    start = max(0, size - MAX_ANSWER)
    text = os.pread(file, size - start, start)
    return text[text.find(b"\n") + 1 :] if start else text


def _last(file: int, size: int, lines: int) -> bytes:
    """The last lines, as many as asked for and fit into an answer; read from the end, so no more than that is read."""
    blocks: list[bytes] = []
    floor, at, seen = max(0, size - MAX_ANSWER), size, 0
    while at > floor and seen <= lines:
        step = min(_BLOCK, at - floor)
        at -= step
        blocks.append(os.pread(file, step, at))
        seen += blocks[-1].count(b"\n")
    text = b"".join(reversed(blocks))
    begin = len(text) - text.endswith(b"\n")
    for _ in range(lines):
        begin = text.rfind(b"\n", 0, begin)
        if begin < 0:
            return text[text.find(b"\n") + 1 :] if at else text
    return text[begin + 1 :]
