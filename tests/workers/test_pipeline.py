"""The pipeline of stages: alone, and as processes of one stage each."""

from __future__ import annotations

from pathlib import Path

import pytest

from streambroker.client import SyncClient
from tests.harness import BrokerProcess
from tests.workers.programs import finished, running

pytestmark = pytest.mark.system

QUEUES = ["ml.ingest", "ml.features", "ml.train", "ml.report", "ml.dead"]


def nothing_is_left(client: SyncClient) -> bool:
    counts = [client.queues.get(name).counts for name in QUEUES]
    return not any(count.pending or count.processing or count.failed for count in counts)


def test_alone_it_retries_leaves_out_a_dead_letter_and_reports(broker: BrokerProcess, client: SyncClient) -> None:
    said = finished(broker, "ml_pipeline")
    assert "retry     asyncio: its archive does not answer (attempt 1)" in said
    assert "ingest    asyncio:" in said
    assert "dead      atlantis: there are no documents in" in said
    assert "of the unseen documents told right" in said
    assert "left out: there are no documents in" in said
    assert nothing_is_left(client)
    assert client.queues.get("ml.train").counts.processed == 1


def test_stages_run_as_processes_of_their_own(broker: BrokerProcess, tmp_path: Path) -> None:
    for label, word in (("sea", "wave harbour ship"), ("land", "field forest tree")):
        (tmp_path / "corpus" / label).mkdir(parents=True)
        text = "\n\n".join(f"{word} number{'x' * n}" for n in range(40))
        (tmp_path / "corpus" / label / "text.txt").write_text(text)
    shared = ("--artifacts", str(tmp_path / "artifacts"))
    with (
        running(broker, "ml_pipeline", *shared, "--work", "ingest", "features") as first,
        running(broker, "ml_pipeline", *shared, "--work", "train", "report") as second,
    ):
        first.says("working on ingest, features")
        second.says("working on train, report")
        said = finished(broker, "ml_pipeline", "--submit", "--corpus", str(tmp_path / "corpus"))
        assert "100% of the unseen documents told right" in said
        second.says("train ")
