"""What must never stand in a log line is taken out of it: by the name it goes under, and by how it looks.

It errs on the side of the mask: a harmless word lost from a sentence costs less than a password kept. The patterns are
bounded, so that a hostile text takes time in proportion to its length and no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]

MASK = "***"
MAX_TEXT = 8 * 1024
MAX_EXCEPTION = 32 * 1024
_MAX_ITEMS, _MAX_DEPTH = 100, 6
_SHORTEST_SECRET = 8
"""A shorter setting is not looked for by its value: "admin" as a password would mask every mention of the user."""

_NAMES = r"passwords?|passwd|pwd|secret|token|api[_-]?key|private[_-]?key|credential"
_secret_name = lru_cache(1_024)(re.compile(rf"{_NAMES}|authorization|cookie", re.IGNORECASE).search)

# A value as JSON, Python's repr or a query string writes it; also one whose end was cut off, and one in JSON in JSON.
_VALUE = (
    r"""(?:b?"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|b?'(?:[^'\\]|\\.)*+(?:'|\\?\Z)"""
    r"""|(?P<quote>\\+["']).*?(?:(?<!\\)(?P=quote)|\Z)|[^\s&]+)"""
)
_BETWEEN = r"""(?:\\{0,8}["']?\s{0,8}[:=]|\\{0,8}["']\s{0,8},)\s{0,8}"""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A header whose value has several words: all of it, to the end of the quotation or of the line.
    (
        re.compile(rf"((?:authorization|cookie){_BETWEEN})(?:b?\"[^\"]*+\"?|b?'[^']*+'?|[^\r\n\"']+)", re.I),
        rf"\1{MASK}",
    ),
    (re.compile(r"(\bbearer[\s.:=]{1,8})[^\s\"',;]+", re.I), rf"\1{MASK}"),
    (re.compile(rf"((?:{_NAMES})[\w-]{{0,32}}+{_BETWEEN}){_VALUE}", re.I | re.S), rf"\1{MASK}"),
    # A JWT begins with {" in base64; so does its head alone, and one without a signature.
    (re.compile(r"eyJ[\w-]{6,}(?:\.[\w-]*)*", re.A), MASK),
    (re.compile(r"(sb[kr]_)[\w-]+", re.A), rf"\1{MASK}"),
    (re.compile(r"(whsec_)[\w+/=-]+", re.A), rf"\1{MASK}"),
    (re.compile(r"(://[^\s/:@]{0,256}:)[^\s/]{1,256}@"), rf"\1{MASK}@"),
    (re.compile(r"(?<=[\w/.%~*-])\?[^\s\"']+"), rf"?{MASK}"),
    # SQLAlchemy adds what was bound to the statement, payloads among it.
    (re.compile(r"(\[parameters: ).*?(?=\]\n\(Background|\Z)", re.S), rf"\1{MASK}"),
)
# One of these stands in every text that a pattern could change, so that most texts are searched once.
_suspicious = re.compile(
    r"passw|pwd|secret|token|key|credential|authorization|cookie|bearer|eyj|sb[kr]_|whsec_|://|\?|\[parameters", re.I
).search


class Redaction:
    """Makes plain data fit for a log out of anything. `secrets` are masked wherever they stand, by their very text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in _forms(secret)}
        longest_first = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if known else None

    def event(self, event: Mapping[str, object]) -> dict[str, Plain]:
        """A line's fields without secrets, as data that nobody else can change any more."""
        plain = self._mapping(event, 0)
        if isinstance(exception := event.get("exception"), str):
            # What went wrong stands at its end.
            plain["exception"] = self.text(exception[-2 * MAX_EXCEPTION :])[-MAX_EXCEPTION:]
        return plain

    def text(self, text: str) -> str:
        """The text with every secret masked."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if _suspicious(text):
            for pattern, instead in _PATTERNS:
                text = pattern.sub(instead, text)
        return text

    def _mapping(self, mapping: Mapping[object, object] | Mapping[str, object], depth: int) -> dict[str, Plain]:
        return {
            (name := self._short(str(key))): self._named(name, value, depth)
            for key, value in islice(mapping.items(), _MAX_ITEMS)
        }

    def _named(self, name: str, value: object, depth: int) -> Plain:
        if value is not None and not isinstance(value, bool) and _secret_name(name):
            return MASK
        return self._plain(value, depth + 1)

    def _plain(self, value: object, depth: int) -> Plain:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self._short(value)
            case _ if depth > _MAX_DEPTH:
                return "…"
            case Mapping():
                return self._mapping(value, depth)
            case list() | tuple() | set() | frozenset():
                return self._sequence(list(islice(value, _MAX_ITEMS)), depth)
            case _:
                return self._short(_told(value))

    def _sequence(self, values: list[object], depth: int) -> list[Plain]:
        # A header is a pair: its name tells what its value is.
        if len(values) == 2 and isinstance(name := values[0], str | bytes) and _secret_name(_told(name)):
            return [self._plain(name, depth + 1), MASK]
        return [self._plain(value, depth + 1) for value in values]

    def _short(self, text: str) -> str:
        # Cut before it is searched, so that a long text costs little; and a little late, for masks make it shorter.
        masked = self.text(text[: 2 * MAX_TEXT])
        if len(text) <= 2 * MAX_TEXT and len(masked) <= MAX_TEXT:
            return masked
        return f"{masked[:MAX_TEXT]}… ({len(text)} characters)"


def printable(text: str) -> str:
    """The text with all that steers a terminal, or forges a line, written out as an escape; tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def _forms(secret: str) -> tuple[str, ...]:
    return secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]


def _told(value: object) -> str:
    try:
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"
