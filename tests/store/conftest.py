"""One bench for each engine; after every test its counts must be those of its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.store.sqlite_files import Sqlite, opened
from tests.store.subjects import ENGINES, START, Bench


@pytest.fixture(params=ENGINES)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty store of each engine in turn, with one queue ``q``."""
    bench = Bench(await ENGINES[request.param](tmp_path / "data", START))
    try:
        await bench.queue()
        yield bench
        await bench.check_counts()
    finally:
        await bench.subject.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Sqlite]:
    """An engine over an empty file; after the test its counts must be those of its messages."""
    with opened(tmp_path) as sqlite:
        yield sqlite
