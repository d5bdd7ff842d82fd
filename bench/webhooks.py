"""A receiver of webhooks that answers at once: ``python -m bench.webhooks JOB`` has a queue pushed here.

The receiver is a bare asyncio protocol that looks for the end of the head, waits for the body, and writes 204.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import httpx
import msgspec
import psutil
import uvloop

QUEUE = "pushed"
_BATCH = 500
_PATIENCE_S = 120.0
_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_LENGTH = b"content-length: "


class WebhooksJob(msgspec.Struct, kw_only=True):
    """Push ``total`` messages of ``payload_bytes``, ``concurrency`` at a time."""

    port: int
    token: str
    server_pid: int
    total: int
    payload_bytes: int
    concurrency: int


class WebhooksResult(msgspec.Struct, kw_only=True):
    """Messages a second, from the webhook's making until all are settled; the server's CPU for a thousand."""

    rate: float
    cpu_ms_per_thousand: float
    client_percent: float
    repeated: int
    connections: int


class Receiver:
    """Counts requests; ``all_came`` is set once there were ``wanted``."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.requests = 0
        self.connections = 0
        self.all_came = asyncio.Event()

    def took(self) -> None:
        """One request came in."""
        self.requests += 1
        if self.requests >= self.wanted:
            self.all_came.set()


class Answering(asyncio.Protocol):
    """One connection to the receiver; requests come one after another."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._receiver.connections += 1

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        assert self._transport is not None
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = self._came[:end].lower()
            at = head.index(_LENGTH) + len(_LENGTH)
            whole = end + 4 + int(head[at:].partition(b"\r\n")[0])
            if len(self._came) < whole:
                return
            self._came = self._came[whole:]
            self._receiver.took()
            self._transport.write(_ANSWER)


async def run(job: WebhooksJob) -> WebhooksResult:
    """Fill the queue, make the webhook, wait until the queue has nothing left to deliver."""
    server, own, receiver = psutil.Process(job.server_pid), psutil.Process(), Receiver(job.total)
    listening = await asyncio.get_running_loop().create_server(lambda: Answering(receiver), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    headers = {"Authorization": f"Bearer {job.token}"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{job.port}", headers=headers, timeout=60) as api:
        await _fill(api, job)
        began, cpu, own_cpu = time.perf_counter(), sum(server.cpu_times()[:2]), sum(own.cpu_times()[:2])
        webhook = {"url": f"http://127.0.0.1:{port}/hook", "concurrency": job.concurrency}
        (await api.post(f"/queues/{QUEUE}/webhooks", json=webhook)).raise_for_status()
        async with asyncio.timeout(_PATIENCE_S):
            await receiver.all_came.wait()
            while await _unsettled(api):  # noqa: ASYNC110 - in the broker, which tells nobody
                await asyncio.sleep(0.01)
        seconds = time.perf_counter() - began
        cpu, own_cpu = sum(server.cpu_times()[:2]) - cpu, sum(own.cpu_times()[:2]) - own_cpu
    listening.close()
    return WebhooksResult(
        rate=job.total / seconds,
        cpu_ms_per_thousand=cpu * 1e6 / job.total,
        client_percent=own_cpu / seconds * 100,
        repeated=receiver.requests - job.total,
        connections=receiver.connections,
    )


async def _fill(api: httpx.AsyncClient, job: WebhooksJob) -> None:
    messages = [{"content": "x" * (job.payload_bytes - 2)}] * _BATCH
    for first in range(0, job.total, _BATCH):
        part = {"messages": messages[: job.total - first]}
        (await api.post(f"/queues/{QUEUE}/messages/batch", json=part)).raise_for_status()


async def _unsettled(api: httpx.AsyncClient) -> int:
    answer = await api.get(f"/queues/{QUEUE}")
    answer.raise_for_status()
    counts = answer.json()["counts"]
    return int(counts["pending"] + counts["processing"])


if __name__ == "__main__":
    job = msgspec.json.decode(sys.argv[1], type=WebhooksJob)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(job))))
