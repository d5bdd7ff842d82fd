"""One GraphQL request: who asks, until when, and how its fields are carried out: by the very handlers of REST.

So a field has the permissions, checks, limits and errors of its REST call, because it is that call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from starlette.types import Message, Receive, Scope

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal
from streambroker.core.errors import Overloaded, TooLarge
from streambroker.protocol.json import encode
from streambroker.transport.gate import Gate
from streambroker.transport.http import Call, ClientLeft, Endpoint, Reply
from streambroker.transport.limiting import Kind

MOST_S = 65
"""A request's time: the longest wait for a message, and a little."""
MOST_BYTES = 48 * 1024 * 1024
"""What one request may answer, roughly."""
MOST_BYTES_OF_A_USER = 2 * MOST_BYTES
"""What the answers of one user hold at a time, until they are handed to the server, which bounds those of all."""

# The REST call that each root field is.
ROUTES = {
    "queues": ("GET", "/queues"),
    "queue": ("GET", "/queues/{queue}"),
    "message": ("GET", "/messages/{message_id}"),
    "messages": ("GET", "/queues/{queue}/messages"),
    "timeline": ("GET", "/messages/{message_id}/timeline"),
    "stats": ("GET", "/stats"),
    "createQueue": ("POST", "/queues"),
    "updateQueue": ("PATCH", "/queues/{queue}"),
    "deleteQueue": ("DELETE", "/queues/{queue}"),
    "purgeQueue": ("POST", "/queues/{queue}/purge"),
    "pauseQueue": ("POST", "/queues/{queue}/pause"),
    "resumeQueue": ("POST", "/queues/{queue}/resume"),
    "redriveQueue": ("POST", "/queues/{queue}/redrive"),
    "publish": ("POST", "/queues/{queue}/messages"),
    "publishBatch": ("POST", "/queues/{queue}/messages/batch"),
    "consume": ("GET", "/queues/{queue}/messages/consume"),
    "consumeBatch": ("POST", "/queues/{queue}/messages/consume"),
    "ack": ("POST", "/messages/{message_id}/ack"),
    "nack": ("POST", "/messages/{message_id}/nack"),
    "extend": ("POST", "/messages/{message_id}/extend"),
    "retry": ("POST", "/messages/{message_id}/retry"),
    "deleteMessage": ("DELETE", "/messages/{message_id}"),
}
_CONSUMES = frozenset({"consume", "consumeBatch"})


class Stream(Protocol):
    """What a request holds open."""

    def recognized(self, principal: Principal) -> None:
        """This is who it is now."""
        ...


class Operations:
    """The REST endpoints that the root fields stand for, and the broker whose events are watched.

    `held` is how many bytes the answers of each user hold that were not handed over yet.
    """

    def __init__(self, endpoints: Sequence[Endpoint], broker: Broker) -> None:
        self.broker = broker
        self.held: Counter[str] = Counter()
        by_route = {(endpoint.method, endpoint.path): endpoint for endpoint in endpoints}
        self.by_field = {field: by_route[route] for field, route in ROUTES.items()}

    def kind(self, field: str) -> Kind:
        """Which rate limit counts a root field."""
        endpoint = self.by_field.get(field)
        return Kind.DEFAULT if endpoint is None or endpoint.limit is None else endpoint.limit


class Request:
    """What resolvers find as their context. Its calls run one after another, so that few answers are held at a time."""

    def __init__(
        self, operations: Operations, gate: Gate, scope: Scope, receive: Receive, principal: Principal
    ) -> None:
        self.principal = principal
        self.broker = operations.broker
        self.instance = f"urn:streambroker:request:{scope['streambroker.request_id'].decode('latin-1')}"
        self.left = False
        """The client hung up: nobody waits for the answer."""
        self.streams: set[Stream] = set()
        self._operations = operations
        self._gate = gate
        self._seen = gate.changes
        self._scope = scope
        self._receive = receive
        self._one = asyncio.Lock()
        self._waits = True
        self._room = MOST_BYTES
        self._username = principal.username
        self._held = 0
        self._until = asyncio.get_running_loop().time() + MOST_S

    async def admit(self, fields: Sequence[str]) -> None:
        """Count what the request does: each root field as the REST call that it is. Raises `RateLimited`."""
        for field in fields:
            await self._gate.admit(self._scope, self.principal, self._operations.kind(field))

    async def call(
        self,
        field: str,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """What the field's REST call answers; members of `query` that are None are left out.

        Raises what the call raises, and `Overloaded` or `TooLarge` where the request has taken too long or too much.
        """
        async with self._one:
            self._check()
            asked = {name: str(value) for name, value in (query or {}).items() if value is not None}
            scope = self._scope_of(path or {}, asked)
            sent = b"" if body is None else encode(body)
            call = Call(scope, _sender(sent, self._receive), self.principal, self._gate)
            try:
                answer = await self._operations.by_field[field].handler(call)
            except ClientLeft:
                self.left = True
                raise
            assert isinstance(answer, Reply)  # none of them is told piece by piece
            if field in _CONSUMES:
                self._waits = False  # what it took would be lost on a client that leaves while another one waits
            self._spend(len(answer.body))  # it was done, so nothing that may pass takes its answer away
            return answer.body

    def wait_ms(self, asked: int) -> int:
        """How long a consume may wait: not where the request has taken a message already, or is about to end."""
        left_s = self._until - asyncio.get_running_loop().time()
        return min(asked, max(int(left_s * 1_000) - 1_000, 0)) if self._waits else 0

    def spend(self, size: int) -> None:
        """So much goes into the answer. Raises `TooLarge`, and `Overloaded` where the user's others hold too much."""
        self._check_others(size)
        self._spend(size)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise TooLarge(f"the answer would have more than {MOST_BYTES:,} bytes; ask for less at a time")
        self._held += size
        self._operations.held[self._username] += size

    def _check_others(self, size: int) -> None:
        if self._operations.held[self._username] + size > MOST_BYTES_OF_A_USER:
            raise Overloaded("your other answers have to be sent first", retry_after_ms=1_000)

    def sent(self) -> None:
        """What was answered so far is handed over, or nobody wants it any more."""
        held = self._operations.held
        held[self._username] -= self._held
        self._held = 0
        if not held[self._username]:
            del held[self._username]

    def recognized(self, principal: Principal) -> None:
        """This is who asks from now on; what it may no longer see ends."""
        self.principal = principal
        for stream in tuple(self.streams):
            stream.recognized(principal)

    def _check(self) -> None:
        if self.left:
            raise ClientLeft
        if self._room <= 0:
            self._spend(1)
        self._check_others(0)
        if asyncio.get_running_loop().time() > self._until:
            raise Overloaded(f"a request has {MOST_S} s; this field was not begun", retry_after_ms=1_000)
        if self._gate.changes != self._seen:
            self._gate.still_welcome(self.principal)

    def _scope_of(self, path: Mapping[str, str], query: Mapping[str, str]) -> Scope:
        # Nothing else that was said of the GraphQL request is to be taken for something said of the call.
        headers = {b"content-type": b"application/json"}
        if trace := self._scope["streambroker.headers"].get(b"traceparent"):
            headers[b"traceparent"] = trace
        return {
            **self._scope,
            "streambroker.answer": None,  # that of the request itself, and its body
            "path_params": path,
            "query_string": urlencode(query).encode(),
            "streambroker.headers": headers,
        }


def _sender(body: bytes, receive: Receive) -> Receive:
    """Gives `body` first, and then what the client does."""
    sent = False

    async def next_() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_
