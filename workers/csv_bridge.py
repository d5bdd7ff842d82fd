"""A bridge for a program that can only write CSV files: each row of each file in a folder becomes a message.

It watches FOLDER. A file that has not changed for --quiet seconds is read, its rows are published as objects, and it is
moved to FOLDER/done; one that cannot be read goes to FOLDER/failed with a note why. A row's dedup id is the file's
SHA-256 and its number: if the bridge dies halfway, it publishes the file again and no row is stored twice (within
the queue's dedup_window_ms, a day by default). Writers that rename a finished file into the folder are safest.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from streambroker.client import Client, Draft
from workers import program

BATCH = 500


class UnreadableError(Exception):
    """It is no CSV file with a header and as many fields in each row."""


def rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows by the header's names. Raises `UnreadableError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = next(reader, [])
            if len(set(names)) < len(names) or not names:
                raise UnreadableError("the header is empty, or names a column twice")
            for fields in reader:
                if len(fields) != len(names):
                    raise UnreadableError(f"line {reader.line_num}: {len(fields)} fields under {len(names)} names")
                yield dict(zip(names, fields, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableError(str(error)) from error


def batches(path: Path) -> Iterator[list[Draft]]:
    """A file's rows as drafts. All of it is read once before, so that a broken file is refused whole."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for _ in rows(path):
        pass
    batch: list[Draft] = []
    for number, row in enumerate(rows(path), start=1):
        batch.append(Draft(content=row, dedup_id=f"{digest}/{number}", headers={"file": path.name, "row": number}))
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class Bridge:
    """Owns the folder: nothing else moves files out of it."""

    def __init__(self, client: Client, folder: Path, queue: str, quiet_s: float) -> None:
        self.client = client
        self.folder = folder
        self.queue = queue
        self.quiet_s = quiet_s
        for name in ("done", "failed"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def quiet_files(self) -> list[Path]:
        """Those that nobody has written to for a while, oldest first."""
        found = [(path.stat().st_mtime, path) for path in self.folder.glob("*.csv") if path.is_file()]
        return [path for changed, path in sorted(found) if time.time() - changed >= self.quiet_s]

    async def carry(self, path: Path) -> None:
        """Publish one file and move it. Moved last: what dies before is done again, and stored once."""
        published = duplicates = 0
        try:
            for batch in batches(path):
                stored = await self.client.publish_many(self.queue, batch, timeout=None)
                published += len(batch) - len(stored.duplicates)
                duplicates += len(stored.duplicates)
        except UnreadableError as error:
            moved = self.move(path, "failed")
            moved.with_suffix(".txt").write_text(f"{error}\n")
            print(f"{path.name}: refused, {error}", flush=True)
            return
        self.move(path, "done")
        again = f", {duplicates} were there already" if duplicates else ""
        print(f"{path.name}: {published} rows to {self.queue}{again}", flush=True)

    def move(self, path: Path, folder: str) -> Path:
        """A name that is taken gets a number."""
        target = self.folder / folder / path.name
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem}-{number}{path.suffix}")
        return path.rename(target)


async def main(arguments: argparse.Namespace, client: Client) -> None:
    bridge = Bridge(client, arguments.folder, arguments.queue, 0 if arguments.once else arguments.quiet)
    if not arguments.once:
        print(f"watching {arguments.folder}", flush=True)
    while True:
        for path in bridge.quiet_files():
            await bridge.carry(path)
        if arguments.once:
            return
        await asyncio.sleep(arguments.every)  # a folder on a network share tells of changes in no other way


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queue", default="rows", help="where the rows go (%(default)s)")
    parser.add_argument("--quiet", type=float, default=1, help="seconds (%(default)s)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between looks (%(default)s)")
    parser.add_argument("--once", action="store_true", help="carry what is there, and end")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
