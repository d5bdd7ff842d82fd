"""Events between services: a shop, its bills, its stock and its letters, which know the events and not each other.

What happens is published to one queue, `shop.events`. A router copies each event to the queues of those who asked for
its topic (`order.*`). Copies have the event's id as dedup id, and each service notes the ids of what it has done in one
transaction with what it does: an event that comes twice counts once. Whatever follows from an order has its correlation
id. Alone, it runs all of this for --orders orders, each of which the shop publishes twice, and prints what came of
them; `--only billing stock` runs some services until they are stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sqlite3
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from streambroker.client import Client, Draft, Message, Worker, worker
from workers import program

EVENTS = "shop.events"
# Who wants to hear what. A new service is a line here, and nobody who publishes has to know.
TOPICS = {
    "billing": ("order.placed",),
    "stock": ("order.placed",),
    "letters": ("order.*", "stock.*"),
}
DONE_WITHIN_S = 60


class Event(msgspec.Struct, frozen=True):
    """Something that happened. `id` names it for ever; `order` is what it is about."""

    id: str
    topic: str
    order: str
    pieces: int = 0
    cents: int = 0


def wanted_by(topic: str) -> list[str]:
    """The services that asked for a topic."""
    return [service for service, patterns in TOPICS.items() if any(fnmatchcase(topic, p) for p in patterns)]


def draft(event: Event) -> Draft:
    return Draft(content=event, dedup_id=event.id, correlation_id=event.order, headers={"topic": event.topic})


class Book:
    """What a service has done, in SQLite. An event's id and its effect are written in one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS done (event PRIMARY KEY, the_order TEXT, what TEXT)")

    def write(self, event: Event, what: str) -> bool:
        """Note an effect; False where this event had it already."""
        with closing(sqlite3.connect(self.path)) as database, database:
            row = (event.id, event.order, what)
            return database.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?)", row).rowcount == 1

    def lines(self, order: str) -> list[str]:
        with closing(sqlite3.connect(self.path)) as database:
            return [what for (what,) in database.execute("SELECT what FROM done WHERE the_order = ?", (order,))]


class Services:
    """The router and the services; owns each service's book."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client = client
        self.books = {service: Book(folder / f"{service}.db") for service in TOPICS}

    def workers(self, names: list[str]) -> list[Worker]:
        handlers: dict[str, Callable[[Message], Awaitable[None]]] = {
            "billing": self.bill,
            "stock": self.reserve,
            "letters": self.write_letter,
        }
        made = [worker(f"shop.{name}", concurrency=4)(handlers[name]) for name in names if name in handlers]
        return [*made, worker(EVENTS, concurrency=8)(self.route)] if "router" in names else made

    async def route(self, message: Message) -> None:
        """Copy an event to whoever wants it. Done half and then again, it copies the other half."""
        event = message.decode(Event)
        copies = [self.client.publish_many(f"shop.{service}", [draft(event)]) for service in wanted_by(event.topic)]
        await asyncio.gather(*copies)

    async def bill(self, message: Message) -> None:
        event = message.decode(Event)
        await asyncio.to_thread(self.books["billing"].write, event, f"billed {event.cents / 100:.2f}")
        # Told again each time: the id follows from the event's, so that a second one is a duplicate.
        await self.tell(Event(f"{event.id}/paid", "order.paid", event.order, cents=event.cents))

    async def reserve(self, message: Message) -> None:
        event = message.decode(Event)
        topic = "stock.short" if event.pieces > 8 else "stock.reserved"
        await asyncio.to_thread(self.books["stock"].write, event, f"{topic}: {event.pieces}")
        await self.tell(Event(f"{event.id}/stock", topic, event.order, pieces=event.pieces))

    async def write_letter(self, message: Message) -> None:
        event = message.decode(Event)
        await asyncio.to_thread(self.books["letters"].write, event, event.topic)

    async def tell(self, event: Event) -> None:
        await self.client.publish_many(EVENTS, [draft(event)])


async def place_orders(client: Client, number: int) -> list[str]:
    """Every order is published twice, as a shop does whose first request seemed lost; the second stores nothing."""
    day = secrets.token_hex(3)
    events = [
        Event(f"{day}-{n}/placed", "order.placed", f"{day}-{n}", pieces=1 + n % 10, cents=995 * (1 + n % 10))
        for n in range(number)
    ]
    twice = await asyncio.gather(*(client.publish_many(EVENTS, [draft(event)]) for event in events + events))
    duplicates = sum(len(batch.duplicates) for batch in twice)
    print(f"the shop published {len(twice)} events, {duplicates} of them duplicates", flush=True)
    return [event.order for event in events]


async def letters_are_written(services: Services, orders: list[str]) -> None:
    """Three events of each order reach `letters`: placed, paid, and what the stock said."""
    book = services.books["letters"]
    async with asyncio.timeout(DONE_WITHIN_S):
        while any(len(book.lines(order)) < 3 for order in orders):  # noqa: ASYNC110 - it looks at a file
            await asyncio.sleep(0.05)


def show(services: Services, orders: list[str]) -> None:
    table = Table(title="What came of the orders")
    for column in ("order", *services.books):
        table.add_column(column)
    for order in orders:
        table.add_row(order, *(", ".join(sorted(book.lines(order))) for book in services.books.values()))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


async def main(arguments: argparse.Namespace, client: Client) -> None:
    async with AsyncExitStack() as stack:
        folder = arguments.books or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="books-")))
        folder.mkdir(parents=True, exist_ok=True)
        services = Services(client, folder)
        names = arguments.only or ["router", *TOPICS]
        await stack.enter_async_context(program.at_work(client, *services.workers(names)))
        if arguments.only:
            print(f"running {', '.join(names)}", flush=True)
            await program.until_told()
        orders = await place_orders(client, arguments.orders)
        try:
            await letters_are_written(services, orders)
        except TimeoutError:
            raise program.ProgramError(f"the orders were not done within {DONE_WITHIN_S} s") from None
        show(services, orders)


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--orders", type=int, default=10, help="how many the shop takes (%(default)s)")
    parser.add_argument("--books", type=Path, help="where the services keep theirs (temporary)")
    parser.add_argument("--only", nargs="+", choices=("router", *TOPICS), help="only these, until stopped")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
