"""Webhooks of a queue: the broker pushes its messages to a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from streambroker.client.http import Http, segment
from streambroker.client.models import Redelivered, Webhook, WebhookDelivery


class WebhookStanding(Webhook, frozen=True):
    """A webhook, and how it did of late. `failures` counts those in a row up to now, at most 100."""

    failures: int = 0
    last_delivery: WebhookDelivery | None = None


class Webhooks:
    """`client.webhooks`; all takes `manage` on the queue. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(
        self, queue: str, url: str, *, secret: str | None = None, timeout: float | None = None, **options: Any
    ) -> Webhook:
        """Push the queue's messages to `url`. Without a `secret` one is made; keep the answer's, it is shown only now.

        `options`: `description`, `headers`, `concurrency`, `timeout_ms`, `disable_after_ms`, `disabled`.
        """
        body = {"url": url, **options, **({} if secret is None else {"secret": secret})}
        return await self._call("POST", _path(queue), body=body, timeout=timeout)

    def list(self, queue: str) -> AsyncIterator[Webhook]:
        """The queue's webhooks."""
        return self._http.pages(_path(queue), Webhook)

    def every(self, *, queue: str | None = None) -> AsyncIterator[WebhookStanding]:
        """The webhooks of all queues that you may manage (with `queue` of that one), and how each did of late."""
        return self._http.pages("/webhooks", WebhookStanding, {"queue": queue})

    async def get(self, queue: str, webhook_id: str, *, timeout: float | None = None) -> Webhook:
        """One webhook. Raises `NotFound`."""
        return await self._call("GET", _path(queue, webhook_id), timeout=timeout)

    async def update(self, queue: str, webhook_id: str, *, timeout: float | None = None, **changes: Any) -> Webhook:
        """Change what is named; `rotate_secret=True` makes another secret, told by the answer."""
        return await self._call("PATCH", _path(queue, webhook_id), body=changes, timeout=timeout)

    async def delete(self, queue: str, webhook_id: str, *, timeout: float | None = None) -> None:
        """No more pushes. Raises `NotFound`."""
        await self._http.call("DELETE", _path(queue, webhook_id), timeout=timeout)

    def deliveries(self, queue: str, webhook_id: str) -> AsyncIterator[WebhookDelivery]:
        """What was pushed lately, and what came back."""
        return self._http.pages(f"{_path(queue, webhook_id)}/deliveries", WebhookDelivery)

    async def redeliver(
        self, queue: str, webhook_id: str, delivery_id: str, *, timeout: float | None = None
    ) -> Redelivered:
        """Push once more what a delivery, or a message of that id, held."""
        path = f"{_path(queue, webhook_id)}/deliveries/{segment(delivery_id)}/redeliver"
        again: Redelivered = await self._http.call("POST", path, Redelivered, timeout=timeout)
        return again

    async def test(self, queue: str, webhook_id: str, *, timeout: float | None = None) -> WebhookDelivery:
        """Send a request that is no message, now; what came of it."""
        path = f"{_path(queue, webhook_id)}/test"
        sent: WebhookDelivery = await self._http.call("POST", path, WebhookDelivery, timeout=timeout)
        return sent

    async def _call(self, method: str, path: str, **options: Any) -> Webhook:
        webhook: Webhook = await self._http.call(method, path, Webhook, **options)
        return webhook


def _path(queue: str, webhook_id: str | None = None) -> str:
    base = f"/queues/{segment(queue)}/webhooks"
    return base if webhook_id is None else f"{base}/{segment(webhook_id)}"
