"""Cursors of a browse: where the next page begins."""

from __future__ import annotations

from streambroker.core.errors import invalid
from streambroker.core.message import Message
from streambroker.core.names import format_id, parse_id

Position = tuple[int, int, int]


def position(message: Message) -> Position:
    """Where a message stands in a browse: by state, then in the order of delivery."""
    return message.state, -message.priority, message.id


def cursor(message: Message) -> str:
    """The opaque text after which the next page begins."""
    return f"{int(message.state)}{message.priority}{format_id(message.id)}"


def parse(text: str | None) -> Position | None:
    """The position that a cursor stands for; raises `Invalid` where it is none."""
    if text is None:
        return None
    number = parse_id(text[2:])
    if number is None or not text[:1].isdecimal() or not text[1:2].isdecimal() or not text.isascii():
        raise invalid("/cursor", "is not a cursor of this list; take the last answer's next_cursor")
    return int(text[0]), -int(text[1]), number
