"""A message whose body is its content as it is, with the options in headers."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from streambroker.core.errors import BrokerError, invalid
from streambroker.protocol.json import JsonDecoder
from streambroker.protocol.messages import DraftIn
from streambroker.transport.http import Call

_NUMBERS = ("priority", "delay_ms", "ttl_ms", "max_attempts")
_TEXTS = ("key", "dedup_id", "correlation_id", "reply_to", "available_at")
_NAMES = {f"x-message-{name.replace('_', '-')}".encode(): name for name in (*_NUMBERS, *_TEXTS)}
_HEADERS = b"x-message-headers"
OPTION_HEADERS = (*_NAMES, _HEADERS)
"""All of them, in lower case."""
_whole_number = re.compile(r"-?[0-9]{1,18}").fullmatch
_json = JsonDecoder[msgspec.Raw](msgspec.Raw)


def raw_draft(call: Call) -> DraftIn:
    """The options that the request's ``X-Message-…`` headers give. Raises `Invalid` naming the header."""
    given: dict[str, Any] = {"content_type": call.header(b"content-type")}
    for header, value in call.headers.items():
        if not header.startswith(b"x-message-"):
            continue
        text = value.decode("latin-1").strip()
        if header == _HEADERS:
            given["headers"] = _object(value)
        elif (name := _NAMES.get(header)) is not None:
            given[name] = _number(header, text) if name in _NUMBERS else text
        else:
            raise invalid(f"/{header.decode('latin-1')}", "there is no such option")
    try:
        return msgspec.convert(given, DraftIn)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `$.")
        name = at.rstrip("`").replace("_", "-")
        raise invalid(f"/x-message-{name}" if name else "", text) from None


def _object(value: bytes) -> msgspec.Raw:
    """JSON, which `draft` looks into. Raises `Invalid`: the body, which `Malformed` would blame, is right."""
    try:
        return _json(value)
    except BrokerError:
        raise invalid(f"/{_HEADERS.decode()}", "is not JSON in UTF-8") from None


def _number(header: bytes, text: str) -> int:
    """A whole number, as JSON would have it; what is meant by "null" or "1e3" is not guessed. Raises `Invalid`."""
    if not _whole_number(text):
        raise invalid(f"/{header.decode('latin-1')}", "Expected `int`")
    return int(text)
