"""Where the files of a broker in memory lie, for as long as it lives."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streambroker.store.sql.connection import pid_of_holder

_PREFIX = "streambroker-"
_DATA = "data"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in there
_ROOM_BYTES = 256 * 1024 * 1024
_YOUNG_S = 60
"""A directory so young may be one whose broker has not locked it yet."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A data directory that is gone afterwards; in memory and not on a disk, where there is room for that.

    What processes that were killed have left behind is taken away first.
    """
    place = _SHARED_MEMORY if _has_room(_SHARED_MEMORY) else Path(tempfile.gettempdir())
    bury(place)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True) as directory:
        yield Path(directory) / _DATA


def _has_room(place: Path) -> bool:
    try:
        return os.access(place, os.W_OK) and shutil.disk_usage(place).free >= _ROOM_BYTES
    except OSError:
        return False


def bury(place: Path) -> None:
    """Delete the directories of this user that a broker had and no process holds any more."""
    for directory in place.glob(f"{_PREFIX}*"):
        try:
            seen = directory.lstat()
            dead = (
                seen.st_uid == os.getuid()
                and time.time() - seen.st_mtime > _YOUNG_S
                and (directory / _DATA / "streambroker.lock").exists()
                and pid_of_holder(directory / _DATA) is None
            )
        except OSError:
            continue  # somebody else was quicker
        if dead:
            shutil.rmtree(directory, ignore_errors=True)
