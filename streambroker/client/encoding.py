"""A draft as JSON, and what is wrong with one that is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from streambroker.client.models import Draft, wire_draft

_encode = msgspec.json.Encoder().encode


def encoded(draft: Draft) -> bytes:
    """A draft as JSON doors and frames take it; raw content goes as base64.

    Raises `TypeError` for what JSON in UTF-8 cannot say: an object of a kind that it does not know, a lone surrogate,
    NaN or an infinite number. For the last three the error begins with where it is, an RFC 6901 pointer.
    """
    raw = isinstance(draft.content, bytes | bytearray | memoryview)
    try:
        # Members are left out where they are None, as `wire_draft` does, and faster.
        text = _encode(wire_draft(draft) if raw else draft)
    except UnicodeEncodeError as error:
        raise TypeError(f"{_first(draft, raw)} is not Unicode: it holds half of a surrogate pair") from error
    # What is not finite becomes null, silently; so only what holds one need be searched.
    if b"null" in text and (pointer := _first(draft, raw)):
        raise TypeError(f"{pointer} is NaN or infinite, and JSON has no such number")
    return text


def check_options(draft: Draft) -> None:
    """Raises as `encoded` for what is beside the content."""
    if pointer := _first(draft, raw=True):
        raise TypeError(f"{pointer} is nothing that JSON can say: not Unicode, or no finite number")


def _first(draft: Draft, raw: bool) -> str:
    """The pointer to the first value that JSON in UTF-8 cannot say; empty where there is none."""
    for name in draft.__struct_fields__:
        value = getattr(draft, name)
        if name != "content" or not raw:
            for pointer in _unsayable(msgspec.to_builtins(value, builtin_types=(msgspec.Raw,)), f"/{name}"):
                return pointer
    return ""


def _unsayable(value: Any, pointer: str) -> Iterator[str]:
    match value:
        case str():
            if not _is_unicode(value):
                yield pointer
        case float():
            if not math.isfinite(value):
                yield pointer
        case dict():
            for key, member in value.items():
                name = str(key)
                if not _is_unicode(name):
                    yield f"{pointer}/{name.encode(errors='backslashreplace').decode()}"
                yield from _unsayable(member, f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}")
        case list() | tuple() | set() | frozenset():
            for index, member in enumerate(value):
                yield from _unsayable(member, f"{pointer}/{index}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
