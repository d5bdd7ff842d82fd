"""A broker process that is killed, or stopped, while it pushes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.harness import BrokerProcess
from tests.webhooks.receiver import Receiver
from tests.webhooks.world import eventually

pytestmark = pytest.mark.system

OPEN = {
    "STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8",
    **{f"STREAMBROKER_RATE_LIMIT_{kind}": "off" for kind in ("DEFAULT", "LOGIN", "MESSAGES")},
}
MESSAGES = 200
UNDER_WAY = 5


async def call(process: BrokerProcess, method: str, path: str, body: Any = None) -> Any:
    """Ask the process in a thread, for the receiver lives in this loop."""

    def ask() -> Any:
        with process.client() as client:
            answer = client.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json()

    return await asyncio.to_thread(ask)


async def all_but_those_under_way_are_settled(process: BrokerProcess, receiver: Receiver) -> bool:
    """An answer whose commit is still under way when the process dies is one more that comes twice, rightly."""
    counts = (await call(process, "GET", "/queues/q"))["counts"]
    return receiver.waiting == UNDER_WAY and len(receiver.seen) == counts["processed"] + UNDER_WAY


@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_an_end_in_mid_delivery_loses_nothing(tmp_path: Path, receiver: Receiver, end: str) -> None:
    process = BrokerProcess(tmp_path / "data", env=OPEN)
    await asyncio.to_thread(process.start)
    try:
        made = await call(process, "POST", "/queues/q/webhooks", {"url": receiver.url, "concurrency": UNDER_WAY})
        batch = {"messages": [{"content": number} for number in range(MESSAGES)]}
        published = await call(process, "POST", "/queues/q/messages/batch", batch)
        await receiver.until(MESSAGES // 4)
        # Some have no answer yet when it ends; to a stop they get one in time, to a crash they never do.
        if end == "kill":
            receiver.open.clear()
            await eventually(lambda: all_but_those_under_way_are_settled(process, receiver))
        status = await asyncio.to_thread(getattr(process, end))
        assert (status == 0) is (end == "terminate")
        before = len(receiver.seen)
        receiver.open.set()
        await asyncio.to_thread(process.start)
        counts = await eventually(
            lambda: call(process, "GET", "/queues/q"), lambda queue: queue["counts"]["processed"] == MESSAGES
        )
        assert counts["counts"] == {"pending": 0, "delayed": 0, "processing": 0, "processed": MESSAGES, "failed": 0}
        delivered = [request.verified(made["secret"])["message_id"] for request in receiver.seen]
        assert set(delivered) == set(published["message_ids"])
        # Only what was under way when it died came twice, and nothing where it could finish.
        assert len(delivered) - MESSAGES <= (UNDER_WAY if end == "kill" else 0), before
    finally:
        process.__exit__()
