"""``streambroker doctor``: what is wrong, why it matters, and what to do."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streambroker.cli.connection import Caller, calls_broker, log_out
from streambroker.cli.diagnosis import Finding, NodeLook, QueueLook, note, of_node, of_queue, problem
from streambroker.cli.exits import Exit
from streambroker.cli.output import Output, plain
from streambroker.cli.values import complete_queue
from streambroker.config import data_directory

if TYPE_CHECKING:
    from streambroker.client.errors import StreambrokerError
    from streambroker.client.models import MessageInfo, Queue
    from streambroker.client.rest import Rest

SAMPLE = 200
"""Messages of a queue that are looked at."""
URL_VARIABLE = "STREAMBROKER_URL"

app = typer.Typer()

_SAMPLE_LINE = re.compile(r"^([a-zA-Z_:][\w:]*(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)
_SQLITE = re.compile(r'sqlite="([^"]*)"')


@app.command()
@calls_broker
async def doctor(
    caller: Caller,
    queue: Annotated[
        str | None, typer.Argument(metavar="QUEUE", help="Look at this queue only.", autocompletion=complete_queue)
    ] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Look at this data directory too.")] = None,
) -> int:
    """Explain what is wrong: with a queue that stands still, the broker, its disk, its clock, its files.

    Looks at the broker at --url, and at the data directory where there is one here. Exits with 0 when nothing is wrong,
    with 1 when something is. Notes are nothing wrong.
    """
    findings: list[Finding] = []
    directory = _directory(caller, data_dir)
    running: str | None = None
    if directory is not None:
        from streambroker.cli.directory import holder, of_directory

        running = holder(directory)
        findings += of_directory(directory, running)
    # Only a directory was asked for, and nobody serves it: then there is no broker to ask.
    if data_dir is None or running is not None or caller.url is not None:
        findings += await _of_broker(caller, queue, running)
    return _told(caller.out, list(dict.fromkeys(findings)))


def _directory(caller: Caller, given: str | None) -> Path | None:
    """The data directory to look at: the one that was given, or that of this machine's broker if it is here."""
    if given is not None:
        return Path(given)
    if caller.url is not None or os.environ.get(URL_VARIABLE):
        return None
    directory = data_directory({})
    return directory if (directory / "streambroker.db").exists() else None


async def _of_broker(caller: Caller, queue: str | None, running: str | None) -> list[Finding]:
    from streambroker.client.errors import StreambrokerError

    credentials = caller.credentials()
    async with caller.rest(credentials) as client:
        try:
            await client.ready()
        except StreambrokerError as error:
            return [_not_ready(client.http.url, error, running)]
        try:
            found = await _figures(client)
            return found + [finding async for finding in _queues(client, queue)]
        except StreambrokerError as error:
            return [_refused(error, bool(credentials))]
        finally:
            if "username" in credentials:
                await log_out(client)


def _not_ready(url: str, error: StreambrokerError, running: str | None) -> Finding:
    from streambroker.client.errors import ApiError

    if isinstance(error, ApiError) and not error.foreign:
        return problem(
            "broker", f"it is there, but not ready: {error.detail}", "it refuses what it is asked meanwhile",
            "wait if it starts or stops; else its log says more",
        )  # fmt: skip
    beside = "" if running is None else f"; though process {running} holds the data, perhaps on another address"
    return problem(
        "broker", f"{url} cannot be reached: {error.detail}{beside}", "nothing can be published or consumed there",
        "is it running (`streambroker serve`; if it ended, its exit code and the end of its log say why), is that the "
        "right --url, does a firewall stand between?",
    )  # fmt: skip


def _refused(error: StreambrokerError, known: bool) -> Finding:
    if error.code == "unauthenticated":
        what = "the credentials were refused" if known else "it is ready; for more it wants to know who is asking"
        return problem("broker", what, "queues and figures are for users", "give --username, or --token")
    return problem("broker", error.detail, "this could not be looked at", "try again, or ask somebody with more rights")


async def _figures(client: Rest) -> list[Finding]:
    from streambroker.client.errors import ApiError, Forbidden

    try:
        text: bytes = await client.http.call("GET", "/metrics", bytes)
    except ApiError as error:
        if error.status >= 500:
            return [problem("broker", f"it does not tell its metrics: {error.detail}", "disk, clock and limits were "
                            "not looked at", "its log says why")]  # fmt: skip
        if not isinstance(error, Forbidden):
            raise
        return [note("broker", "its metrics are for those who may view all queues", "disk, clock and limits were not "
                     "looked at", "ask as an admin")]  # fmt: skip
    return list(of_node(node_look(text.decode(), time.time())))


def node_look(text: str, now: float) -> NodeLook:
    """The metrics in a Prometheus text (one sample a line)."""
    metrics = {name: float(value) for name, value in _SAMPLE_LINE.findall(text)}
    sqlite = _SQLITE.search(text)
    return NodeLook(metrics, "" if sqlite is None else sqlite[1], now)


async def _queues(client: Rest, only: str | None) -> AsyncIterator[Finding]:
    queues = [await client.queues.get(only)] if only is not None else [one async for one in client.queues.list()]
    for queue in queues:
        for finding in of_queue(await _look(client, queue)):
            yield finding


async def _look(client: Rest, queue: Queue) -> QueueLook:
    from streambroker.client.errors import StreambrokerError

    counts, letters = queue.counts, None
    if queue.config.dead_letter_queue is not None:
        try:
            letters = await client.queues.get(queue.config.dead_letter_queue)
        except StreambrokerError:
            letters = None
    unfinished = counts.pending + counts.processing
    waiting = await _some(client, queue.name, "pending", "processing") if unfinished else []
    delayed = [one.available_at for one in waiting if one.status == "pending" and one.available_at is not None]
    return QueueLook(
        queue,
        [one async for one in client.consumers.list(queue.name)] if queue.consumers else [],
        waiting,
        await _some(client, queue.name, "failed") if counts.failed else [],
        min(delayed, default=None) if counts.delayed <= SAMPLE else None,
        letters,
    )


async def _some(client: Rest, queue: str, *statuses: str) -> list[MessageInfo]:
    found: list[MessageInfo] = []
    for status in statuses:
        page = await client.messages.page(queue, SAMPLE, status=status)  # type: ignore[arg-type]
        found += page.items
    return found


def _told(out: Output, findings: list[Finding]) -> int:
    problems = [finding for finding in findings if finding.severity == "problem"]
    if out.json:
        out.document({"ok": not problems, "findings": [_members(finding) for finding in findings]})
    else:
        for line in chain.from_iterable(map(_lines, findings)):
            out.line(line)
        notes = len(findings) - len(problems)
        beside = f" ({notes} note{'s' if notes != 1 else ''})" if notes else ""
        out.line(
            f"{len(problems)} problem{'s' if len(problems) != 1 else ''}{beside}" if problems else f"all well{beside}"
        )
    return Exit.REFUSED if problems else 0


def _members(finding: Finding) -> dict[str, str]:
    return {name: getattr(finding, name) for name in finding.__slots__}


def _lines(finding: Finding) -> Iterator[str]:
    yield plain(f"{finding.severity.upper()}  {finding.subject}: {finding.what}")
    yield plain(f"    why it matters: {finding.why}")
    yield plain(f"    what to do:     {finding.todo}")
    yield ""
