"""What a WebSocket client sent, as frames: one message holds a frame or an array of them."""

from __future__ import annotations

from typing import Any

import msgspec

from streambroker.core.errors import BrokerError, Invalid, Malformed, invalid
from streambroker.protocol import frames
from streambroker.protocol.json import JsonDecoder

MAX_FRAMES = 1_000
"""Frames in one array: bounds how long one client has the event loop."""


class _Named(msgspec.Struct):
    id: frames.FrameId = None


_one_or_many = JsonDecoder[Any](frames.ClientFrame | list[frames.ClientFrame])
_one = JsonDecoder[frames.ClientFrame](frames.ClientFrame)
_parts = JsonDecoder[list[msgspec.Raw]](list[msgspec.Raw])
_named = JsonDecoder[_Named](_Named)


class Close(Exception):
    """Close the connection with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def text_of(event: Any) -> str:
    """The text of a ``websocket.receive`` event. Raises `Close`."""
    text: str | None = event.get("text")
    if text is not None:
        return text
    try:
        decoded: str = event["bytes"].decode()
    except UnicodeDecodeError:
        raise Close(4400, "a binary frame must hold JSON in UTF-8") from None
    return decoded


def frames_of(text: str) -> list[frames.ClientFrame] | None:
    """The frames of a message, or None where one does not fit: take it apart then. Raises `Close`, `Invalid`."""
    try:
        given = _one_or_many(text)
    except Malformed as error:
        raise Close(4400, error.detail[:100]) from None
    except Invalid:
        return None
    if type(given) is not list:
        return [given]
    check_length(given)
    return given


def parts_of(text: str) -> list[bytes]:
    """The frames of a message, each as text still. Raises `Close` where they are no objects."""
    try:
        parts = [bytes(part) for part in _parts(text)] if text.lstrip()[:1] == "[" else [text.strip().encode()]
    except BrokerError as error:
        raise Close(4400, error.detail[:100]) from None
    if any(part[:1] != b"{" for part in parts):
        raise Close(4400, "a frame is a JSON object, or an array of them")
    return parts


def check_length(given: list[Any]) -> None:
    """Raise `Invalid` where an array holds more than `MAX_FRAMES`."""
    if len(given) > MAX_FRAMES:
        raise invalid("", f"an array holds at most {MAX_FRAMES:,} frames; nothing of it was done")


def frame_of(part: bytes) -> frames.ClientFrame:
    """One frame. Raises `Invalid`, `Malformed`."""
    return _one(part)


def id_of(part: bytes) -> frames.FrameId:
    """The id of a frame that does not fit, where it has one."""
    try:
        return _named(part).id
    except BrokerError:
        return None


def first_of(text: str) -> tuple[frames.ClientFrame | None, list[bytes]]:
    """The first frame of the first message (None where it does not fit), and the rest. Raises `Close`."""
    first, *rest = parts_of(text) or [b"{}"]
    try:
        return _one(first), rest
    except Malformed as error:
        raise Close(4400, error.detail[:100]) from None
    except Invalid:
        return None, rest
