"""``streambroker message``: show, search, retry, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.exits import Exit
from streambroker.cli.output import Output, excerpt, moment, span
from streambroker.cli.values import QueueName, Yes, confirmed

if TYPE_CHECKING:
    from streambroker.client.models import MessageInfo
    from streambroker.client.rest import Rest

app = typer.Typer(no_args_is_help=True, help="Find messages, look at them, try failed ones again.")

MessageIds = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of messages.")]
_EXCERPT = 60


@app.command()
@uses_rest
async def show(
    client: Rest,
    out: Output,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the message.")],
    body: Annotated[bool, typer.Option("--body", help="Its content alone, byte for byte.")] = False,
) -> None:
    """Look at a message, and at what happened to it."""
    message = await client.messages.get(message_id)
    if body:
        out.raw(message.body)
        return
    moments = await client.messages.timeline(message_id)
    if out.json:
        out.document({"message": message, "timeline": moments})
        return
    out.fields(_fields(message))
    out.line("")
    rows = [[moment(one.at), one.event, f"{one.attempt}", one.consumer or "", one.error or ""] for one in moments]
    out.table(("AT", "EVENT", "ATTEMPT", "CONSUMER", "ERROR"), rows, right=("ATTEMPT",))


def _fields(message: MessageInfo) -> list[tuple[str, str]]:
    letter = message.dead_letter
    optional = {
        "delayed until": moment(message.available_at) if _delayed(message) else None,
        "expires": moment(message.expires_at) if message.expires_at else None,
        "priority": f"{message.priority}" if message.priority else None,
        "key": message.key,
        "dedup id": message.dedup_id,
        "correlation id": message.correlation_id,
        "reply to": message.reply_to,
        "traceparent": message.traceparent,
        "headers": "\n".join(f"{name}: {value}" for name, value in (message.headers or {}).items()) or None,
        "error": message.error,
        "dead letter": None
        if letter is None
        else f"of {letter.queue}: {letter.reason} after {letter.attempts} deliveries, {moment(letter.at)}",
    }
    attempts = f"{message.attempt} of {message.max_attempts}" if message.max_attempts else f"{message.attempt}"
    text = f"{len(message.body)} bytes" if message.content_base64 is not None else message.body.decode(errors="replace")
    return [
        ("message", message.message_id),
        ("queue", message.queue),
        ("status", message.status),
        ("attempt", attempts),
        ("published", moment(message.created_at)),
        *((name, value) for name, value in optional.items() if value is not None),
        ("type", message.content_type),
        ("content", text),
    ]


def _delayed(message: MessageInfo) -> bool:
    return message.status == "pending" and message.available_at is not None and message.available_at > datetime.now(UTC)


@app.command()
@uses_rest
async def search(
    client: Rest,
    out: Output,
    name: QueueName,
    status: Annotated[
        Literal["pending", "processing", "processed", "failed"] | None, typer.Option(help="Those with this status.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Those with this key.")] = None,
    contains: Annotated[str | None, typer.Option(help="Those with this text in their content.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="No more than so many.")] = 50,
) -> None:
    """List messages of a queue without taking them. With --json one document a line."""
    rows, found = [], 0
    async for message in client.messages.browse(name, status=status, key=key, contains=contains):
        found += 1
        if out.json:
            out.document(message)
        else:
            rows.append(_row(message))
        if found == limit:
            break
    if not out.json:
        out.table(("ID", "STATUS", "ATTEMPT", "AGE", "KEY", "CONTENT", "ERROR"), rows, right=("ATTEMPT", "AGE"))
        if found == limit:
            out.say(f"the first {limit}; --limit asks for more")


def _row(message: MessageInfo) -> list[str]:
    age = None if message.created_at is None else (datetime.now(UTC) - message.created_at).total_seconds() * 1_000
    content = f"{len(message.body)} bytes" if message.content_base64 is not None else excerpt(message.body, _EXCERPT)
    status = "delayed" if _delayed(message) else message.status
    return [
        message.message_id, status, f"{message.attempt}", span(max(age, 0) if age is not None else None),
        message.key or "", content, message.error or "",
    ]  # fmt: skip


@app.command()
@uses_rest
async def retry(client: Rest, out: Output, message_ids: MessageIds) -> int:
    """Make failed messages ready again, without failures. `queue redrive` does that for all of a queue."""

    async def one(message_id: str) -> None:
        settled = await client.messages.retry(message_id)
        out.answer(settled, f"{message_id} is ready again in {settled.queue}")

    return await _each(message_ids, one, out)


@app.command()
@uses_rest
async def delete(client: Rest, out: Output, message_ids: MessageIds, yes: Yes = False) -> int:
    """Delete messages, whatever their status; whoever holds one loses it."""
    number = f"{len(message_ids)} messages" if len(message_ids) > 1 else "the message"
    confirmed(f"Delete {number} for good?", yes)

    async def one(message_id: str) -> None:
        await client.messages.delete(message_id)
        out.answer({"message_id": message_id, "deleted": True}, f"{message_id} is deleted")

    return await _each(message_ids, one, out)


async def _each(message_ids: Iterable[str], do: Callable[[str], Awaitable[None]], out: Output) -> int:
    """Do it to each; what the broker refuses of one is told, and the others go on. The exit code.

    What would be refused of the others too (who we are, a broker that is away) ends it.
    """
    from streambroker.cli.refusals import exit_code, told
    from streambroker.client.errors import StreambrokerError

    code = 0
    for message_id in message_ids:
        try:
            await do(message_id)
        except StreambrokerError as error:
            if exit_code(error) != Exit.REFUSED:
                raise
            code = told(error, out, about=message_id)
    return code
