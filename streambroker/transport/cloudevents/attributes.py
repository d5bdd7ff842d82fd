"""What the attributes of a CloudEvent are called, and what they may hold (core specification, 1.0.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from streambroker.core.errors import invalid

SPEC_VERSION = "1.0"
PREFIX = "ce-"
REQUIRED = ("specversion", "id", "source", "type")
OWN = ("sbmessageid", "sbqueue", "sbattempt", "sblease")
"""Extensions that the broker adds to the events of a batch, which has no headers for each; never kept."""
Value = str | int | bool
Attributes = dict[str, Value]

_NOT_ATTRIBUTES = frozenset({"data", "data_base64", "datacontenttype"})
_NAME = re.compile(r"[a-z0-9]+").fullmatch
# Control characters, halves of surrogate pairs, and what Unicode calls noncharacters.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
    + "]"
).search
# RFC 3986, and what RFC 3987 adds: many producers name things in their own language.
_URI_REFERENCE = re.compile(r"(?:[^\s<>\"{}|\\^`%]|%[0-9A-Fa-f]{2})+").fullmatch
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.").match
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*(?:;.*)?").fullmatch
_VISIBLE = re.compile(r"[\t -~]*").fullmatch
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_JSON_TYPE = re.compile(r"[^/;]+/(?:[^;]*\+)?json\s*(?:;.*)?", re.IGNORECASE).fullmatch
_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


def is_json(media_type: str | None) -> bool:
    """Whether data of that type is JSON; it is where nothing else is said."""
    return media_type is None or _JSON_TYPE(media_type) is not None


def check(attributes: Mapping[str, object], pointer: Callable[[str], str]) -> None:
    """Raise `Invalid` where it lacks an attribute or one does not hold what it must; `pointer` points to one."""
    for name in REQUIRED:
        if name not in attributes:
            raise invalid(pointer(name), f"the event has no {name}")
    for name, value in attributes.items():
        if (fault := fault_of(name, value)) is not None:
            raise invalid(pointer(name), fault)


def fault_of(name: str, value: object) -> str | None:
    """What is wrong with an attribute, None where nothing is."""
    if name in _NOT_ATTRIBUTES or _NAME(name) is None:
        return "is no name of an attribute: those are of a-z and 0-9"
    if isinstance(value, str):
        if _FORBIDDEN(value):
            return "holds a control character, half of a surrogate pair, or what is no character"
        return _TESTS[name](value) if name in _TESTS else None
    if name in _TESTS or not isinstance(value, int):
        return "must be a string" if name in _TESTS else "must be a string, an integer, true or false"
    if not _SMALLEST <= value <= _LARGEST:
        return "is no integer of 32 bits"
    return None


def check_media_type(value: object, pointer: str) -> None:
    """Raise `Invalid` where that cannot be `datacontenttype`."""
    if not isinstance(value, str) or _MEDIA_TYPE(value) is None or not _VISIBLE(value) or len(value) > 512:
        raise invalid(pointer, "must be a media type, such as application/json")


def _version(value: str) -> str | None:
    return None if value == SPEC_VERSION else f"must be {SPEC_VERSION!r}: other versions are not taken"


def _text(value: str) -> str | None:
    return None if value else "must not be empty"


def _reference(value: str) -> str | None:
    return None if _URI_REFERENCE(value) else "must be a URI reference, and not empty"


def _uri(value: str) -> str | None:
    return None if _URI_REFERENCE(value) and _SCHEME(value) else "must be an absolute URI"


def _time(value: str) -> str | None:
    wrong = "must be a time as in RFC 3339, such as 2026-11-22T10:13:00Z"
    if (parts := _TIME(value)) is None:
        return wrong
    day, minutes, second, _, zone = parts.groups()
    second = "59" if second == "60" else second  # a leap second
    try:
        datetime.fromisoformat(f"{day}T{minutes}{second}{zone.upper()}")
    except ValueError:
        return wrong
    return None


_TESTS: Mapping[str, Callable[[str], str | None]] = {
    "specversion": _version,
    "id": _text,
    "source": _reference,
    "type": _text,
    "subject": _text,
    "dataschema": _uri,
    "time": _time,
}
