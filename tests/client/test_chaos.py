"""The SDK through a network that cuts connections at random, with a broker that is killed now and then."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from streambroker.client import Client
from streambroker.client.errors import ConnectionLost
from streambroker.client.link import Answer
from streambroker.client.publishing import Publisher, Request
from streambroker.client.settling import Settlement, Settler
from tests.client.chaos import Event, History, Run, hasty
from tests.client.conftest import NO_LIMITS
from tests.harness import BrokerProcess

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SECONDS = float(os.environ.get("SBTEST_CHAOS_SECONDS", "15"))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    seed = int(os.environ.get("SBTEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    request.node.add_report_section("setup", "seed", f"SBTEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def fragile(tmp_path: Path) -> BrokerProcess:
    return BrokerProcess(tmp_path / "data", env=NO_LIMITS)


async def test_nothing_is_lost_and_no_ack_is_lost_or_doubled(fragile: BrokerProcess, dice: random.Random) -> None:
    with fragile:
        run = Run(fragile, "chaos", hasty, dice, SECONDS, kills=3)
        history = await run.go()
        assert history.violations() == []
        assert not history.unknown
        assert run.cuts > 3 and len(history.published) > 100  # it was something, on a busy machine too
        with fragile.client() as api:
            counts = api.get("/queues/chaos").json()["counts"]
        assert counts["processed"] == len(history.published)
        assert counts["failed"] == 0


# -- twins: a client that is broken in one place must be found out -----------------------------------------------------


async def found_out(broker: BrokerProcess, dice: random.Random, kills: int, fault: str) -> bool:
    """Whether one of a few runs shows that violation; whether a cut hits the gap is chance."""
    for _ in range(5):
        history = await Run(broker, "chaos", hasty, dice, 6, kills=kills).go()
        if any(fault in violation for violation in history.violations()):
            return True
    return False


async def test_a_client_that_takes_unconfirmed_acks_for_confirmed_is_found_out(
    fragile: BrokerProcess, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(self: Settler, batch: list[Settlement], answer: Answer) -> None:
        if isinstance(answer, ConnectionLost):
            for settlement in batch:
                self._done(settlement)
        else:
            rightly(self, batch, answer)

    rightly = Settler._told
    monkeypatch.setattr(Settler, "_told", told)
    with fragile:
        assert await found_out(fragile, dice, 1, "after its ack was confirmed")


async def test_a_client_that_repeats_a_publish_under_a_new_key_is_found_out(
    fragile: BrokerProcess, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_again(self: Publisher, request: Request) -> None:
        request.key += "-again"
        rightly(self, request)

    rightly = Publisher._send_again
    monkeypatch.setattr(Publisher, "_send_again", send_again)
    with fragile:
        assert await found_out(fragile, dice, 0, "stored 2 times")


# -- the checker -------------------------------------------------------------------------------------------------------

delivered, acked = partial(Event, "delivered"), partial(Event, "acked")


def test_a_sound_history_has_no_violations() -> None:
    events = [delivered("m1", 1, 1), delivered("m1", 1, 2), acked("m1", 1, 2)]
    assert History({1: "m1"}, set(), events).violations() == []


@pytest.mark.parametrize(
    ("published", "events", "violation"),
    [
        ({1: "m1"}, [], "never acked"),
        ({1: "m1"}, [delivered("m1", 1, 1), acked("m1", 1, 1), delivered("m1", 1, 2)], "after its ack"),
        ({1: "m1"}, [delivered("m1", 1, 1), delivered("m1", 1, 1), acked("m1", 1, 1)], "as attempt 1"),
        ({1: "m1"}, [acked("m1", 1, 1), acked("m2", 1, 1)], "stored 2 times"),
        ({1: "m1"}, [acked("m1", 1, 1), acked("m1", 1, 1)], "acked twice"),
    ],
)
def test_the_checker_sees(published: dict[int, str], events: list[Event], violation: str) -> None:
    assert any(violation in found for found in History(published, set(), events).violations())


def test_hasty_clients_are_the_sdk_itself() -> None:
    assert type(hasty("http://127.0.0.1:1", "t")) is Client
