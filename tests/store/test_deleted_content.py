"""Where the bytes of a deleted message are: anywhere, until the database is compacted; then in no file of ours."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from streambroker.core.message import State
from streambroker.core.policy import QueueConfig
from streambroker.store.contract import Purge, SaveQueue
from streambroker.store.sql.connection import open_writer
from streambroker.store.sql.engine import SqliteEngine
from streambroker.store.sql.upkeep import compact
from tests.store.subjects import START, Bench, SpecificationSubject

SECRETS = (b"the small secret", b"the large secret")


def found(directory: Path) -> set[bytes]:
    """Which of the secrets stand in any file there."""
    files = [path.read_bytes() for path in directory.iterdir() if path.is_file()]
    return {secret for secret in SECRETS if any(secret in content for content in files)}


def test_a_compacted_database_holds_nothing_of_what_was_deleted(tmp_path: Path) -> None:
    bench = Bench(SpecificationSubject())
    with closing(SqliteEngine(open_writer(tmp_path), START)) as engine:
        engine.turn([SaveQueue("q", QueueConfig(), False, START)])
        for secret, size in zip(SECRETS, (100, 100_000), strict=True):
            content = b'"%b"' % secret.ljust(size, b".")
            engine.turn([bench.publishing(bench.drafts(20, content=content), "q")])
        engine.tidy()
        assert engine.turn([Purge("q", (State.READY,), 100)]) == [40]
    assert found(tmp_path)  # nothing is written over what a whole page held
    compact(tmp_path)
    assert found(tmp_path) == set()
