"""REST's answers, read as GraphQL's types."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from streambroker.transport.graphql.types import MessageGQL, MessagePage
from streambroker.transport.graphql.verbatim import items, members

_message = msgspec.json.Decoder(MessageGQL).decode
_cursor = msgspec.json.Decoder(str | None).decode


def message(text: str) -> MessageGQL:
    """A message. Its content is cut out and not decoded: it may hold what decoders refuse, such as lone surrogates."""
    parts = members(text)
    content, parts["content"] = parts["content"], "null"
    read = _message("{" + ",".join(f'"{name}":{value}' for name, value in parts.items()) + "}")
    read.content = Raw(content.encode())
    return read


def message_or_none(answer: bytes) -> MessageGQL | None:
    """What a consume of one answers."""
    return None if answer == b"null" else message(answer.decode())


def messages(answer: bytes) -> list[MessageGQL]:
    """What a consume of many answers."""
    return [message(item) for item in items(members(answer.decode())["messages"])]


def page(answer: bytes) -> MessagePage:
    """What a browse answers."""
    parts = members(answer.decode())
    return MessagePage(
        items=[message(item) for item in items(parts["items"])], next_cursor=_cursor(parts["next_cursor"])
    )
