"""Scalars that GraphQL does not have by itself."""

from __future__ import annotations

from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from msgspec import Raw

from streambroker.transport.graphql.verbatim import SCALAR, literal

Json = NewType("Json", Raw)
Long = NewType("Long", int)
Time = NewType("Time", str)

_LARGEST = 2**53 - 1


def _verbatim(value: Any) -> Any:
    if isinstance(value, Raw):
        return value
    raise GraphQLError("JSON is given as text")


def _whole(value: Any) -> int:
    """A whole number that every JSON reader can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    raise GraphQLError("Long takes whole numbers up to 2^53")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise GraphQLError("Time takes a string such as 2026-11-22T10:13:00.123Z")


SCALARS: dict[object, Any] = {
    Json: strawberry.scalar(
        name=SCALAR,
        description="Any JSON value, kept byte for byte: numbers of any size, the order of names, escapes.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=_verbatim,
        parse_value=_verbatim,
        parse_literal=literal,
    ),
    Long: strawberry.scalar(
        name="Long",
        description="A whole number up to 2^53; Int ends at 2^31, which as milliseconds are 24 days.",
        serialize=_whole,
        parse_value=_whole,
    ),
    Time: strawberry.scalar(
        name="Time",
        description="A time such as 2026-11-22T10:13:00.123Z: UTC with milliseconds.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_text,
        parse_value=_text,
    ),
}
