"""A broker filled as one in use is: for the screenshots, and for tests that go over every page."""

from __future__ import annotations

import struct
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx

from tests.harness import BrokerProcess
from tests.wire.doors import JSON, Messages, Queue, body
from tests.wire.people import SECRET, grant
from tests.wire.sockets import open_socket

# Busy: what `Traffic` goes through.
BUSY = ("emails.outgoing", "thumbnails")
QUEUES: dict[str, dict[str, Any]] = {
    "orders.dead": {},
    "orders": {"dead_letter_queue": "orders.dead", "max_attempts": 3, "lease_ms": 3_600_000},
    "emails.outgoing": {"lease_ms": 3_600_000},
    "thumbnails": {"lease_ms": 3_600_000},
    "invoices.eu-west.monthly.summary.for.accounting": {},
    "audit": {},
    "payments": {"backoff": {"kind": "fixed", "base_ms": 5_000}},
    "search.index": {"durability": "memory"},
}
CONSUMERS = (("emails.outgoing", "mailer-1"), ("emails.outgoing", "mailer-2"), ("search.index", "indexer"))
ORDER = (
    '{"order": 12345678901234567890123, "customer": {"name": "Ana Souza", "vip": true, "since": "2019-04-02"},'
    ' "total": 1299.90, "currency": "EUR", "note": null, "items": ['
    + ", ".join(f'{{"sku": "A-{at:04}", "quantity": {at % 4 + 1}, "price": {at * 7 + 9}.50}}' for at in range(12))
    + "]}"
)


