"""The door to the log files: an admin reads what the listing names, and nothing else can be reached through it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from streambroker.core.access import Action, Grant, Principal, Role
from streambroker.core.errors import Forbidden, Invalid, NotFound, Unauthenticated
from streambroker.transport.http import Call, Reply
from streambroker.transport.logs import MAX_ANSWER, MAX_TAIL, LogsDoor

ADMIN = Principal("admin", Role.ADMIN, (), "s", None, "j")
MEMBER = Principal("mia", Role.MEMBER, (Grant("*", tuple(Action)),), "s", None, "j")
SECRET = "the content of a file that nobody may read"

ESCAPES = [
    *("../secret.log", "..%2fsecret.log", "....//secret.log", "..\\secret.log", "./streambroker.log", "logs/x.log"),
    *("../logs-of-others/other.log", "/etc/passwd", "//etc/passwd", "", ".", "..", "streambroker.log/", "a/../b.log"),
    *("streambroker.log\0", "streambroker.log\n", "\0.log", ".env", ".hidden.log", "jwt.key", "streambroker.db"),
    *("link.log", "pipe.log", "directory.log", "missing.log", "streambroker.log.bak", "STREAMBROKER.LOG", "ſ.log"),
    *("streambroker.log?", "streambroker.log#", "*.log", "%2e%2e/secret.log", "\u202e.log", "x" * 300 + ".log"),
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Log files, and around them what is none."""
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "streambroker.log").write_bytes(b"three\nfour\n")
    (logs / "streambroker.log.1").write_bytes(b"one\ntwo\n")
    for name in (".env", ".hidden.log", "jwt.key", "streambroker.db", "streambroker.log.bak", "notes.txt"):
        (logs / name).write_text(SECRET)
    (tmp_path / "secret.log").write_text(SECRET)
    (tmp_path / "logs-of-others").mkdir()
    (tmp_path / "logs-of-others/other.log").write_text(SECRET)
    (logs / "link.log").symlink_to(tmp_path / "secret.log")
    (logs / "directory.log").mkdir()
    os.mkfifo(logs / "pipe.log")
    return logs


def call(principal: Principal | None = ADMIN, name: str = "", query: str = "", **headers: str) -> Call:
    async def receive() -> Message:
        raise AssertionError("this door reads no body")

    scope: dict[str, Any] = {
        "streambroker.headers": {key.encode(): value.encode() for key, value in headers.items()},
        "streambroker.request_id": b"r-1",
        "path_params": {"filename": name},
        "query_string": query.encode(),
    }
    return Call(scope, receive, principal)


async def read(door: LogsDoor, name: str, query: str = "", **headers: str) -> bytes:
    return (await door.file(call(ADMIN, name, query, **headers))).body


def names(answer: Reply) -> list[str]:
    return [item["name"] for item in msgspec.json.decode(answer.body)["items"]]


async def test_the_listing_names_log_files_and_nothing_else(directory: Path) -> None:
    answer = await LogsDoor(directory).files(call())
    listed = msgspec.json.decode(answer.body)
    assert names(answer) == ["streambroker.log", "streambroker.log.1"]
    assert listed["next_cursor"] is None
    assert listed["items"][1].keys() == {"name", "size", "modified_at"} and listed["items"][1]["size"] == 8
    assert listed["items"][1]["modified_at"].endswith("Z")


async def test_the_listing_comes_in_pages(directory: Path) -> None:
    door = LogsDoor(directory)
    first = await door.files(call(query="limit=1"))
    assert names(first) == ["streambroker.log"]
    cursor = msgspec.json.decode(first.body)["next_cursor"]
    last = await door.files(call(query=f"limit=1&cursor={cursor}"))
    assert names(last) == ["streambroker.log.1"] and msgspec.json.decode(last.body)["next_cursor"] is None
    with pytest.raises(Invalid):
        await door.files(call(query="cursor=../x"))


async def test_a_file_is_read_as_text(directory: Path) -> None:
    answer = await LogsDoor(directory).file(call(name="streambroker.log"))
    assert answer == (200, b"three\nfour\n", ((b"content-type", b"text/plain; charset=utf-8"),))


