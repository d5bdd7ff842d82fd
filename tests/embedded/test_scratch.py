"""Where the files of a broker in memory lie."""

from __future__ import annotations

import os
import time
from pathlib import Path

from streambroker.embedded.scratch import bury, scratch
from streambroker.store.sql.connection import DirectoryLock


def left_behind(place: Path, name: str, age_s: float = 3_600) -> Path:
    """A directory as a broker has it, whose process is gone."""
    directory = place / name
    DirectoryLock(directory / "data").release()
    os.utime(directory, (time.time() - age_s,) * 2)
    return directory


def test_what_killed_processes_left_behind_is_taken_away(tmp_path: Path) -> None:
    dead = left_behind(tmp_path, "streambroker-dead")
    bury(tmp_path)
    assert not dead.exists()


def test_what_somebody_holds_or_has_just_made_or_is_something_else_stays(tmp_path: Path) -> None:
    held, young = left_behind(tmp_path, "streambroker-held"), left_behind(tmp_path, "streambroker-young", age_s=1)
    other = left_behind(tmp_path, "other")
    empty = tmp_path / "streambroker-empty"
    empty.mkdir()
    os.utime(empty, (0, 0))
    lock = DirectoryLock(held / "data")
    os.utime(held, (0, 0))
    bury(tmp_path)
    lock.release()
    assert all(directory.exists() for directory in (held, young, other, empty))


def test_a_directory_is_gone_after_its_time() -> None:
    with scratch() as directory:
        directory.mkdir()
        (directory / "file").write_text("x")
    assert not directory.parent.exists()