def png(width: int = 160, height: int = 100) -> bytes:
    """A small picture: a gradient."""
    rows = b"".join(
        b"\0" + bytes(part for x in range(width) for part in (x * 255 // width, y * 255 // height, 160))
        for y in range(height)
    )

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@dataclass(frozen=True, slots=True)
class Showcase:
    """The broker, and the ids of messages that are worth a look."""

    broker: BrokerProcess
    order: str
    held: str
    failed: str
    dead: str
    picture: str
    text: str
    octets: str
    webhook: str

    @property
    def routes(self) -> dict[str, str]:
        """Every page, by a name for it."""
        return {
            "overview": "",
            "queues": "queues",
            "queue": "queues/orders",
            "queue-busy": f"queues/{BUSY[0]}",
            "message": f"messages/{self.order}",
            "message-dead": f"messages/{self.dead}",
            "message-image": f"messages/{self.picture}",
            "message-hex": f"messages/{self.octets}",
            "consumers": "consumers",
            "webhooks": "webhooks",
            "webhooks-one": self.webhook,
            "users": "users",
            "keys": "keys",
            "logs": "logs",
        }

    @property
    def names(self) -> set[str]:
        """What looks like a name inside the code, and is one of a queue or a user."""
        return {*QUEUES, "ana.souza"}

    @classmethod
    def filled(cls, broker: BrokerProcess, api: httpx.Client, consumers: ExitStack) -> Showcase:
        """Fill a new broker; `consumers` keeps the connections that are to be seen."""
        for name, config in QUEUES.items():
            _made(api, "/queues", {"name": name, **config})
        queues = {name: Queue(api, name) for name in QUEUES}
        _accounts(api)
        assert queues["audit"].post("/pause").status_code == 200
        queues["audit"].publish_many(*({"event": "login", "user": f"user-{at}"} for at in range(40)))
        queues["payments"].publish_many(*({"payment": at, "amount": at * 3.5} for at in range(7)), delay_ms=3_600_000)
        order = _publish_raw(queues["orders"], ORDER)
        orders, messages = queues["orders"], Messages(api)
        held, failed = _work(orders, messages)
        for name, sub in (
            ("emails.outgoing", "mailer-1"),
            ("emails.outgoing", "mailer-2"),
            ("search.index", "indexer"),
        ):
            socket = consumers.enter_context(open_socket(broker.ws_url + "/ws", token=broker.token()))
            socket.op("welcome")
            socket.ok("subscribe", sub=sub, queue=name, credit=100, lease_mode="session")
            socket.ok("pause", sub=sub)
        return cls(
            broker=broker,
            order=order,
            held=held,
            failed=failed,
            dead=queues["orders.dead"].browse()[0]["message_id"],
            picture=_publish_bytes(queues["thumbnails"], png(), "image/png"),
            text=_publish_bytes(queues["audit"], "Olá,\n\nthis is <b>not</b> bold.\n".encode(), "text/plain"),
            webhook=_webhooks(api),
            octets=_publish_bytes(queues["audit"], bytes(range(256)) * 20, "application/octet-stream"),
        )


def _publish_raw(queue: Queue, content: str) -> str:
    """JSON to the letter, with every option that a message page shows."""
    options = '"priority": 9, "key": "customer-42", "correlation_id": "checkout-7", "reply_to": "orders.replies"'
    text = f'{{"content": {content}, "headers": {{"source": "shop", "retries": 0}}, {options}}}'
    reply = queue.api.post(f"{queue.path}/messages", content=text.encode(), headers=JSON)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["message_id"])


def _publish_bytes(queue: Queue, content: bytes, content_type: str) -> str:
    reply = queue.api.post(f"{queue.path}/messages", content=content, headers={"Content-Type": content_type})
    assert reply.status_code == 201, reply.text
    return str(reply.json()["message_id"])


def _work(queue: Queue, messages: Messages) -> tuple[str, str]:
    """Some messages in every state; the ids of one that is held and of one that failed."""
    first = queue.take()
    messages.nack(first, requeue=True, delay_ms=0, reason="the payment service did not answer")
    orders = [{"content": _order(at), "key": f"customer-{at % 9}", "priority": at % 4} for at in range(26)]
    assert queue.post("/messages/batch", {"messages": orders}).status_code == 201
    again = queue.take()
    messages.reply(again["message_id"], "nack", lease=again["lease"], requeue=True, delay_ms=3_600_000)
    taken = queue.take_many(14)
    for message in taken[:8]:
        messages.ack(message)
    for message in taken[8:11]:
        messages.nack(message, reason="card declined")
    queue.api.patch(queue.path, content=body({"dead_letter_queue": None}), headers=JSON)
    messages.nack(taken[11], reason="no such product")
    queue.api.patch(queue.path, content=body({"dead_letter_queue": "orders.dead"}), headers=JSON)
    return taken[12]["message_id"], taken[11]["message_id"]


def _order(at: int) -> dict[str, Any]:
    return {"order": 1000 + at, "customer": f"customer-{at % 9}", "currency": "EUR", "total": at * 12.5}


def _webhooks(api: httpx.Client) -> str:
    """Some webhooks, none of which finds anybody; the route of one with a log."""
    urls = {"invoices.created": "https://192.0.2.1/hooks/invoices", "orders": "http://127.0.0.1:9/hooks/orders"}
    routes = []
    for queue, url in urls.items():
        given = {"url": url, "description": f"{queue} for the shop", "disabled": True, "timeout_ms": 500}
        made = api.post(f"/queues/{queue}/webhooks", content=body(given), headers=JSON)
        assert made.status_code == 201, made.text
        assert api.post(f"/queues/{queue}/webhooks/{made.json()['id']}/test").status_code == 200
        routes.append(f"webhooks?queue={queue}&id={made.json()['id']}")
    return routes[-1]


def _accounts(api: httpx.Client) -> None:
    workers = [grant("orders*", "consume", "view"), grant("invoices.*", "publish", "view")]
    people = {"billing-worker": workers, "ana.souza": [grant("emails.*", "publish", "consume", "manage", "view")]}
    for username, grants in people.items():
        _made(api, "/users", {"username": username, "password": SECRET, "role": "member", "grants": grants})
    _made(api, "/users", {"username": "operations", "password": SECRET, "role": "admin", "grants": []})
    api.patch("/users/ana.souza", content=body({"disabled": True}), headers=JSON)
    _made(api, "/api-keys", {"name": "mailer", "grants": [grant("emails.outgoing", "consume")]})
    _made(api, "/api-keys", {"name": "prometheus", "expires_at": "2099-01-01T00:00:00Z"})


def _made(api: httpx.Client, path: str, value: dict[str, Any]) -> None:
    reply = api.post(path, content=body(value), headers=JSON)
    assert reply.status_code == 201, reply.text
