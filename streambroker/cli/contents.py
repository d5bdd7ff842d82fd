"""What `publish` sends: arguments, lines and files, as JSON, text or bytes."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import msgspec

from streambroker.cli.exits import Exit, fail

Kind = Literal["auto", "json", "text", "raw"]
OCTETS = "application/octet-stream"


class Content(NamedTuple):
    """A message's content as the client takes it; `content_type` where raw bytes have one of their own."""

    value: Any
    content_type: str | None = None


def contents(arguments: Sequence[str], files: Sequence[Path], lines: bool, kind: Kind) -> Iterator[Content]:
    """The contents of one run: the arguments, then the files; ``-`` among either is stdin, line by line.

    Without both it is stdin, unless that is a terminal. `lines`: each line of a file is one, not the file. Ends the
    command for a file that cannot be read, and where `kind` is json for what is not.
    """
    if not arguments and not files:
        if sys.stdin.isatty():
            fail(Exit.USAGE, "there is nothing to publish: give contents, --file, or - for the lines of stdin")
        arguments = ("-",)
    for argument in arguments:
        if argument == "-":
            yield from _lines(_stdin(), "stdin", kind)
        else:
            yield content(argument.encode(errors="surrogateescape"), kind, "the argument")
    for file in files:
        yield from _file(file, lines, kind)


def content(body: bytes, kind: Kind, place: str, media_type: str | None = None) -> Content:
    """A content as its publisher means it.

    `auto`: JSON where it is JSON, else text, else (not UTF-8) bytes. JSON goes out byte for byte as it came.
    """
    if kind == "raw":
        return Content(body, media_type or OCTETS)
    if kind in ("auto", "json") and _is_json(body):
        return Content(msgspec.Raw(body.strip()))
    if kind == "json":
        fail(Exit.USAGE, f"{place} is not JSON; --as text sends it as a string")
    try:
        return Content(body.decode())
    except UnicodeDecodeError:
        if kind == "text":
            fail(Exit.USAGE, f"{place} is not UTF-8; --as raw sends it as it is")
        return Content(body, media_type or OCTETS)


def _is_json(body: bytes) -> bool:
    try:
        body.decode()  # msgspec does not look into what it passes over
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _file(file: Path, lines: bool, kind: Kind) -> Iterator[Content]:
    if str(file) == "-":
        if lines:
            yield from _lines(_stdin(), "stdin", kind)
        else:
            yield content(_stdin().read(), kind, "stdin")
        return
    try:
        with file.open("rb") as stream:
            if lines:
                yield from _lines(stream, str(file), kind)
            else:
                yield content(stream.read(), kind, str(file), mimetypes.guess_type(file.name)[0])
    except OSError as error:
        fail(Exit.UNREADABLE, f"{file} cannot be read: {error.strerror}")


def _stdin() -> IO[bytes]:
    """Stdin by a reader of our own: a thread that is stuck in `sys.stdin` would stop the interpreter from ending."""
    return open(0, "rb", closefd=False)


def _lines(stream: IO[bytes], name: str, kind: Kind) -> Iterator[Content]:
    """A content for each line that is not empty."""
    for number, line in enumerate(stream, 1):
        if body := line.rstrip(b"\r\n"):
            yield content(body, kind, f"line {number} of {name}")
