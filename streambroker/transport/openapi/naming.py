"""What operations are called in the description, and under which headings they stand.

What is not named here, because it came later, gets a name of its handler and a heading of its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from streambroker.transport.http import Endpoint

TAGS: Mapping[str, str] = {
    "Publish": "Put messages into queues. 2xx means stored and on the disk; 4xx and 507 mean certainly not stored.",
    "Consume": "Take messages, each with a lease, and settle them: ack, nack, or extend the lease.",
    "Messages": "Look at messages, try failed ones again, delete them. Nothing here leases a message.",
    "Queues": "Create, configure, watch, pause, empty and delete queues.",
    "Consumers": "Who consumes now: subscriptions of WebSockets, polls that wait, webhooks.",
    "Events": "What happens to the messages of a queue, live, as server-sent events.",
    "Webhooks": "Addresses to which the broker itself sends the messages of a queue.",
    "GraphQL": "The same broker over GraphQL.",
    "Session": "Log in and out, and who one is. An access token is short-lived; its refresh token renews it.",
    "Users": "Users and what they may do. For admins.",
    "API keys": "Keys for programs: they need no login, and may be given less than their user may do.",
    "Broker": "How the broker itself is: health, figures, metrics, logs, and these descriptions.",
}
"""Every heading with its text, in the order in which they stand."""

_NAMES: Mapping[str, tuple[str, str]] = {
    "POST /queues/{queue}/messages": ("Publish", "publishMessage"),
    "POST /queues/{queue}/messages/batch": ("Publish", "publishMessages"),
    "POST /publish": ("Publish", "publishToQueue"),
    "GET /queues/{queue}/messages/consume": ("Consume", "consumeMessage"),
    "POST /queues/{queue}/messages/consume": ("Consume", "consumeMessages"),
    "POST /consume": ("Consume", "consumeFromQueues"),
    "POST /messages/{message_id}/ack": ("Consume", "ackMessage"),
    "POST /messages/{message_id}/nack": ("Consume", "nackMessage"),
    "POST /messages/{message_id}/extend": ("Consume", "extendLease"),
    "POST /messages/ack": ("Consume", "ackMessages"),
    "POST /messages/nack": ("Consume", "nackMessages"),
    "POST /messages/extend": ("Consume", "extendLeases"),
    "GET /queues/{queue}/messages": ("Messages", "browseMessages"),
    "GET /messages/{message_id}": ("Messages", "getMessage"),
    "GET /messages/{message_id}/timeline": ("Messages", "getMessageTimeline"),
    "POST /messages/{message_id}/retry": ("Messages", "retryMessage"),
    "DELETE /messages/{message_id}": ("Messages", "deleteMessage"),
    "GET /queues": ("Queues", "listQueues"),
    "POST /queues": ("Queues", "createQueue"),
    "GET /queues/{queue}": ("Queues", "getQueue"),
    "PATCH /queues/{queue}": ("Queues", "updateQueue"),
    "DELETE /queues/{queue}": ("Queues", "deleteQueue"),
    "POST /queues/{queue}/purge": ("Queues", "purgeQueue"),
    "POST /queues/{queue}/pause": ("Queues", "pauseQueue"),
    "POST /queues/{queue}/resume": ("Queues", "resumeQueue"),
    "POST /queues/{queue}/redrive": ("Queues", "redriveQueue"),
    "GET /queues/{queue}/events": ("Events", "watchQueue"),
    "GET /consumers": ("Consumers", "listConsumers"),
    "DELETE /consumers/{consumer_id}": ("Consumers", "disconnectConsumer"),
    "GET /webhooks": ("Webhooks", "listAllWebhooks"),
    "GET /queues/{queue}/webhooks": ("Webhooks", "listWebhooks"),
    "POST /queues/{queue}/webhooks": ("Webhooks", "createWebhook"),
    "GET /queues/{queue}/webhooks/{webhook_id}": ("Webhooks", "getWebhook"),
    "PATCH /queues/{queue}/webhooks/{webhook_id}": ("Webhooks", "updateWebhook"),
    "DELETE /queues/{queue}/webhooks/{webhook_id}": ("Webhooks", "deleteWebhook"),
    "POST /queues/{queue}/webhooks/{webhook_id}/test": ("Webhooks", "testWebhook"),
    "GET /queues/{queue}/webhooks/{webhook_id}/deliveries": ("Webhooks", "listWebhookDeliveries"),
    "POST /queues/{queue}/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": ("Webhooks", "redeliver"),
    "POST /graphql": ("GraphQL", "executeGraphql"),
    "GET /graphql": ("GraphQL", "getGraphqlExplorer"),
    "POST /login": ("Session", "login"),
    "POST /refresh": ("Session", "refreshTokens"),
    "POST /logout": ("Session", "logout"),
    "GET /users/me": ("Session", "getCurrentUser"),
    "POST /users/me/password": ("Session", "changePassword"),
    "GET /users": ("Users", "listUsers"),
    "POST /users": ("Users", "createUser"),
    "GET /users/{username}": ("Users", "getUser"),
    "PATCH /users/{username}": ("Users", "updateUser"),
    "DELETE /users/{username}": ("Users", "deleteUser"),
    "GET /api-keys": ("API keys", "listApiKeys"),
    "POST /api-keys": ("API keys", "createApiKey"),
    "DELETE /api-keys/{key_id}": ("API keys", "deleteApiKey"),
    "GET /healthz": ("Broker", "getHealth"),
    "GET /readyz": ("Broker", "getReadiness"),
    "GET /stats": ("Broker", "getStats"),
    "GET /metrics": ("Broker", "getMetrics"),
    "GET /logs": ("Broker", "listLogFiles"),
    "GET /logs/{filename}": ("Broker", "getLogFile"),
    "GET /openapi.json": ("Broker", "getOpenapi"),
    "GET /asyncapi.json": ("Broker", "getAsyncapi"),
}
_SEGMENTS = {"webhooks": "Webhooks", "graphql": "GraphQL", "events": "Events"}


def name_of(endpoint: Endpoint) -> tuple[str, str]:
    """The heading and the ``operationId`` of an endpoint: lower camel case, as generated clients take it."""
    named = _NAMES.get(f"{endpoint.method} {endpoint.path}")
    return named or (_tag_of(endpoint.path), _camel(getattr(endpoint.handler, "__name__", endpoint.path)))


def named_apart(endpoints: Sequence[Endpoint]) -> list[tuple[str, str]]:
    """As `name_of`, of all together: an id that two share gets its method and path instead."""
    found = [name_of(endpoint) for endpoint in endpoints]
    ids = [name for _, name in found]
    return [
        (tag, name if ids.count(name) == 1 else _camel(f"{endpoint.method.lower()}_{endpoint.path}"))
        for endpoint, (tag, name) in zip(endpoints, found, strict=True)
    ]


def headings(tags: Sequence[str]) -> list[dict[str, Any]]:
    """The Tag Objects of those that are used; one that nobody described stands last."""
    used = set(tags)
    known = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    return known + [{"name": name, "description": f"{name}."} for name in sorted(used - set(TAGS))]


def _tag_of(path: str) -> str:
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    found = [_SEGMENTS[part] for part in parts if part in _SEGMENTS]
    return found[0] if found else (parts or ["broker"])[0].capitalize()


def _camel(text: str) -> str:
    first, *rest = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word] or ["operation"]
    return first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in rest)
