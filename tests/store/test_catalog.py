"""What the writer counts is told once it is on the disk, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Depth, SaveQueue
from streambroker.store.sql.connection import open_writer
from streambroker.store.sql.engine import SqliteEngine
from tests.store.subjects import START


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    with closing(SqliteEngine(open_writer(tmp_path), START)) as engine:
        engine.turn([SaveQueue("q", QueueConfig(), False, START)])
        yield engine


def test_what_a_transaction_counts_is_told_when_it_is_committed(engine: SqliteEngine) -> None:
    catalog = engine.catalog
    catalog.begin()
    catalog.count(catalog.row("q"), State.READY, 3)
    assert catalog.depth("q") == Depth()
    catalog.commit()
    assert catalog.depth("q") == Depth(ready=3)


def test_what_is_undone_is_never_told(engine: SqliteEngine) -> None:
    catalog = engine.catalog
    catalog.begin()
    catalog.count(catalog.row("q"), State.FAILED, 1)
    catalog.undo()
    catalog.commit()
    assert catalog.depth("q") == Depth()
    assert catalog.row("q").counts == [0] * len(State)
