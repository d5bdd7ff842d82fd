"""Look into a JSON text without decoding it, to compare the bytes of a value as they were on the wire.

A scanner of a few lines and not a parser: a parser would lose what these tests are about (white space, escapes, huge
numbers, duplicate keys), and most of them give up before a depth of 1,024.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\[\]{}:\"]+")
_BRACKET = re.compile(_STRING.pattern + rb"|[\[\]{}]", re.DOTALL)


def member(text: bytes | str, *path: str | int) -> bytes:
    """The exact bytes of the value at ``path`` (keys of objects, indexes of arrays)."""
    data = text.encode() if isinstance(text, str) else text
    start, end = _value(data, 0)
    for step in path:
        for key, first, last in _children(data, start):
            if key == step:
                start, end = first, last
                break
        else:
            raise KeyError(f"no {step!r} in {data[start:end][:300]!r}")
    return data[start:end]


def _skip(data: bytes, at: int) -> int:
    match = _SPACE.match(data, at)
    assert match is not None
    return match.end()


def _value(data: bytes, at: int) -> tuple[int, int]:
    start = _skip(data, at)
    if data[start : start + 1] in (b"{", b"["):
        depth, at = 0, start
        while True:
            match = _BRACKET.search(data, at)
            assert match is not None, "an open bracket is never closed"
            at = match.end()
            if match[0] in (b"{", b"["):
                depth += 1
            elif match[0] in (b"}", b"]"):
                depth -= 1
                if not depth:
                    return start, at
    match = (_STRING if data[start : start + 1] == b'"' else _SCALAR).match(data, start)
    assert match is not None, data[start : start + 100]
    return start, match.end()


def _children(data: bytes, start: int) -> Iterator[tuple[str | int, int, int]]:
    is_object = data[start : start + 1] == b"{"
    at = _skip(data, start + 1)
    index = 0
    while data[at : at + 1] not in (b"}", b"]"):
        key: str | int = index
        if is_object:
            first, last = _value(data, at)
            key = json.loads(data[first:last])
            at = _skip(data, last) + 1  # past the colon
        first, last = _value(data, at)
        yield key, first, last
        index += 1
        at = _skip(data, last)
        if data[at : at + 1] == b",":
            at = _skip(data, at + 1)
