"""``streambroker queue``: list, show, create, set, purge, pause, resume, redrive, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output, moment, span
from streambroker.cli.queue_config import Given, takes_config
from streambroker.cli.values import QueueName, Yes, complete_queue, confirmed

if TYPE_CHECKING:
    from streambroker.client.errors import Conflict
    from streambroker.client.models import Backoff, Queue
    from streambroker.client.rest import Rest

app = typer.Typer(no_args_is_help=True, help="Look at queues, create, change, empty and delete them.")

_COLUMNS = (
    "QUEUE", "PENDING", "DELAYED", "PROCESSING", "PROCESSED", "FAILED", "IN/S", "OUT/S", "OLDEST", "CONSUMERS",
)  # fmt: skip


@app.command("list")
@uses_rest
async def list_queues(client: Rest, out: Output) -> None:
    """List the queues that you may view."""
    if out.json:
        out.document([queue async for queue in client.queues.list()])
        return
    rows = [_row(queue) async for queue in client.queues.list()]
    out.table(_COLUMNS, rows, right=_COLUMNS[1:], spare=("PROCESSED", "DELAYED", "CONSUMERS"))


def _row(queue: Queue) -> list[str]:
    counts = queue.counts
    return [
        f"{queue.name} (paused)" if queue.paused else queue.name,
        *(f"{n}" for n in (counts.pending, counts.delayed, counts.processing, counts.processed, counts.failed)),
        f"{queue.rates.published:.1f}",
        f"{queue.rates.delivered:.1f}",
        span(queue.oldest_pending_age_ms),
        f"{queue.consumers}",
    ]


@app.command()
@uses_rest
async def show(client: Rest, out: Output, name: QueueName) -> None:
    """Look at a queue: what is in it, its rates, its configuration."""
    _shown(out, await client.queues.get(name))


def _shown(out: Output, queue: Queue) -> None:
    if out.json:
        out.document(queue)
        return
    counts, rates, config = queue.counts, queue.rates, queue.config
    waits = config.backoff
    out.fields(
        [
            ("queue", queue.name + (" (paused)" if queue.paused else "")),
            ("created", moment(queue.created_at)),
            ("pending", f"{counts.pending}" + (f", of them {counts.delayed} delayed" if counts.delayed else "")),
            ("processing", f"{counts.processing}"),
            ("processed", f"{counts.processed}"),
            ("failed", f"{counts.failed}"),
            ("per second", f"{rates.published:.1f} in, {rates.delivered:.1f} out, {rates.settled:.1f} settled"),
            ("oldest", span(queue.oldest_pending_age_ms)),
            ("consumers", f"{queue.consumers}"),
            ("lease", span(config.lease_ms)),
            ("max attempts", f"{config.max_attempts}" if config.max_attempts else "no limit"),
            ("backoff", _backoff(waits)),
            ("dead letters", config.dead_letter_queue or "stay here as failed"),
            ("message ttl", span(config.message_ttl_ms) if config.message_ttl_ms else "none"),
            ("max messages", f"{config.max_messages}, then {config.overflow}" if config.max_messages else "no limit"),
            ("retention", span(config.retention_ms)),
            ("dedup window", span(config.dedup_window_ms)),
            ("durability", config.durability),
        ]
    )


def _backoff(waits: Backoff) -> str:
    if waits.kind == "fixed":
        return f"{span(waits.base_ms)}{', jitter' if waits.jitter else ''}"
    jitter = ", jitter" if waits.jitter else ""
    return f"{span(waits.base_ms)} × {waits.factor:g} up to {span(waits.max_ms)}{jitter}"


@app.command()
@uses_rest
@takes_config
async def create(client: Rest, out: Output, name: QueueName, config: Given, backoff: Given) -> None:
    """Create a queue. That it is there already, with this very configuration, is no error."""
    from streambroker.client.errors import Conflict

    if backoff:
        config["backoff"] = backoff
    try:
        queue = await client.queues.create(name, **config)
    except Conflict as error:
        raise _as_it_is_done_here(error, name) from None
    out.answer(queue, f"the queue {queue.name} is there")


def _as_it_is_done_here(error: Conflict, name: str) -> Conflict:
    """The conflict, with the command that changes a queue and not the broker's path for it."""
    from streambroker.client.errors import Conflict, ProblemDocument

    detail = f"the queue {name} exists with another configuration; `streambroker queue set {name}` changes it"
    return Conflict(ProblemDocument(error.code, error.status, detail=detail), error.request_id)


@app.command("set")
@uses_rest
@takes_config
async def change(client: Rest, out: Output, name: QueueName, config: Given, backoff: Given) -> None:
    """Change a queue's configuration; what is not named stays. It holds for what happens from now on."""
    if backoff:
        # The broker replaces it whole.
        config["backoff"] = {**msgspec.structs.asdict((await client.queues.get(name)).config.backoff), **backoff}
    if not config:
        fail(Exit.USAGE, "nothing to change was named")
    _shown(out, await client.queues.update(name, **config))


@app.command()
@uses_rest
async def purge(
    client: Rest,
    out: Output,
    name: QueueName,
    status: Annotated[Literal["pending", "failed", "processed", "all"], typer.Option(help="Which.")] = "pending",
    yes: Yes = False,
) -> None:
    """Delete the messages of a queue that wait (or failed, or are processed); never what is processing."""
    counts = (await client.queues.get(name)).counts
    by_status = {"pending": counts.pending, "failed": counts.failed, "processed": counts.processed}
    number = by_status.get(status, sum(by_status.values()))
    what = f"{number} messages" if status == "all" else f"{number} {status} messages"
    confirmed(f"Delete {what} of the queue {name} for good?", yes)
    purged = await client.queues.purge(name, status)
    out.answer({"queue": name, "purged": purged}, f"{purged} messages deleted")


@app.command()
@uses_rest
async def pause(client: Rest, out: Output, name: QueueName) -> None:
    """Deliver nothing from a queue; publishing and settling go on."""
    queue = await client.queues.pause(name)
    out.answer(queue, f"the queue {name} is paused; `streambroker queue resume {name}` lets it go on")


@app.command()
@uses_rest
async def resume(client: Rest, out: Output, name: QueueName) -> None:
    """Go on delivering."""
    queue = await client.queues.resume(name)
    out.answer(queue, f"the queue {name} delivers")


@app.command()
@uses_rest
async def redrive(
    client: Rest,
    out: Output,
    name: QueueName,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="QUEUE", autocompletion=complete_queue,
            help="The dead-letter queue to take them back from, in place of the queue's own failed messages.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="No more than so many.")] = None,
) -> None:  # fmt: skip
    """Make a queue's failed messages, or its dead letters, ready again."""
    redriven = await client.queues.redrive(name, source, limit)
    out.answer({"queue": name, "redriven": redriven}, f"{redriven} messages are ready again in {name}")


@app.command()
@uses_rest
async def delete(client: Rest, out: Output, name: QueueName, yes: Yes = False) -> None:
    """Delete a queue and everything in it."""
    counts = (await client.queues.get(name)).counts
    number = counts.pending + counts.processing
    confirmed(f"Delete the queue {name} with {number} waiting and {counts.failed} failed messages for good?", yes)
    await client.queues.delete(name)
    out.answer({"queue": name, "deleted": True}, f"the queue {name} is deleted")
