"""Whether requests should come here, and what is told of the broker as a whole."""

from __future__ import annotations

import pytest

from streambroker.core.errors import BrokerError, Draining
from streambroker.transport.resource import Counters
from streambroker.transport.status import Readiness, Status, together
from streambroker.transport.websocket import Sockets


class Idle:
    """A process that takes nothing."""

    cpu_percent = 1.5
    memory_mb = 64.0


def test_a_broker_that_works_is_ready() -> None:
    Readiness().check(draining=False)


def test_a_broker_that_drains_says_so() -> None:
    with pytest.raises(Draining, match="draining"):
        Readiness().check(draining=True)


@pytest.mark.parametrize("draining", [False, True])
def test_a_storage_that_fails_is_the_reason_that_counts(draining: bool) -> None:
    readiness = Readiness()
    readiness.storage_failed = True
    with pytest.raises(BrokerError, match="the storage is failing") as refused:
        readiness.check(draining)
    assert (refused.value.status, refused.value.retryable) == (503, True)


def test_queues_together_are_their_sum() -> None:
    assert list(together([(1, 2, 3, 4, 5), [10, 20, 30, 40, 50]])) == [11, 22, 33, 44, 55]
    assert list(together([])) == [0, 0, 0, 0, 0]


def test_a_delayed_message_is_a_pending_one() -> None:
    stats = Status(Sockets(), Counters(), Idle()).stats({"a": (1, 2, 3, 4, 5), "b": (10, 0, 0, 0, 0)}, whole=True)
    assert (stats.pending, stats.processing, stats.processed, stats.failed) == (13, 3, 4, 5)
    assert stats.queues["a"].pending == 3
    assert (stats.process_cpu_percent, stats.process_memory_mb) == (1.5, 64.0)
