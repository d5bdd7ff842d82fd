"""``streambroker db``: the data as such. A backup beside a running broker, checks, upgrades, and making it smaller."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output
from streambroker.config import data_directory
from streambroker.core.errors import DataDirUnusable

if TYPE_CHECKING:
    from streambroker.store.sql.upkeep import Examined

KEY_FILE = "jwt.key"

app = typer.Typer(no_args_is_help=True, help="Back up, check, upgrade and compact the data.")

DataDir = Annotated[str | None, typer.Option("--data-dir", help="Where the data is kept.")]
Config = Annotated[str | None, typer.Option("--config", help="A TOML file with settings.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(help="A directory that is new, or has no data in it.")],
    data_dir: DataDir = None,
    config: Config = None,
    with_key: Annotated[
        bool, typer.Option("--with-key", help="Copy the signing key too: sessions stay good. Keep the copy safe then.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy the data of one moment, also while a broker runs. The copy is a data directory that a broker starts on.

    Everything that the broker had confirmed when the backup began is in it.
    """
    from streambroker.store.sql import upkeep  # SQLite and what is around it: `--help` does not need them

    directory, out, began = data_directory({"data_dir": data_dir, "config": config}), Output(json), time.monotonic()
    with _bytes_bar(out, "copying") as progress:
        copied = upkeep.copy(directory, destination, progress)
    with_key = with_key and (directory / KEY_FILE).exists()
    if with_key:
        upkeep.copy_file(directory / KEY_FILE, destination / KEY_FILE)
    seconds = round(time.monotonic() - began, 3)
    answer = {
        "path": str(copied.path), "bytes": copied.bytes, "messages": copied.messages, "schema": copied.schema,
        "with_key": with_key, "seconds": seconds,
    }  # fmt: skip
    key = "with the signing key" if with_key else "without a signing key: who was logged in logs in again"
    out.answer(
        answer,
        f"{copied.path}: {copied.messages:,} messages, {size(copied.bytes)}, in {seconds:.1f} s, {key}. "
        f"Try it: streambroker serve --data-dir {destination} --port 0",
    )


@app.command()
def check(data_dir: DataDir = None, config: Config = None, json: Json = False) -> None:
    """Read all of the data and say what is wrong with it; exits with 65 then. A broker may run meanwhile."""
    from streambroker.store.sql import upkeep

    directory, out = data_directory({"data_dir": data_dir, "config": config}), Output(json)
    with _spinner(out, "reading all of the data"):
        found = upkeep.examine(directory)
    if out.json:
        out.document({"ok": not found.problems, **_members(found)})
    else:
        _tell(found, out)
    if found.problems:
        sys.exit(Exit.DAMAGED)


@app.command()
def upgrade(data_dir: DataDir = None, config: Config = None, json: Json = False) -> None:
    """Bring the data to the version of this program, as `serve` would, while no broker runs. It is backed up before."""
    from streambroker.store.sql import upkeep

    directory, out = data_directory({"data_dir": data_dir, "config": config}), Output(json)
    with _spinner(out, "checking and upgrading"), _stopped_broker():
        done = upkeep.upgrade(directory)
    answer = {
        "before": done.before, "after": done.after, "backup": None if done.backup is None else str(done.backup)
    }  # fmt: skip
    if done.before == done.after:
        out.answer(answer, f"the data is up to date (schema {done.after})")
    else:
        out.answer(
            answer, f"upgraded from schema {done.before} to {done.after}; what was there before is in {done.backup}"
        )


@app.command()
def compact(data_dir: DataDir = None, config: Config = None, json: Json = False) -> None:
    """Give the room that messages have left back to the disk, while no broker runs.

    A broker uses that room again by itself, so this is worth it only after a backlog that will not come back.
    """
    from streambroker.store.sql import upkeep

    directory, out = data_directory({"data_dir": data_dir, "config": config}), Output(json)
    with _spinner(out, "writing the data anew"), _stopped_broker():
        done = upkeep.compact(directory)
    answer = {"bytes_before": done.before, "bytes_after": done.after}
    out.answer(answer, f"{size(done.before)} before, {size(done.after)} now")


@contextmanager
def _stopped_broker() -> Iterator[None]:
    """Explain why this needs the directory for itself."""
    try:
        yield
    except DataDirUnusable as error:
        if "another broker" not in str(error):
            raise
        fail(Exit.CANNOT_USE, f"{error}. This writes to the data, which only one process may do at a time")


def _tell(found: Examined, out: Output) -> None:
    if found.problems:
        for problem in found.problems:
            out.line(f"problem: {problem}")
        out.line("do not serve this; restore a backup (docs: Operations, Backups), and keep the damaged files")
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in found.messages.items())
    out.line(f"sound: {found.queues:,} queues; {counts}")
    free = f", of which {size(found.free_bytes)} are free to be used again" if found.free_bytes else ""
    out.line(f"{size(found.bytes)}{free}; schema {found.schema}")
    if found.schema < found.newest:
        out.line(
            f"this program writes schema {found.newest}: the next start, or `streambroker db upgrade`, upgrades it"
        )


def _members(found: Examined) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__slots__}


def size(count: int) -> str:
    """Bytes for people."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1_024 and len(units) > 1:
        value, units = value / 1_024, units[1:]
    return f"{value:,.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


@contextmanager
def _bytes_bar(out: Output, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr where somebody looks."""
    if not _watched(out):
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, of: bars.update(task, completed=done, total=of)


@contextmanager
def _spinner(out: Output, what: str) -> Iterator[None]:
    if not _watched(out):
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _watched(out: Output) -> bool:
    from importlib.util import find_spec

    return not out.json and sys.stderr.isatty() and find_spec("rich") is not None
