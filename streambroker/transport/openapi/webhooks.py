"""What the broker itself sends to the address of a webhook, and what it makes of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streambroker.protocol.messages import MessageOut
from streambroker.transport.examples import ANSWERS
from streambroker.transport.http import Endpoint
from streambroker.transport.openapi.schemas import Schemas

_HEADERS = (
    ("webhook-id", "The message's id: the same at every attempt, so that a receiver can tell one that it knows."),
    ("webhook-timestamp", "When the request was signed, in seconds since 1970. Refuse one that is minutes old."),
    (
        "webhook-signature",
        "`v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64; one for each secret, by spaces.",
    ),
)
_EXAMPLES = {
    "webhook-id": "0199d3a4e7c00000",
    "webhook-timestamp": "1795342380",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
_CREATES = ("POST", "/queues/{queue}/webhooks")


def webhooks(endpoints: Sequence[Endpoint], schemas: Schemas) -> dict[str, Any]:
    """The Path Items of what the broker sends; none where no webhook can be made."""
    if not any((endpoint.method, endpoint.path) == _CREATES for endpoint in endpoints):
        return {}
    delivery = {
        "operationId": "receiveMessage",
        "tags": ["Webhooks"],
        "summary": "A message for your address",
        "description": "Sent to the address of each webhook of the queue, signed by the Standard Webhooks "
        "scheme. Check the signature before anything else; answer soon, and do long work afterwards.",
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
                "example": _EXAMPLES[name],
            }
            for name, text in _HEADERS
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": schemas.of(MessageOut),
                    "example": ANSWERS["GET /queues/{queue}/messages/consume"],
                }
            },
        },
        "responses": {
            "2XX": {"description": "The message is acknowledged."},
            "410": {"description": "The message is given back, and the webhook is disabled."},
            "default": {
                "description": "Anything else, or nothing in time: the message is tried again after a while.",
                "headers": {
                    "Retry-After": {
                        "description": "Seconds, or a date: not before then.",
                        "schema": {"type": "string"},
                    }
                },
            },
        },
    }
    return {"webhooks": {"message": {"post": delivery}}}
