"""Names and ids: what they look like and how they are made."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

# `(?!\n)`: "$" alone lets a trailing newline through, and "\Z" is not known to JSON Schema's regular expressions.
QUEUE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$(?!\n)"
USERNAME = r"^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}$(?!\n)"
NO_NUL = r"^[^\x00]*$(?!\n)"
RULES = {
    QUEUE_NAME: "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit",
    USERNAME: "a user's name is 1 to 128 of A-Z a-z 0-9 . _ @ + - and begins with a letter, a digit or _",
    NO_NUL: "holds a NUL character",
}
"""What is wrong with a text that one of these does not match, for people."""
QueueName = Annotated[str, msgspec.Meta(pattern=QUEUE_NAME, description="Name of a queue.")]
_queue_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}").fullmatch
_message_id = re.compile(r"[0-7][0-9a-f]{15}").fullmatch

# An id is 42 bits of milliseconds since 1970 and 21 bits of a counter: time-ordered, and it fits the signed 64-bit key
# of SQLite and PostgreSQL, whose B-tree it only extends at the right edge (a third faster than a random key).
_COUNTER_BITS = 21


def is_queue_name(name: str) -> bool:
    """Whether `name` may name a queue."""
    return _queue_name(name) is not None


def format_id(number: int) -> str:
    """The opaque text of a message id; its order as text is its order as a number."""
    return f"{number:016x}"


def parse_id(text: str) -> int | None:
    """The number of a message id, or None where the text cannot be one."""
    return int(text, 16) if _message_id(text) else None


class IdSequence:
    """Makes message ids that only grow, also when the clock steps back; the owner is the broker's event loop."""

    def __init__(self, last: int = 0) -> None:
        self._last = last

    def take(self, count: int, now_ms: int) -> range:
        """`count` fresh ids in publish order."""
        first = max(self._last + 1, now_ms << _COUNTER_BITS)
        self._last = first + count - 1
        return range(first, first + count)