async def test_a_range_is_not_looked_at(directory: Path) -> None:
    """D28: nor could thousands of them be asked for at once (CVE-2025-62727)."""
    answer = await LogsDoor(directory).file(call(name="streambroker.log", range="bytes=0-1,0-1,0-1"))
    assert (answer.status, answer.body) == (200, b"three\nfour\n")


@pytest.mark.parametrize("name", ESCAPES)
async def test_d28_what_the_listing_does_not_name_is_not_there(directory: Path, name: str) -> None:
    door = LogsDoor(directory)
    assert name not in names(await door.files(call()))
    with pytest.raises(NotFound) as refused:
        await asyncio.wait_for(door.file(call(name=name)), 10)
    assert str(directory.parent) not in refused.value.detail


@pytest.mark.parametrize("name", ["streambroker.log", *ESCAPES])
async def test_d28_who_is_no_admin_is_refused_whatever_is_asked(directory: Path, name: str) -> None:
    door = LogsDoor(directory)
    with pytest.raises(Forbidden):
        await door.file(call(MEMBER, name, "tail=x"))
    with pytest.raises(Forbidden):
        await door.files(call(MEMBER, query="limit=x"))
    with pytest.raises(Unauthenticated):
        await door.file(call(None, name))


async def test_d28_a_file_that_becomes_a_link_after_it_was_listed_is_not_followed(directory: Path) -> None:
    door = LogsDoor(directory)
    assert "streambroker.log" in names(await door.files(call()))
    (directory / "streambroker.log").unlink()
    (directory / "streambroker.log").symlink_to(directory.parent / "secret.log")
    with pytest.raises(NotFound):
        await read(door, "streambroker.log")


async def test_without_log_files_the_listing_is_empty(tmp_path: Path) -> None:
    for directory in (None, tmp_path / "missing", tmp_path):
        door = LogsDoor(directory)
        assert names(await door.files(call())) == []
        with pytest.raises(NotFound):
            await read(door, "streambroker.log")


@pytest.mark.parametrize(
    ("text", "tail", "lines"),
    [
        (b"", 3, b""),
        (b"one\n", 1, b"one\n"),
        (b"one\n", 2, b"one\n"),
        (b"one\ntwo\nthree\n", 2, b"two\nthree\n"),
        (b"one\ntwo\nthree\n", 3, b"one\ntwo\nthree\n"),
        (b"one\ntwo\nhalf a li", 2, b"two\nhalf a li"),
        (b"\n\n\n", 2, b"\n\n"),
    ],
)
async def test_the_tail_is_the_last_lines(tmp_path: Path, text: bytes, tail: int, lines: bytes) -> None:
    (tmp_path / "x.log").write_bytes(text)
    assert await read(LogsDoor(tmp_path), "x.log", f"tail={tail}") == lines


async def test_a_tail_may_be_longer_than_a_block_of_the_file(tmp_path: Path) -> None:
    lines = [b"%06d %s\n" % (number, b"x" * (number % 90)) for number in range(20_000)]
    (tmp_path / "x.log").write_bytes(b"".join(lines))
    door = LogsDoor(tmp_path)
    for tail in (1, 999, MAX_TAIL):
        assert await read(door, "x.log", f"tail={tail}") == b"".join(lines[-tail:])


@pytest.mark.parametrize("query", ["tail=0", f"tail={MAX_TAIL + 1}", "tail=x", "tail=-1", "head=1"])
async def test_a_wrong_tail_is_refused(directory: Path, query: str) -> None:
    with pytest.raises(Invalid):
        await read(LogsDoor(directory), "streambroker.log", query)


async def test_an_answer_is_bounded_and_begins_with_a_whole_line(tmp_path: Path) -> None:
    line = b"x" * 9_999 + b"\n"
    (tmp_path / "x.log").write_bytes(b"begin\n" + line * (MAX_ANSWER // len(line) + 10))
    door = LogsDoor(tmp_path)
    for query in ("", f"tail={MAX_TAIL}"):
        answer = await read(door, "x.log", query)
        assert MAX_ANSWER - len(line) <= len(answer) <= MAX_ANSWER
        assert answer == line * (len(answer) // len(line))
