"""The demo's worker outlives the broker: killed and started again, it finds the worker back at work."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streambroker.client import Client, Draft, Message, SyncClient
from tests.harness import BrokerProcess
from tests.workers.programs import finished, running
from workers import jobs
from workers.job_worker import Jobber

pytestmark = pytest.mark.system

JOBS = 40
AWAY_S = 3  # longer than the SDK tries a call again
DOORS = ["websocket", "long-poll"]


@pytest.mark.parametrize("door", DOORS)
def test_a_worker_comes_back_after_the_broker_was_killed(tmp_path: Path, door: str) -> None:
    drafts = [
        Draft(content=job, correlation_id=str(number), reply_to="results", dedup_id=str(number))
        for number, job in enumerate(jobs.generate(JOBS))
    ]
    with BrokerProcess(tmp_path / "data") as broker:
        with SyncClient(broker.url, token=broker.token()) as client:
            key = client.api_keys.create("workers").key
        with (
            SyncClient(broker.url, token=key) as client,
            running(broker, "job_worker", "--door", door, "--lease-ms", "3000", STREAMBROKER_TOKEN=key),
        ):
            client.publish_many("jobs", drafts)
            results = client.consume("results", credit=JOBS)
            found = set()
            for message in results:
                found.add(message.correlation_id)
                message.ack()
                if len(found) == 1:
                    broker.kill()
                    time.sleep(AWAY_S)
                    broker.port = urlsplit(broker.url).port or 0
                    broker.start()
                    assert client.publish_many("jobs", drafts, timeout=60).duplicates == list(range(JOBS))
                if len(found) == JOBS:
                    break
        assert found == {str(number) for number in range(JOBS)}


class Enough(Exception):
    """The worker has seen the last message."""


class TooSlow(Jobber):
    """Its first job takes so long that somebody else has it by then."""

    async def work(self, message: Message) -> None:
        if message.content == "last":
            raise Enough
        await self.client.messages.nack(message.message_id, requeue=True, delay_ms=0, lease=message.lease)
        assert (await self.client.receive(message.queue, wait_ms=5_000)) is not None


async def test_a_job_that_took_longer_than_its_lease_does_not_end_the_worker(broker: BrokerProcess) -> None:
    async with Client(broker.url, token=broker.token()) as client:
        await client.publish("slow", "first")
        await client.publish("slow", "last", delay_ms=100)
        with pytest.raises(Enough):
            await TooSlow(client, "slow").poll("slow", 30_000)


@pytest.mark.parametrize("door", DOORS)
def test_a_worker_with_a_wrong_key_says_so_and_ends(broker: BrokerProcess, door: str) -> None:
    said = finished(broker, "job_worker", "--door", door, STREAMBROKER_TOKEN="sbk_wrong", status=1)
    assert "unauthenticated" in said
