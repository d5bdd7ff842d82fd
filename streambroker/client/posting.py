"""Publishing over REST: one message, many, raw bytes as they are."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import msgspec

from streambroker.client.encoding import check_options, encoded
from streambroker.client.http import Http, segment
from streambroker.client.models import OCTETS, Draft, Published, PublishedBatch
from streambroker.protocol.times import rfc3339

_OPTIONS = ("priority", "delay_ms", "available_at", "ttl_ms", "key", "dedup_id", "correlation_id", "reply_to")
_JSON = {"content-type": "application/json"}


def new_dedup_id() -> str:
    """A dedup id of 128 random bits: it makes one publish safe to repeat."""
    return secrets.token_hex(16)


def with_dedup_id(draft: Draft) -> Draft:
    """The draft with a dedup id: its own, or a new one, so that a repeat after a lost answer stores nothing twice."""
    return draft if draft.dedup_id is not None else msgspec.structs.replace(draft, dedup_id=new_dedup_id())


class Posting:
    """Publishes over REST. Every call raises as `Http.call`, and as `encoding.encoded`; `timeout` is in seconds.

    A draft without a `dedup_id` gets one, so every publish is repeated where its answer was lost.
    """

    def __init__(self, http: Http) -> None:
        self._http = http

    async def publish(self, queue: str, draft: Draft, *, timeout: float | None = None) -> Published:
        """Publish one message; bytes go as a raw body, with the options as headers."""
        draft = with_dedup_id(draft)
        raw, headers = _body_of(draft)
        published: Published = await self._http.call(
            "POST", f"/queues/{segment(queue)}/messages", Published, raw=raw, headers=headers, timeout=timeout,
            repeatable=True,
        )  # fmt: skip
        return published

    async def publish_many(
        self, queue: str, drafts: Sequence[Draft], *, timeout: float | None = None
    ) -> PublishedBatch:
        """Publish 1 to 1,000 messages, all or none."""
        published: PublishedBatch = await self._http.call(
            "POST",
            f"/queues/{segment(queue)}/messages/batch",
            PublishedBatch,
            raw=b'{"messages":[%b]}' % b",".join([encoded(with_dedup_id(draft)) for draft in drafts]),
            headers=_JSON,
            timeout=timeout,
            repeatable=True,
        )
        return published


def _body_of(draft: Draft) -> tuple[bytes, dict[str, str]]:
    if isinstance(draft.content, bytes | bytearray | memoryview) and _fits_headers(draft):
        check_options(draft)
        return bytes(draft.content), option_headers(draft)
    return encoded(draft), _JSON


def option_headers(draft: Draft) -> dict[str, str]:
    """A draft's options as the headers that go with a raw body."""
    headers = {"content-type": draft.content_type or OCTETS}
    for name in (*_OPTIONS, "max_attempts"):
        value = getattr(draft, name)
        if name == "available_at" and value is not None:
            value = rfc3339(int(value.timestamp() * 1_000))
        if value is not None:
            headers[f"x-message-{name.replace('_', '-')}"] = str(value)
    if draft.headers is not None:
        headers["x-message-headers"] = json.dumps(draft.headers)
    if draft.traceparent is not None:
        headers["traceparent"] = draft.traceparent
    return headers


def _fits_headers(draft: Draft) -> bool:
    """Whether the options can be headers: in ASCII and small, with a media type that is not JSON's own."""
    kind = (draft.content_type or OCTETS).partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json") or "/" not in kind:
        return False
    values = option_headers(draft).values()
    return all(v.isascii() and v.isprintable() and v == v.strip() for v in values) and sum(map(len, values)) < 8_192
