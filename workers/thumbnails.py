"""Background tasks: thumbnails of images, made by workers that get the images as raw bytes.

Give it images or folders; without any, it draws some samples, one of them broken. It publishes them, makes thumbnails
into --out and ends when all are made, or given up: what no image can be read from becomes a dead letter. `--work` only
works, until it is stopped; `--publish` only publishes. Images larger than --inline-kib go as a path, which the workers
must be able to read.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import math
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, UnidentifiedImageError

from streambroker.client import Client, Draft, Message, Reject, worker
from workers import program

QUEUE, DEAD = "thumbnails", "thumbnails.dead"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
BATCH_BYTES = 4 * 1024 * 1024
DONE_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to be made small. `path` is where it lies, if it lies anywhere."""

    name: str
    content: bytes
    path: Path | None = None


def samples(number: int) -> Iterator[Picture]:
    """Drawn ones, and one that is none."""
    for n in range(number):
        picture = Image.linear_gradient("L").resize((640, 480)).rotate(30 * n).convert("RGB")
        draw = ImageDraw.Draw(picture)
        for ring in range(12):
            radius = 20 + 18 * ring
            colour = tuple(int(127 + 127 * math.sin(ring + n + shift)) for shift in (0, 2, 4))
            draw.ellipse((320 - radius, 240 - radius, 320 + radius, 240 + radius), outline=colour, width=6)
        with io.BytesIO() as file:
            picture.save(file, "PNG")
            yield Picture(f"sample-{n}.png", file.getvalue())
    yield Picture("broken.png", b"\x89PNG, and then the disk was full")


def pictures(paths: list[Path]) -> Iterator[Picture]:
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for image in found:
            if not path.is_dir() or image.suffix.lower() in SUFFIXES:
                yield Picture(image.name, image.read_bytes(), image.resolve())


def draft(picture: Picture, run: str, inline: int) -> Draft:
    headers = {"name": picture.name}
    if picture.path is not None and len(picture.content) > inline:
        return Draft(content={"path": str(picture.path)}, headers=headers, correlation_id=run)
    content_type = Image.registered_extensions().get(Path(picture.name).suffix.lower(), "octet-stream")
    kind = "application/octet-stream" if content_type == "octet-stream" else f"image/{content_type.lower()}"
    return Draft(content=picture.content, content_type=kind, headers=headers, correlation_id=run)


async def publish(client: Client, found: Iterator[Picture], run: str, inline: int) -> int:
    """Publish them in batches of a few megabytes; how many."""
    batch: list[Draft] = []
    size = published = 0
    for picture in found:
        batch.append(draft(picture, run, inline))
        size += min(len(picture.content), inline)
        published += 1
        if size >= BATCH_BYTES or len(batch) == 100:
            await client.publish_many(QUEUE, batch)
            batch, size = [], 0
    if batch:
        await client.publish_many(QUEUE, batch)
    return published


def thumbnail(content: bytes, side: int) -> bytes:
    """A PNG that fits into a square. Raises `Reject` for what is no image: no second attempt would help."""
    try:
        with Image.open(io.BytesIO(content)) as image, io.BytesIO() as file:
            image.thumbnail((side, side))
            image.convert("RGBA").save(file, "PNG")
            return file.getvalue()
    except UnidentifiedImageError:
        raise Reject("no image can be read from it") from None
    except (Image.DecompressionBombError, SyntaxError, OSError) as error:
        raise Reject(f"not an image: {error}") from error


class Studio:
    """Makes thumbnails into a folder; owns the count of those that it was asked for and has ended."""

    def __init__(self, out: Path, side: int, run: str) -> None:
        self.out = out
        self.side = side
        self.run = run
        self.ended = 0
        self.more = asyncio.Event()

    async def make(self, message: Message) -> None:
        name = str(message.headers.get("name", message.message_id))
        content = message.content
        if isinstance(content, dict):
            content = await asyncio.to_thread(Path(content["path"]).read_bytes)
        small = await asyncio.to_thread(thumbnail, content, self.side)
        target = self.out / f"{Path(name).stem}-{message.message_id[-6:]}.png"  # never a path out of a message
        await asyncio.to_thread(target.write_bytes, small)
        print(f"{name}: {len(content)} -> {len(small)} bytes, {target.name}", flush=True)
        self.count(message)

    async def given_up(self, message: Message) -> None:
        assert message.dead_letter is not None
        print(f"{message.headers.get('name')}: given up, {message.dead_letter.error}", flush=True)
        self.count(message)

    def count(self, message: Message) -> None:
        self.ended += message.correlation_id == self.run
        self.more.set()

    async def all_ended(self, number: int) -> None:
        while self.ended < number:
            self.more.clear()
            await self.more.wait()


async def main(arguments: argparse.Namespace, client: Client) -> None:
    run = secrets.token_hex(4)
    await client.queues.create(DEAD)
    await client.queues.create(QUEUE, dead_letter_queue=DEAD, max_attempts=3)
    found = pictures(arguments.images) if arguments.images else samples(6)
    inline = arguments.inline_kib * 1024
    if arguments.publish:
        print(f"published {await publish(client, found, run, inline)} images", flush=True)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    studio = Studio(arguments.out, arguments.side, run)
    make = worker(QUEUE, concurrency=arguments.concurrency)(studio.make)
    if arguments.work:
        print(f"making thumbnails into {arguments.out}", flush=True)
        async with program.at_work(client, make):
            await program.until_told()
    async with program.at_work(client, make, worker(DEAD)(studio.given_up)):
        published = await publish(client, found, run, inline)
        try:
            async with asyncio.timeout(DONE_WITHIN_S):
                await studio.all_ended(published)
        except TimeoutError:
            raise program.ProgramError(f"only {studio.ended} of {published} were made") from None
    print(f"{published} images: thumbnails are in {arguments.out}", flush=True)


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("images", nargs="*", type=Path, help="files or folders (samples are drawn)")
    parser.add_argument("--out", type=Path, default=Path("thumbnails"), help="where they go (%(default)s)")
    parser.add_argument("--side", type=int, default=128, help="of the square that they fit into (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=2, help="images at a time (%(default)s)")
    parser.add_argument("--inline-kib", type=int, default=512, help="larger ones go as a path (%(default)s)")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--work", action="store_true", help="only work, until stopped")
    alone.add_argument("--publish", action="store_true", help="only publish")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
