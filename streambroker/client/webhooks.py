"""Webhooks of a queue: the broker pushes its messages to a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from streambroker.client.http import Http, segment
from streambroker.client.models import Webhook, WebhookDelivery


class Webhooks:
    """`client.webhooks`; all takes `manage` on the queue. Every call raises as `Http.call`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(
        self, queue: str, url: str, *, secret: str | None = None, timeout: float | None = None, **options: Any
    ) -> Webhook:
        """Push the queue's messages to `url`. Keep the answer's `secret`: it is shown only now.

        `options` are those of the broker's `POST /queues/{queue}/webhooks`.
        """
        body = {"url": url, **options, **({} if secret is None else {"secret": secret})}
        return await self._call("POST", _path(queue), body=body, timeout=timeout)

    def list(self, queue: str) -> AsyncIterator[Webhook]:
        """The queue's webhooks."""
        return self._http.pages(_path(queue), Webhook)

    async def get(self, queue: str, webhook_id: str, *, timeout: float | None = None) -> Webhook:
        """One webhook. Raises `NotFound`."""
        return await self._call("GET", _path(queue, webhook_id), timeout=timeout)

    async def update(self, queue: str, webhook_id: str, *, timeout: float | None = None, **changes: Any) -> Webhook:
        """Change what is named."""
        return await self._call("PATCH", _path(queue, webhook_id), body=changes, timeout=timeout)

    async def delete(self, queue: str, webhook_id: str, *, timeout: float | None = None) -> None:
        """No more pushes. Raises `NotFound`."""
        await self._http.call("DELETE", _path(queue, webhook_id), timeout=timeout)

    def deliveries(self, queue: str, webhook_id: str) -> AsyncIterator[WebhookDelivery]:
        """What was pushed lately, and what came back."""
        return self._http.pages(f"{_path(queue, webhook_id)}/deliveries", WebhookDelivery)

    async def redeliver(self, queue: str, webhook_id: str, delivery_id: str, *, timeout: float | None = None) -> None:
        """Push what that delivery pushed once more."""
        await self._http.call(
            "POST", f"{_path(queue, webhook_id)}/deliveries/{segment(delivery_id)}/redeliver", timeout=timeout
        )

    async def _call(self, method: str, path: str, **options: Any) -> Webhook:
        webhook: Webhook = await self._http.call(method, path, Webhook, **options)
        return webhook


def _path(queue: str, webhook_id: str | None = None) -> str:
    base = f"/queues/{segment(queue)}/webhooks"
    return base if webhook_id is None else f"{base}/{segment(webhook_id)}"
