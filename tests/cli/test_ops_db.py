"""``streambroker db``: the data as such."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from streambroker import SyncBroker
from streambroker.client.models import Draft
from streambroker.core.errors import DataDirUnusable
from streambroker.store.sql import upkeep
from streambroker.store.sql.connection import DATABASE, migrate, migrations, open_writer
from tests.cli.ops import Command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a message of each status, with large content."""
    directory = tmp_path_factory.mktemp("made") / "data"
    with SyncBroker(directory) as broker:
        broker.queues.create("dead")
        broker.publish_many("q", [Draft(content={"n": n, "fill": "x" * 3_000}, dedup_id=str(n)) for n in range(50)])
        broker.publish("q", "later", delay_ms=3_600_000)
        taken = broker.receive_many("q", most=30, lease_ms=86_400_000)
        for message in taken[:10]:
            message.ack()
        for message in taken[10:20]:
            message.nack(requeue=False, reason="no")
        taken[20].nack(reason="again", delay_ms=3_600_000)
    return directory


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    """A copy of it, for one test."""
    shutil.copytree(made, tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    return tmp_path / "data"


def change(data: Path, statement: str) -> None:
    with closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as connection:
        connection.execute(statement)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- backup


def test_a_broker_starts_on_a_backup_and_has_everything(command: Command, data: Path, tmp_path: Path) -> None:
    ended = command("db", "backup", tmp_path / "copy", "--data-dir", data, "--json")
    assert ended.code == 0
    assert ended.document["messages"] == 51 and ended.document["with_key"] is False
    with SyncBroker(data) as before, SyncBroker(tmp_path / "copy") as after:
        assert after.queues.get("q").counts == before.queues.get("q").counts
        for one, other in zip(before.messages.browse("q"), after.messages.browse("q"), strict=True):
            assert (one.message_id, one.body, one.status) == (other.message_id, other.body, other.status)


def test_a_backup_is_for_its_owner_only_and_has_the_key_only_where_asked(
    command: Command, data: Path, tmp_path: Path
) -> None:
    assert command("db", "backup", tmp_path / "plain", "--data-dir", data).code == 0
    assert [path.name for path in (tmp_path / "plain").iterdir()] == [DATABASE]
    assert command("db", "backup", tmp_path / "whole", "--data-dir", data, "--with-key").code == 0
    assert (tmp_path / "whole" / "jwt.key").read_bytes() == (data / "jwt.key").read_bytes()
    assert mode(tmp_path / "whole") == 0o700
    assert {mode(path) for path in (tmp_path / "whole").iterdir()} == {0o600}


def test_a_backup_replaces_nothing(command: Command, data: Path, tmp_path: Path) -> None:
    assert command("db", "backup", tmp_path / "copy", "--data-dir", data).code == 0
    for destination in (data, tmp_path / "copy"):
        ended = command("db", "backup", destination, "--data-dir", data)
        assert ended.code == 73
        assert "is there already" in ended.err
    assert command("db", "check", "--data-dir", tmp_path / "copy").code == 0


def test_commits_beside_it_do_not_make_a_backup_begin_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite's backup begins anew whenever somebody else commits between two steps: under load it would never end.
    monkeypatch.setattr(upkeep, "PAGES_A_STEP", 4)
    steps: list[int] = []
    with closing(sqlite3.connect(data / DATABASE, isolation_level=None)) as writer:

        def commit_meanwhile(done: int, of: int) -> None:
            steps.append(done)
            writer.execute("INSERT INTO totals (name, count) VALUES (?, 1)", (f"step {len(steps)}",))

        writer.execute("INSERT INTO totals (name, count) VALUES ('before', 1)")
        upkeep.copy(data, tmp_path / "copy", commit_meanwhile)
    assert len(steps) > 10
    assert steps == sorted(set(steps))
    with closing(sqlite3.connect(tmp_path / "copy" / DATABASE)) as copy:
        names = {name for (name,) in copy.execute("SELECT name FROM totals WHERE name = 'before' OR name LIKE 'step%'")}
    assert names == {"before"}


def test_a_backup_writes_nothing_to_the_data(data: Path, tmp_path: Path) -> None:
    before = (data / DATABASE).read_bytes()
    upkeep.copy(data, tmp_path / "copy")
    assert (data / DATABASE).read_bytes() == before


def test_a_damaged_database_makes_no_backup(command: Command, data: Path, tmp_path: Path) -> None:
    whole = (data / DATABASE).read_bytes()
    middle = len(whole) // 2 // 4_096 * 4_096
    (data / DATABASE).write_bytes(whole[:middle] + b"\xa5" * 8_192 + whole[middle + 8_192 :])
    ended = command("db", "backup", tmp_path / "copy", "--data-dir", data)
    assert ended.code == 65
    assert not list((tmp_path / "copy").iterdir())


def test_no_room_for_a_backup_is_told_before_it_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1_000))
    with pytest.raises(DataDirUnusable, match="room"):
        upkeep.copy(data, tmp_path / "copy")


@pytest.mark.parametrize("what", ["check", "upgrade", "compact"])
def test_a_directory_without_data_is_told_and_stays_as_it_is(command: Command, tmp_path: Path, what: str) -> None:
    ended = command("db", what, "--data-dir", tmp_path / "none")
    assert ended.code == 73
    assert "no data" in ended.err
    assert not (tmp_path / "none").exists()


