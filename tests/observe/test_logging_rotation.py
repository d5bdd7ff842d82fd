"""The log files: whose they are, how they follow each other, and what happens when the disk does not play along."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from streambroker.observe.rotation import FILES, MAX_BYTES, NAME, RotatingFile

LINE = b"0123456789\n"


class Log:
    """A `RotatingFile` with its complaints, and a clock that the test moves."""

    def __init__(self, directory: Path, lines: int = 10, files: int = FILES) -> None:
        self.directory = directory
        self.told: list[str] = []
        self.now = 0.0
        self.file = RotatingFile(self.told.append, max_bytes=lines * len(LINE), files=files, clock=lambda: self.now)
        self.file.place(directory)

    def write(self, *lines: bytes) -> None:
        for line in lines:
            self.file.write(line)

    def lines(self, name: str = NAME) -> list[bytes]:
        return (self.directory / name).read_bytes().splitlines(keepends=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "logs")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_brokers_user_may_read(log: Log) -> None:
    log.write(LINE)
    assert mode(log.directory) == 0o700 and mode(log.directory / NAME) == 0o600


def test_a_file_that_others_could_read_is_closed_to_them(log: Log) -> None:
    log.directory.mkdir(mode=0o750)
    (log.directory / NAME).touch(mode=0o644)
    log.write(LINE)
    assert mode(log.directory / NAME) == 0o600
    assert mode(log.directory) == 0o750, "a directory that somebody else made stays as it is"


def test_lines_are_appended_to_what_a_broker_before_has_written(log: Log) -> None:
    log.write(LINE)
    log.file.close()
    Log(log.directory).write(b"next\n")
    assert log.lines() == [LINE, b"next\n"]


def test_five_files_of_10_mib_are_kept() -> None:
    assert (FILES, MAX_BYTES) == (5, 10 * 1024 * 1024)


def test_a_full_file_is_followed_by_a_new_one_and_the_oldest_goes(tmp_path: Path) -> None:
    log = Log(tmp_path, lines=2, files=3)
    log.write(*(b"line %05d\n" % number for number in range(9)))
    assert log.names() == [NAME, f"{NAME}.1", f"{NAME}.2"]
    assert log.lines() == [b"line 00008\n"]
    assert log.lines(f"{NAME}.1") == [b"line 00006\n", b"line 00007\n"]
    assert log.lines(f"{NAME}.2") == [b"line 00004\n", b"line 00005\n"]
    assert {mode(path) for path in tmp_path.iterdir()} == {0o600}


def test_a_file_that_was_full_at_the_start_is_followed_by_a_new_one(tmp_path: Path) -> None:
    before = Log(tmp_path, lines=2)
    before.write(LINE, LINE)
    before.file.close()
    log = Log(tmp_path, lines=2)
    log.write(LINE)
    assert (log.names(), log.told) == ([NAME, f"{NAME}.1"], [])


def test_two_brokers_do_not_take_each_others_files(tmp_path: Path) -> None:
    first, second = Log(tmp_path), Log(tmp_path)
    first.write(LINE)
    second.write(b"second\n", b"second\n")
    assert len(second.told) == 1 and "another broker" in second.told[0]
    first.file.close()
    second.now += 2
    second.write(b"third\n")
    assert first.lines() == [LINE, b"third\n"]


def test_a_file_that_was_deleted_is_made_anew(log: Log) -> None:
    log.write(LINE)
    (log.directory / NAME).unlink()
    log.write(b"new\n")
    assert log.lines() == [b"new\n"]


def test_a_directory_that_was_deleted_is_made_anew(log: Log) -> None:
    log.write(LINE)
    (log.directory / NAME).unlink()
    log.directory.rmdir()
    log.write(b"lost\n")
    log.now += 2
    log.write(b"new\n")
    assert log.lines() == [b"new\n"]
    assert [text.split(";")[0] for text in log.told] == [
        f"log files in {log.directory} cannot be written: No such file or directory",
        f"log files in {log.directory} are written again",
    ]


def test_a_link_in_place_of_the_file_is_not_followed(log: Log, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    log.directory.mkdir()
    (log.directory / NAME).symlink_to(victim)
    log.write(LINE)
    assert victim.read_text() == "precious" and len(log.told) == 1


@pytest.mark.parametrize("kind", ["pipe", "directory"])
def test_what_is_no_file_is_not_written_to_and_does_not_hold_up(tmp_path: Path, kind: str) -> None:
    log = Log(tmp_path / "logs", lines=10_000)
    log.directory.mkdir()
    if kind == "pipe":
        os.mkfifo(log.directory / NAME)
    else:
        (log.directory / NAME).mkdir()
    log.write(LINE)
    assert len(log.told) == 1


def test_a_failure_is_told_once_and_tried_again_after_a_while(log: Log) -> None:
    log.directory.write_text("in the way")
    log.write(*[LINE] * 5)
    log.directory.unlink()
    log.write(LINE)
    assert not log.directory.exists(), "it is not tried at each line"
    log.now += 2
    log.write(b"back\n")
    assert log.lines() == [b"back\n"]
    assert len(log.told) == 2 and "6 lines are missing" in log.told[1]


FULL_DISK = """
import resource, sys
from pathlib import Path
from streambroker.observe.rotation import RotatingFile

now, told = [0.0], []
file = RotatingFile(told.append, clock=lambda: now[0])
file.place(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (25, resource.RLIM_INFINITY))
for number in range(5):
    file.write(b"line %05d\\n" % number)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
now[0] += 2
file.write(b"line 00005\\n")
sys.stdout.write("\\n".join(told))
"""


def test_half_a_line_that_a_full_disk_took_does_not_spoil_the_next(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: it too takes a part of a line, then nothing."""
    ran = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = (tmp_path / NAME).read_text().splitlines()
    assert lines == ["line 00000", "line 00001", "lin", "line 00005"]
    assert len(ran.stdout.splitlines()) == 2 and "3 lines are missing" in ran.stdout
