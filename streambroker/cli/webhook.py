"""``streambroker webhook``: list, show, create, set, delete, test, deliveries, redeliver."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output, moment, span
from streambroker.cli.values import QueueName, WebhookId, Yes, complete_queue, confirmed, duration, headers

if TYPE_CHECKING:
    from streambroker.client.models import Webhook, WebhookDelivery
    from streambroker.client.rest import Rest
    from streambroker.client.webhooks import WebhookStanding

app = typer.Typer(no_args_is_help=True, help="Webhooks: a queue's messages are pushed to a URL.")

_DURATION: dict[str, Any] = {"parser": duration, "metavar": "DURATION"}
Header = Annotated[
    list[str] | None,
    typer.Option("--header", "-H", metavar="NAME=VALUE", help="Sent with each request; repeatable."),
]
SecretStdin = Annotated[
    bool, typer.Option("--secret-stdin", help="The first line of stdin is the secret (whsec_…) that signs.")
]
Description = Annotated[str | None, typer.Option("--description", help="What it is for; '' for nothing.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, max=50, help="Requests at a time; with 1, in the queue's order.")
]
AnswerWithin = Annotated[
    int | None, typer.Option("--answer-within", help="How long one request may take; 100ms to 60s.", **_DURATION)
]
DisableAfter = Annotated[
    int | None, typer.Option("--disable-after", help="Failing for so long disables it; 0: it goes on.", **_DURATION)
]
Disabled = Annotated[bool | None, typer.Option("--disable/--enable", help="Whether it pushes.")]
_COLUMNS = ("QUEUE", "ID", "STATUS", "FAILURES", "LAST", "OUTCOME", "URL")


@app.command("list")
@uses_rest
async def list_webhooks(
    client: Rest,
    out: Output,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="QUEUE", help="Of this queue.", autocompletion=complete_queue)
    ] = None,
) -> None:
    """List the webhooks of all queues that you may manage, and how each did of late."""
    found = [webhook async for webhook in client.webhooks.every(queue=queue)]
    if out.json:
        out.document(found)
        return
    out.table(_COLUMNS, [_row(webhook) for webhook in found], right=("FAILURES",), spare=("LAST", "OUTCOME"))


def _row(webhook: WebhookStanding) -> list[str]:
    last = webhook.last_delivery
    return [
        webhook.queue,
        webhook.id,
        webhook.status,
        f"{webhook.failures}",
        moment(last.at) if last else "-",
        _outcome(last) if last else "-",
        webhook.url,
    ]


def _outcome(delivery: WebhookDelivery) -> str:
    return delivery.outcome if delivery.status_code is None else f"{delivery.outcome} ({delivery.status_code})"


@app.command()
@uses_rest
async def show(client: Rest, out: Output, queue: QueueName, webhook_id: WebhookId) -> None:
    """Look at a webhook: how it is set, and how it stands."""
    _shown(out, await client.webhooks.get(queue, webhook_id))


def _shown(out: Output, webhook: Webhook) -> None:
    if out.json:
        out.document(webhook)
        return
    off = webhook.disable_after_ms
    fields = {
        "webhook": webhook.id,
        "queue": webhook.queue,
        "url": webhook.url,
        "status": webhook.status,
        "because": webhook.reason,
        "failing since": moment(webhook.failing_since) if webhook.failing_since else None,
        "description": webhook.description,
        "headers": "\n".join(f"{name}: {value}" for name, value in webhook.headers.items()),
        "acts for": webhook.username,
        "under way": f"{webhook.in_flight} of {webhook.concurrency} at a time",
        "answer within": span(webhook.timeout_ms),
        "disabled after": f"failing for {span(off)}" if off else "it is not, however long it fails",
        "secret before": f"signs too until {moment(until)}" if (until := webhook.previous_secret_until) else None,
        "created": moment(webhook.created_at),
        "changed": moment(webhook.updated_at),
    }
    out.fields([(name, value) for name, value in fields.items() if value])


@app.command()
@uses_rest
async def create(
    client: Rest,
    out: Output,
    queue: QueueName,
    target: Annotated[str, typer.Argument(metavar="URL", help="Where to POST each message to.")],
    description: Description = None,
    header: Header = None,
    concurrency: Concurrency = None,
    answer_within: AnswerWithin = None,
    disable_after: DisableAfter = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="It pushes nothing until it is enabled.")] = False,
    secret_stdin: SecretStdin = False,
) -> None:
    """Push a queue's messages to a URL, and print the secret alone on stdout: nobody can be shown it again.

    With --secret-stdin the secret is yours, and the id is printed in its place.
    """
    options = _options(description or None, header, concurrency, answer_within, disable_after)
    secret = _secret() if secret_stdin else None
    made = await client.webhooks.create(queue, target, secret=secret, disabled=disabled, **options)
    if secret is not None:
        out.answer(made, made.id)
        return
    out.say(f"webhook {made.id} of {queue}; its secret, shown only now:")
    out.answer(made, made.secret or "")


@app.command("set")
@uses_rest
async def change(
    client: Rest,
    out: Output,
    queue: QueueName,
    webhook_id: WebhookId,
    target: Annotated[str | None, typer.Option("--to", metavar="URL", help="Where to POST to.")] = None,
    description: Description = None,
    header: Header = None,
    no_headers: Annotated[bool, typer.Option("--no-headers", help="Send none.")] = False,
    concurrency: Concurrency = None,
    answer_within: AnswerWithin = None,
    disable_after: DisableAfter = None,
    disabled: Disabled = None,
    secret_stdin: SecretStdin = False,
    rotate_secret: Annotated[bool, typer.Option("--rotate-secret", help="Make another secret, and print it.")] = False,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--secret-overlap", help="How long the secret before signs too; 0s to 7d, 1d if not said.", **_DURATION
        ),
    ] = None,
) -> None:
    """Change a webhook; what is not named stays. --header replaces all headers.

    With --rotate-secret the new secret is printed alone on stdout.
    """
    changes = _options(description, header, concurrency, answer_within, disable_after)
    given: dict[str, Any] = {
        "url": target,
        "headers": {} if no_headers else None,
        "disabled": disabled,
        "rotate_secret": rotate_secret or None,
    }
    changes |= {name: value for name, value in given.items() if value is not None}
    if secret_stdin:
        changes["secret"] = _secret()
    if not changes:
        fail(Exit.USAGE, "nothing to change was named")
    if overlap is not None:
        changes["secret_overlap_ms"] = overlap
    changed = await client.webhooks.update(queue, webhook_id, **changes)
    if changed.secret is not None and not out.json:
        out.say(f"webhook {changed.id} has another secret, shown only now:")
        out.line(changed.secret)
        return
    _shown(out, changed)


def _options(
    description: str | None,
    header: list[str] | None,
    concurrency: int | None,
    answer_within: int | None,
    disable_after: int | None,
) -> dict[str, Any]:
    """What was given, as the broker names it; an empty description is none."""
    given = {
        "headers": headers(header) if header else None,
        "concurrency": concurrency,
        "timeout_ms": answer_within,
        "disable_after_ms": disable_after,
    }
    named = {} if description is None else {"description": description or None}
    return named | {name: value for name, value in given.items() if value is not None}


def _secret() -> str:
    secret = sys.stdin.readline().strip()
    if not secret:
        fail(Exit.USAGE, "the first line of stdin is no secret")
    return secret


@app.command()
@uses_rest
async def delete(client: Rest, out: Output, queue: QueueName, webhook_id: WebhookId, yes: Yes = False) -> None:
    """Delete a webhook with its log; the queue's messages stay."""
    webhook = await client.webhooks.get(queue, webhook_id)
    confirmed(f"Delete the webhook of {queue} to {webhook.url} for good?", yes)
    await client.webhooks.delete(queue, webhook_id)
    out.answer({"id": webhook_id, "deleted": True}, f"webhook {webhook_id} is deleted")


