"""Values as people type them: durations, times, rates, grants, headers; and what completes the name of a queue."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from streambroker.cli.exits import Exit, fail

if TYPE_CHECKING:
    from streambroker.client.models import Grant, Scalar
    from streambroker.client.rest import Rest

T = TypeVar("T")

_UNITS = {"": 1, "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_duration = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|)").fullmatch
_rate = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(?:/\s*(s|sec|second|m|min|minute|h|hour))?").fullmatch
ACTIONS = ("publish", "consume", "manage", "view")
COMPLETE_WITHIN_S = 1.0


def duration(text: str | int) -> int:
    """Milliseconds of ``250ms``, ``30s``, ``5m``, ``2h``, ``7d`` or a bare number of milliseconds."""
    found = _duration(str(text).strip().lower())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration; say 250ms, 30s, 5m, 2h or 7d")
    return round(float(found[1]) * _UNITS[found[2]])


def rate(text: str | float) -> float:
    """How many a second: ``100``, ``100/s``, ``30/m``."""
    found = _rate(str(text).strip().lower())
    per = {"s": 1, "m": 60, "h": 3_600}[(found[2] or "s")[0]] if found else 1
    if found is None or float(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no rate; say 100/s, 30/m or a number a second")
    return float(found[1]) / per


def time(text: str | datetime) -> datetime:
    """A time with a zone, as RFC 3339 has it, or a duration from now."""
    if isinstance(text, datetime):
        return text
    if _duration(text.strip().lower()):
        return datetime.now(UTC) + timedelta(milliseconds=duration(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is no time; say 2026-11-22T10:00:00Z, or 30d for in thirty days")
    return found


def grant(text: str) -> Grant:
    """``orders.*:publish,view`` or ``orders.*:all``."""
    from streambroker.client.models import Grant

    queues, _, listed = text.rpartition(":")
    actions = ACTIONS if listed == "all" else tuple(part.strip() for part in listed.split(",") if part.strip())
    if not queues or not actions or not set(actions) <= set(ACTIONS):
        fail(Exit.USAGE, f"{text!r} is no grant; say 'orders.*:publish,view', of {', '.join(ACTIONS)}, or all")
    return Grant(queues, actions)


def headers(pairs: list[str]) -> dict[str, Scalar] | None:
    """The headers that ``name=value`` pairs make; None for none."""
    for pair in pairs:
        if "=" not in pair:
            fail(Exit.USAGE, f"{pair!r} is no header; say name=value")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)} or None


def complete_queue(context: typer.Context, incomplete: str) -> list[str]:
    """Names of queues that begin like that; none where no broker answers at once to a token that is at hand."""

    async def named(client: Rest) -> list[str]:
        # A cursor is the name before: what begins like that comes right after it.
        page = await client.queues.page(500, incomplete or None)
        return [queue.name for queue in page.items if queue.name.startswith(incomplete)]

    return _asked(context, named)


def complete_webhook(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the queue's webhooks that begin like that, with their URLs; none where `complete_queue` has none."""

    async def named(client: Rest) -> list[tuple[str, str]]:
        webhooks = client.webhooks.list(str(context.params["queue"]))
        return [(webhook.id, webhook.url) async for webhook in webhooks if webhook.id.startswith(incomplete)]

    return _asked(context, named)


def _asked(context: typer.Context, question: Callable[[Rest], Awaitable[list[T]]]) -> list[T]:
    async def answered() -> list[T]:
        from streambroker.client.rest import Rest

        token = context.params.get("token") or os.environ.get("STREAMBROKER_TOKEN")
        async with Rest(context.params.get("url"), token=token, timeout=COMPLETE_WITHIN_S) as client:
            return await question(client)

    try:
        return asyncio.run(answered())
    except (Exception, SystemExit):
        return []  # a shell that completes is no place for an error


Duration = Annotated[int, typer.Option(parser=duration, metavar="DURATION")]
WebhookId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The webhook's id, as `webhook list` shows it.", autocompletion=complete_webhook),
]
QueueName = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.", autocompletion=complete_queue)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirmed(question: str, yes: bool) -> None:
    """Ask, on a terminal; ends the command where the answer is no, or nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(Exit.USAGE, "there is no terminal to ask on; say --yes if that is what you want")
    if not typer.confirm(question, err=True):
        fail(Exit.REFUSED, "nothing was done")
