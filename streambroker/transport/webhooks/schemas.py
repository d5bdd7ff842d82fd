"""The bodies and answers of webhooks."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streambroker.transport.schemas import Body, Limit
from streambroker.transport.webhooks.addresses import MAX_URL

DAY_MS = 86_400_000
_ID = r"^[0-9a-f]{24}$(?!\n)"

# What `addresses.target` checks of it, in the words of JSON Schema.
_URL = {"format": "uri", "pattern": "^https?://[!-~]+$"}
Url = Annotated[
    str,
    Meta(min_length=8, max_length=MAX_URL, description="Where to POST to.", extra_json_schema=_URL),
]
SecretText = Annotated[
    str,
    Meta(max_length=128, description="`whsec_` and 24 to 64 bytes in base64. Left out, one is made."),
]
Description = Annotated[str, Meta(pattern=r"^[^\x00]*$(?!\n)", max_length=256)]
HeaderMap = Annotated[dict[str, str], Meta(max_length=20, description="Sent with each request; shown masked.")]
Concurrency = Annotated[
    int, Meta(ge=1, le=50, description="Requests at a time. With 1, messages are pushed in the queue's order.")
]
TimeoutMs = Annotated[int, Meta(ge=100, le=60_000, description="For one request, from the look-up of the name on.")]
DisableAfterMs = Annotated[
    int, Meta(ge=0, le=30 * DAY_MS, description="Failing without a break for so long disables it; 0: it goes on.")
]
OverlapMs = Annotated[
    int, Meta(ge=0, le=7 * DAY_MS, description="How long the secret before signs as well once there is another one.")
]
StatusName = Annotated[str, Meta(extra_json_schema={"enum": ["active", "slowed", "stopped", "disabled"]})]
OutcomeName = Annotated[
    str, Meta(extra_json_schema={"enum": ["delivered", "gone", "refused", "timeout", "unreachable", "blocked"]})
]


class WebhookIn(Body, frozen=True):
    """A webhook to make: where the queue's messages are pushed to, and how."""

    url: Url
    secret: SecretText | None = None
    description: Description | None = None
    headers: HeaderMap = msgspec.field(default_factory=dict)
    concurrency: Concurrency = 10
    timeout_ms: TimeoutMs = 10_000
    disable_after_ms: DisableAfterMs = DAY_MS
    disabled: bool = False


class WebhookChange(Body, frozen=True):
    """What to change of a webhook; members that are absent stay."""

    url: Url | UnsetType = UNSET
    secret: SecretText | UnsetType = UNSET
    rotate_secret: bool = False
    secret_overlap_ms: OverlapMs = DAY_MS
    description: Description | UnsetType | None = UNSET
    headers: HeaderMap | UnsetType = UNSET
    concurrency: Concurrency | UnsetType = UNSET
    timeout_ms: TimeoutMs | UnsetType = UNSET
    disable_after_ms: DisableAfterMs | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET

    def reaches_further(self) -> bool:
        """Whether messages may reach somebody by it whom they did not reach before."""
        return (
            self.disabled is False
            or self.rotate_secret
            or any(given is not UNSET for given in (self.url, self.secret, self.headers))
        )


class WebhooksQuery(Body, frozen=True):
    """A page of webhooks; the cursor is the last one's id."""

    limit: Limit = 50
    cursor: Annotated[str, Meta(pattern=_ID)] | None = None


class AllWebhooksQuery(WebhooksQuery, frozen=True):
    """A page of the webhooks of all queues, or of one."""

    queue: Annotated[str, Meta(max_length=128)] | None = None


class DeliveriesQuery(Body, frozen=True):
    """A page of the log, the newest first; the cursor is the last one's id."""

    limit: Limit = 50
    cursor: Annotated[str, Meta(pattern=_ID)] | None = None


class WebhookOut(msgspec.Struct):
    """A webhook. `reason` says why it does not run as it should; `username` is whose rights it has."""

    id: str
    queue: str
    url: str
    description: str | None
    headers: dict[str, str]
    concurrency: int
    timeout_ms: int
    disable_after_ms: int
    disabled: bool
    status: StatusName
    reason: str | None
    failing_since: str | None
    in_flight: int
    username: str
    previous_secret_until: str | None
    created_at: str
    updated_at: str
    secret: str | UnsetType = UNSET
    """Only where the broker has just made it."""

    def __repr__(self) -> str:
        # A secret in a traceback or a log line would let its reader sign.
        return f"WebhookOut(id={self.id!r})"


class WebhookPage(msgspec.Struct):
    """A page of webhooks."""

    items: list[WebhookOut]
    next_cursor: str | None


class DeliveryOut(msgspec.Struct):
    """One request and what came of it. Without `status_code` no answer came; `response` is how its body began."""

    id: str
    kind: Literal["message", "redelivery", "test"]
    at: str
    message_id: str | None
    attempt: int | None
    outcome: OutcomeName
    status_code: int | None
    latency_ms: int
    error: str | None
    response: str | None


class WebhookStanding(WebhookOut):
    """A webhook, and how it did of late. `failures` counts those in a row at the log's end, up to 100."""

    failures: int = 0
    last_delivery: DeliveryOut | None = None


class WebhookStandings(msgspec.Struct):
    """A page of the webhooks of all queues."""

    items: list[WebhookStanding]
    next_cursor: str | None


class DeliveryPage(msgspec.Struct):
    """A page of the log."""

    items: list[DeliveryOut]
    next_cursor: str | None


class Redelivered(msgspec.Struct):
    """`delivery` is what came of it; null where the message is in its queue again, and will be delivered from there."""

    message_id: str
    queued: bool
    delivery: DeliveryOut | None
