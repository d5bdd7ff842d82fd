"""``streambroker tail``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.interrupts import interrupts
from streambroker.cli.output import Output, moment, plain
from streambroker.cli.values import QueueName

if TYPE_CHECKING:
    from streambroker.client.models import QueueEvent
    from streambroker.client.rest import Rest

app = typer.Typer()

_COLORS = {"message_processed": "green", "message_failed": "red", "message_requeued": "yellow"}


@app.command()
@uses_rest
async def tail(
    client: Rest,
    out: Output,
    queue: QueueName,
    event: Annotated[
        list[str] | None,
        typer.Option("--event", "-e", metavar="EVENT", help="Only these, such as message_failed; repeatable."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many events.")] = None,
) -> None:
    """Watch what happens in a queue, live, until Ctrl-C; comes back by itself when the connection is lost."""
    await client.users.me()  # it would come back for ever to a broker that is not there; say so now
    async with interrupts(asyncio.Event()) as stopped:
        watching = asyncio.ensure_future(_watch(client, out, queue, event or [], count))
        stopping = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if watching.done():
            watching.result()
        else:
            watching.cancel()
            await asyncio.wait((watching,))


async def _watch(client: Rest, out: Output, queue: str, kinds: list[str], count: int | None) -> None:
    async with aclosing(client.events(queue, kinds=kinds)) as events:
        seen = 0
        async for event in events:
            _shown(out, event)
            seen += 1
            if seen == count:
                return


def _shown(out: Output, event: QueueEvent) -> None:
    if out.json:
        out.document(event)
        return
    if event.event == "gap":
        missed = "some events were" if event.lost is None else f"{event.lost} events were"
        out.say(f"{missed} missed")
        return
    attempt = f"attempt {event.attempt}" if event.attempt else ""
    line = f"{moment(event.at)}  {event.event:<17}  {event.message_id}  {attempt:<11}{event.status}"
    color = _COLORS.get(event.event) if out.for_people else None
    out.line(typer.style(plain(line), fg=color) if color else plain(line).rstrip())