# -- check


def test_sound_data_is_called_sound_with_its_counts(command: Command, data: Path) -> None:
    found = command("db", "check", "--data-dir", data, "--json").document
    assert found["ok"] and found["problems"] == []
    assert found["messages"] == {"pending": 22, "processing": 9, "processed": 10, "failed": 10}
    assert found["schema"] == found["newest"] == migrations()[-1][0]
    assert "sound: 2 queues" in command("db", "check", "--data-dir", data).out


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE message SET queue_id = 77 WHERE id = (SELECT min(id) FROM message)", "of a queue that does not exist"),
        ("DELETE FROM content WHERE id = (SELECT min(id) FROM content)", "lost their content"),
        ("INSERT INTO content VALUES (5, x'00')", "of no message"),
        ("UPDATE message SET state = 9 WHERE id = (SELECT min(id) FROM message)", "in no state"),
        ("UPDATE message SET lease = NULL WHERE state = 2", "have no lease"),
        ("UPDATE message SET due_at = NULL WHERE state = 3", "wait for a moment"),
        ("UPDATE dedup SET queue_id = 77", "dedup records"),
        ("UPDATE queue SET config = '{' WHERE name = 'q'", "configuration of queue q"),
        ("INSERT INTO timeline VALUES (5, 1, 0, 0, 0, NULL, NULL, NULL, NULL)", "records of the past"),
        ("PRAGMA user_version = 999", "newer streambroker"),
    ],
)
def test_what_breaks_the_rules_is_found(command: Command, data: Path, statement: str, problem: str) -> None:
    change(data, statement)
    ended = command("db", "check", "--data-dir", data)
    assert ended.code == 65
    assert problem in ended.out


def cut_off(data: bytes) -> bytes:
    return data[:-4_096]


def scribbled(data: bytes) -> bytes:
    return data[:20_480] + b"\xa5" * 4_096 + data[24_576:]


def not_sqlite(data: bytes) -> bytes:
    return b"\xa5" * len(data)


@pytest.mark.parametrize("damage", [cut_off, scribbled, not_sqlite])
def test_damage_is_found(command: Command, data: Path, damage: Callable[[bytes], bytes]) -> None:
    (data / DATABASE).write_bytes(damage((data / DATABASE).read_bytes()))
    ended = command("db", "check", "--data-dir", data, "--json")
    assert ended.code == 65
    assert ended.document["problems"]


# -- upgrade and compact


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Data of the version before this one."""
    directory = tmp_path / "older"
    directory.mkdir()
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as connection:
        migrate(connection, directory, migrations()[:-1])
    return directory


def test_an_upgrade_backs_up_what_was_there_before(command: Command, older: Path) -> None:
    newest, before = migrations()[-1][0], migrations()[-2][0]
    ended = command("db", "upgrade", "--data-dir", older, "--json")
    assert ended.code == 0
    assert (ended.document["before"], ended.document["after"]) == (before, newest)
    with closing(sqlite3.connect(ended.document["backup"])) as backup:
        assert backup.execute("PRAGMA user_version").fetchone()[0] == before
    again = command("db", "upgrade", "--data-dir", older, "--json").document
    assert (again["before"], again["after"], again["backup"]) == (newest, newest, None)


def test_a_check_tells_that_an_upgrade_is_due(command: Command, older: Path) -> None:
    ended = command("db", "check", "--data-dir", older)
    assert ended.code == 0
    assert "db upgrade" in ended.out


def test_compacting_gives_room_back_and_keeps_the_rest(command: Command, data: Path) -> None:
    with SyncBroker(data) as broker:
        broker.publish_many("big", [Draft(content="x" * 50_000) for _ in range(40)])
        broker.queues.purge("big")
        before = broker.queues.get("q").counts
    done = command("db", "compact", "--data-dir", data, "--json").document
    assert done["bytes_after"] < done["bytes_before"] - 1_500_000
    found = command("db", "check", "--data-dir", data, "--json").document
    assert found["ok"] and found["free_bytes"] == 0
    with SyncBroker(data) as broker:
        assert broker.queues.get("q").counts.processed == before.processed


@pytest.mark.parametrize("what", ["upgrade", "compact"])
def test_what_writes_to_the_data_says_why_it_does_not_while_a_broker_runs(
    command: Command, data: Path, what: str
) -> None:
    with SyncBroker(data):
        ended = command("db", what, "--data-dir", data)
    assert ended.code == 73
    assert "only one process may do at a time" in ended.err


def test_what_only_reads_works_while_a_broker_runs(command: Command, data: Path, tmp_path: Path) -> None:
    with SyncBroker(data) as broker:
        broker.publish("q", "confirmed")
        assert command("db", "check", "--data-dir", data).code == 0
        assert command("db", "backup", tmp_path / "copy", "--data-dir", data).code == 0
    with SyncBroker(tmp_path / "copy") as copy:
        assert [found.content for found in copy.messages.browse("q", contains="confirmed")] == ["confirmed"]


def test_the_writer_finds_nothing_wrong_with_a_backup(data: Path, tmp_path: Path) -> None:
    upkeep.copy(data, tmp_path / "copy")
    open_writer(tmp_path / "copy").close()
