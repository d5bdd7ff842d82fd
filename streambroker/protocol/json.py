"""JSON as the broker takes it: strict outside, untouched inside.

Envelopes are decoded into types; a message's content is only checked and cut out, byte for byte. Faults become the
contract's errors with an RFC 6901 pointer to the place.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Generic, TypeVar

import msgspec

from streambroker.core.errors import BrokerError, FieldError, Invalid, Malformed, invalid
from streambroker.core.names import RULES

T = TypeVar("T")

MAX_DEPTH = 1_024
# msgspec counts nesting against the interpreter's recursion limit, whose default (1,000) is below what we promise.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5 * MAX_DEPTH))

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE = re.compile(
    r"\\(?:(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_MAYBE_LONE = re.compile(r"\\u[dD][89a-fA-F]")
_AT = re.compile(r" - at `\$(.*)`$")
_FIELD = re.compile(r"(?:unknown field|required field) `(.*?)`")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")

_IN_WORDS = {f"Expected `str` matching regex {pattern!r}": said for pattern, said in RULES.items()}

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


class JsonDecoder(Generic[T]):
    """Decodes one type. Raises `Malformed` for what is not JSON in UTF-8, `Invalid` for what does not fit the type."""

    def __init__(self, type_: Any) -> None:
        self._decode = msgspec.json.Decoder(type_).decode

    def __call__(self, text: bytes | str) -> T:
        if isinstance(text, bytes) and not text.isascii():
            try:
                text.decode()  # msgspec does not look into what it passes over
            except UnicodeDecodeError as error:
                raise Malformed(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
        try:
            value: T = self._decode(text)
        except msgspec.ValidationError as error:
            raise _not_fitting(text, str(error)) from None
        except msgspec.DecodeError as error:
            value = self._with_lone_surrogates(text, error)
        except RecursionError:
            raise too_deep() from None
        if _openers(text) > MAX_DEPTH:
            for pointer, content in _contents(value, ""):
                check_depth(content, pointer)
        return value

    def _with_lone_surrogates(self, text: bytes | str, error: msgspec.DecodeError) -> T:
        """msgspec refuses an escaped lone surrogate; in content RFC 8259 §8.2 allows it and we carry it.

        Each is put out of sight behind a marker and put back in content afterwards. No client can write a marker: it
        holds the digest of the whole text.
        """
        body = text.decode() if isinstance(text, bytes) else text
        if not _MAYBE_LONE.search(body):
            raise Malformed(f"the body is not JSON: {error}") from None
        marker = f"lone-{hashlib.blake2b(body.encode(), digest_size=16).hexdigest()}-"

        def hide(found: re.Match[str]) -> str:
            return f"{marker}{found['lone']};" if found["lone"] else found[0]

        hidden = _ESCAPE.sub(hide, body)
        try:
            value: T = self._decode(hidden)
        except msgspec.ValidationError as other:
            raise _not_fitting(hidden, str(other)) from None
        except msgspec.DecodeError as other:
            raise Malformed(f"the body is not JSON: {other}") from None
        except RecursionError:
            raise too_deep() from None
        _put_back(value, re.compile(marker + "(u[0-9a-fA-F]{4});"), "")
        return value


def _put_back(value: Any, marker: re.Pattern[str], pointer: str) -> None:
    """Restore hidden surrogates in raw members, which are content; in headers and anything decoded they are refused."""
    members: list[tuple[Any, Any]] = []
    if isinstance(value, msgspec.Struct):
        members = [(name, getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, list):
        members = list(enumerate(value))
    elif isinstance(value, dict):
        members = list(value.items())
    for name, member in members:
        if isinstance(member, msgspec.Raw) and name != "headers":
            restored = msgspec.Raw(marker.sub(r"\\\1", bytes(member).decode()).encode())
            if isinstance(value, list | dict):
                value[name] = restored
            else:
                msgspec.structs.force_setattr(value, name, restored)
        else:
            _put_back(member, marker, f"{pointer}/{name}")
    if isinstance(value, str | msgspec.Raw) and marker.search(
        value if isinstance(value, str) else bytes(value).decode()
    ):
        raise invalid(pointer, "holds half of a surrogate pair; only content may")


def check_depth(content: bytes, pointer: str = "") -> None:
    """Raise `Invalid` where JSON nests deeper than `MAX_DEPTH`."""
    if _openers(content) <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", content).translate(None, _NOT_BRACKET)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise too_deep(pointer)


def _openers(text: bytes | str) -> int:
    """An upper bound of the depth that costs next to nothing: how many brackets open."""
    return text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")


def _contents(value: Any, pointer: str) -> Iterator[tuple[str, bytes]]:
    """All raw members of a decoded value, with their pointers."""
    if isinstance(value, msgspec.Raw):
        yield pointer, bytes(value)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _contents(getattr(value, name), f"{pointer}/{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _contents(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _contents(item, f"{pointer}/{name}")


def too_deep(pointer: str = "") -> Invalid:
    """The error of JSON that nests too deep."""
    return invalid(pointer, f"JSON nests deeper than {MAX_DEPTH:,} levels")


def _not_fitting(body: bytes | str, text: str) -> BrokerError:
    """msgspec's "Expected `int`, got `str` - at `$.a[0]`" as our error; it stops there, so the rest may not be JSON."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        if not _MAYBE_LONE.search(body if isinstance(body, str) else body.decode()):
            return Malformed(f"the body is not JSON: {error}")
    except RecursionError:
        return too_deep()
    pointer = ""
    if at := _AT.search(text):
        text = text[: at.start()]
        parts = [name or index for name, index in _PART.findall(at[1])]
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)
    text = _IN_WORDS.get(text, text)
    if field := _FIELD.search(text):
        pointer += "/" + field[1].replace("~", "~0").replace("/", "~1")
    return Invalid(f"{pointer or 'the body'}: {text}", errors=[FieldError(pointer, text)])
