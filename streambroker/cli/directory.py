"""What is wrong with a data directory, seen from beside the broker. Nothing is made or changed."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from streambroker.cli.diagnosis import Finding, note, of_disk, of_files, of_log, of_sqlite, problem
from streambroker.store.sql.connection import DATABASE, migrations, pid_of_holder

_PRIVATE = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "jwt.key")
_OVER_THE_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs")


def of_directory(directory: Path, pid: str | None) -> Iterator[Finding]:
    """`pid` is the process that holds it, None where no broker runs."""
    subject = "data directory"
    path = directory / DATABASE
    if not path.exists():
        yield problem(
            subject, f"there is no data in {directory}", "a broker that starts on it begins with nothing",
            "--data-dir says where the data is",
        )  # fmt: skip
        return
    if pid is None:
        yield note(
            subject, f"no broker runs on {directory}", "nothing is delivered",
            f"streambroker serve --data-dir {directory}",
        )  # fmt: skip
    yield from _permissions(directory)
    yield from _file_system(directory)
    yield from of_disk(shutil.disk_usage(directory).free)
    log = path.with_name(f"{DATABASE}-wal")
    yield from of_log(log.stat().st_size if log.exists() else 0)
    if pid is not None and not (directory / "ballast").exists():
        yield problem(
            subject, "the ballast is gone", "the broker gave it up because the disk was full, or could not make it",
            "make room on the disk; it is taken back by itself",
        )  # fmt: skip
    yield from _schema(path)
    if left := sorted(directory.glob("backup-schema-*.db")):
        names = ", ".join(one.name for one in left)
        yield note(subject, f"backups of upgrades are there: {names}", "they take room", "delete them when all is well")
    yield from of_files(0, _files_of(pid))
    yield from of_sqlite(sqlite3.sqlite_version)


def _permissions(directory: Path) -> Iterator[Finding]:
    if (mode := stat.S_IMODE(directory.stat().st_mode)) & 0o077:
        yield problem(
            "permissions", f"others may look into {directory} (mode {mode:03o})", "the data is everybody's messages",
            f"chmod 700 {directory}",
        )  # fmt: skip
    for name in _PRIVATE:
        file = directory / name
        if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            yield problem(
                "permissions", f"others may use {file} (mode {mode:03o})", "it is meant for the broker's user only",
                f"chmod 600 {file}",
            )  # fmt: skip
    owners = {file.stat().st_uid for name in _PRIVATE if (file := directory / name).exists()}
    if len(owners) > 1:
        yield problem(
            "permissions", f"the files in {directory} belong to different users", "the broker may not open all of them",
            f"chown -R the broker's user {directory}",
        )  # fmt: skip


def _file_system(directory: Path) -> Iterator[Finding]:
    kind = file_system(directory)
    if kind in _OVER_THE_NETWORK:
        yield problem(
            "data directory", f"it is on a network file system ({kind})",
            "such lack the locks and the fsync that durability rests on", "move it to a local disk (ext4, XFS)",
        )  # fmt: skip


def file_system(directory: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of file system that a directory is on; empty where it cannot be told."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    here = directory.resolve()
    on = [(point, kind) for _, point, kind, *_ in lines if here.is_relative_to(point)]
    return max(on, key=lambda one: len(one[0]), default=("", ""))[1]


def _schema(path: Path) -> Iterator[Finding]:
    newest = migrations()[-1][0]
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        yield problem(
            "data", f"the database cannot be read: {error}", "a broker will not start on it", "streambroker db check"
        )  # fmt: skip
        return
    if found > newest:
        yield problem(
            "data", f"it was written by a newer streambroker (schema {found}; this one knows {newest})",
            "this version will not start on it", "use the newer one",
        )  # fmt: skip
    elif found < newest:
        yield note(
            "data", f"it is of an older version (schema {found}, now {newest})", "the next start upgrades it",
            "streambroker db upgrade does it now, while no broker runs",
        )  # fmt: skip


def _files_of(pid: str | None) -> float:
    """The most files that the broker may have open; of this shell where none runs. 0: not known."""
    if pid is None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 0 if hard == resource.RLIM_INFINITY else hard
    try:
        lines = Path(f"/proc/{int(pid)}/limits").read_text().splitlines()
        soft = next(line for line in lines if line.startswith("Max open files")).split()[3]
        return 0 if soft == "unlimited" else float(soft)
    except (OSError, ValueError, StopIteration):
        return 0


def holder(directory: Path) -> str | None:
    """The pid of the broker that runs on the directory, if one does."""
    return pid_of_holder(directory)