@app.command()
@uses_rest
async def test(client: Rest, out: Output, queue: QueueName, webhook_id: WebhookId) -> int:
    """Make one request that is no message, now. Exit code 1 where the receiver did not take it."""
    sent = await client.webhooks.test(queue, webhook_id)
    out.answer(sent, _told(sent))
    return _code(sent)


def _told(delivery: WebhookDelivery) -> str:
    error = f": {delivery.error}" if delivery.error else ""
    return f"{_outcome(delivery)} in {span(delivery.latency_ms)}{error}"


def _code(delivery: WebhookDelivery) -> int:
    return 0 if delivery.outcome == "delivered" else Exit.REFUSED


@app.command()
@uses_rest
async def deliveries(
    client: Rest,
    out: Output,
    queue: QueueName,
    webhook_id: WebhookId,
    limit: Annotated[int, typer.Option(min=1, max=100, help="No more than so many.")] = 50,
) -> None:
    """List the newest requests of a webhook and what came of them, the newest first."""
    found: list[WebhookDelivery] = []
    async for delivery in client.webhooks.deliveries(queue, webhook_id):
        found.append(delivery)
        if len(found) == limit:
            break
    if out.json:
        out.document(found)
        return
    columns = ("AT", "ID", "KIND", "MESSAGE", "ATTEMPT", "OUTCOME", "TOOK", "ERROR")
    out.table(columns, [_logged(one) for one in found], right=("ATTEMPT", "TOOK"), spare=("KIND", "ATTEMPT", "TOOK"))


def _logged(delivery: WebhookDelivery) -> list[str]:
    return [
        moment(delivery.at),
        delivery.id,
        delivery.kind,
        delivery.message_id or "-",
        "-" if delivery.attempt is None else f"{delivery.attempt}",
        _outcome(delivery),
        span(delivery.latency_ms),
        delivery.error or "",
    ]


@app.command()
@uses_rest
async def redeliver(
    client: Rest,
    out: Output,
    queue: QueueName,
    webhook_id: WebhookId,
    delivery: Annotated[str, typer.Argument(metavar="DELIVERY", help="A delivery's id, or a message's.")],
) -> int:
    """Push once more what a delivery was of. Exit code 1 where the receiver did not take it.

    A message that has failed is made ready again, and is pushed from its queue.
    """
    again = await client.webhooks.redeliver(queue, webhook_id, delivery)
    if again.delivery is None:
        out.answer(again, f"message {again.message_id} is ready again in {queue}, and will be pushed from there")
        return 0
    out.answer(again, f"message {again.message_id}: {_told(again.delivery)}")
    return _code(again.delivery)
