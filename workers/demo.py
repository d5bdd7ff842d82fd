"""A broker, a producer and two workers doing real work, told in one table: `python -m workers.demo`, or `make demo`.

It starts a broker of its own on a free port, with its data in a temporary directory, and one worker of each kind as
processes of their own. Among the jobs are one whose source answers only at the second attempt, one that can never be
done and one whose source stays away. Exit status 0 says that every job came to the end that it should.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import sys
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streambroker.client import Client, Draft, Message, StreambrokerError
from workers import jobs

QUEUE, RESULTS, DEAD = "demo.jobs", "demo.results", "demo.dead"
MAX_ATTEMPTS = 3
PLAIN_JOBS = 30
WORKERS = {
    "socket-1": ("--door", "websocket", "--concurrency", "4"),
    "poll-1": ("--door", "long-poll"),
}
WITHIN_S = 60
STOPPED_WITHIN_S = 20
LISTENING = re.compile(r"listening on (https?://[^\s/]+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job."""

    end: str
    worker: str
    attempts: int
    detail: str


class Child:
    """A process that this program started; owns the task that reads its output, of which it keeps the last lines."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.lines: deque[str] = deque(maxlen=30)
        self.listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip()[:300])
            if not self.listening.done() and (match := LISTENING.search(self.lines[-1])):
                self.listening.set_result(match[1])
        if not self.listening.done():
            self.listening.set_result("")

    async def stop(self) -> int:
        """SIGTERM, then its exit status; SIGKILL when it takes no notice."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            async with asyncio.timeout(STOPPED_WITHIN_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
        await self._reader
        return await self.process.wait()


class DemoError(Exception):
    """Something did not go as it should; the message is for whoever runs the demo."""


@asynccontextmanager
async def child(name: str, *command: str, **environment: str) -> AsyncIterator[Child]:
    """Run a Python module beside us; leaving stops it, and asks that it says it stopped well."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("STREAMBROKER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *command),
        env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    started = Child(name, process)
    try:
        yield started
    except BaseException:
        await started.stop()
        print(f"--- {name} said last:", *started.lines, sep="\n    ", file=sys.stderr)
        raise
    if status := await started.stop():
        raise DemoError("\n    ".join([f"{name} ended with exit status {status}:", *started.lines]))


@asynccontextmanager
async def broker(data_dir: Path) -> AsyncIterator[Client]:
    """A broker on a free port of this machine, and a client that is its admin."""
    password = secrets.token_urlsafe(18)
    serve = ("streambroker", "serve", "--port", "0", "--data-dir", str(data_dir))
    async with child("broker", *serve, STREAMBROKER_ADMIN_PASSWORD=password) as process:
        url = await process.listening
        if not url:
            raise DemoError("the broker did not start")
        async with Client(url, username="admin", password=password) as client:
            yield client


async def declare_queues(client: Client) -> None:
    for name in (DEAD, RESULTS):
        await client.queues.create(name)
    backoff = {"kind": "exponential", "base_ms": 200, "factor": 2, "max_ms": 1000, "jitter": True}
    await client.queues.create(QUEUE, max_attempts=MAX_ATTEMPTS, backoff=backoff, dead_letter_queue=DEAD)


async def consumers_are_there(client: Client) -> None:
    """Both workers wait: the subscription and the parked poll are counted."""
    while (await client.queues.get(QUEUE)).consumers < len(WORKERS):  # noqa: ASYNC110 - REST is the only way
        await asyncio.sleep(0.05)


async def settled(client: Client) -> None:
    """The workers' last acks are in: they come right after the results."""
    while (await client.queues.get(QUEUE)).counts.processing:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.02)


def work() -> list[jobs.Job]:
    """What is published: plain jobs, and three that do not go smoothly, in their midst."""
    special: list[jobs.Job] = [
        {"kind": "word_count", "text": "patience is bitter but its fruit is sweet", "away_for": 1},
        {"kind": "word_count", "text": 7},
        {"kind": "word_count", "text": "nobody will ever count these", "away_for": 1000},
    ]
    plain = list(jobs.generate(PLAIN_JOBS))
    return [*plain[:10], *special, *plain[10:]]


def expected_end(job: jobs.Job) -> tuple[str, int]:
    """How a job should end, and after how many attempts."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        match jobs.perform(job, attempt):
            case jobs.Done():
                return "done", attempt
            case jobs.Never():
                return "dead letter", attempt
            case jobs.Later():
                pass
    return "dead letter", MAX_ATTEMPTS


async def collect(client: Client, queue: str, count: int, seen: Callable[[], None]) -> list[Message]:
    """Take and acknowledge `count` messages, waiting for those that are still to come."""
    messages: list[Message] = []
    async with aclosing(client.consume(queue, credit=count)) as arriving:
        async for message in arriving:
            messages.append(message)
            seen()
            told = message.ack()
            if len(messages) == count:
                await told
                break
    return messages


def outcomes(results: list[Message], dead: list[Message]) -> dict[int, Outcome]:
    """By the job's number, which travels as the correlation id."""
    done = {
        number_of(message): Outcome(
            "done", str(message.headers["worker"]), int(message.headers["attempt"] or 0), describe(message.content)
        )
        for message in results
    }
    given_up = {
        number_of(message): Outcome("dead letter", "", letter.attempts, f"{letter.reason}: {letter.error}")
        for message in dead
        if (letter := message.dead_letter) is not None
    }
    return done | given_up


def number_of(message: Message) -> int:
    return int(message.correlation_id or -1)


def describe(result: dict[str, Any]) -> str:
    if "words" in result:
        return f"{result['words']} words, most often “{result['most']}”: {result['times']} times"
    return f"a picture of {result['width']} × {len(result['pixels']) // result['width']}"


def differences(published: list[jobs.Job], ends: dict[int, Outcome], messages: list[Message]) -> list[str]:
    """Everything that is not as it should be."""
    wrong = []
    for number, job in enumerate(published):
        expected = expected_end(job)
        outcome = ends.get(number)
        if outcome is None or (outcome.end, outcome.attempts) != expected:
            wrong.append(f"job {number}: expected {expected}, and found {outcome}")
    for message in messages:
        verdict = jobs.perform(published[number_of(message)], MAX_ATTEMPTS)
        if not isinstance(verdict, jobs.Done) or verdict.result != message.content:
            wrong.append(f"job {message.correlation_id}: the result is not what the job comes to")
    shares = Counter(outcome.worker for outcome in ends.values())
    wrong += [f"{name} did nothing" for name in WORKERS if not shares[name]]
    return wrong


def told(published: list[jobs.Job], ends: dict[int, Outcome]) -> Table:
    table = Table(title="What became of the jobs", title_justify="left")
    for column in ("job", "kind", "end", "by", "attempts", "result or error"):
        table.add_column(column, justify="right" if column in ("job", "attempts") else "left")
    for number, job in enumerate(published):
        outcome = ends.get(number, Outcome("lost", "", 0, ""))
        style = "red" if outcome.end != "done" else "yellow" if outcome.attempts > 1 else None
        row = (str(number), job["kind"], outcome.end, outcome.worker, str(outcome.attempts), outcome.detail)
        table.add_row(*row, style=style)
    return table


async def run(console: Console, data_dir: Path) -> list[str]:
    """Everything, once; returns what was not as it should be."""
    published = work()
    counted = sum(expected_end(job)[0] == "done" for job in published)
    async with AsyncExitStack() as running, asyncio.timeout(WITHIN_S):
        client = await running.enter_async_context(broker(data_dir))
        console.print(f"broker     listens on {client.http.url}")
        await declare_queues(client)
        key = (await client.api_keys.create("demo workers")).key
        for name, flags in WORKERS.items():
            command = ("workers.job_worker", "--queue", QUEUE, "--name", name, *flags)
            where = {"STREAMBROKER_URL": client.http.url, "STREAMBROKER_TOKEN": key}
            await running.enter_async_context(child(name, *command, **where))
        await consumers_are_there(client)
        console.print(f"workers    {' and '.join(WORKERS)} wait for {QUEUE}")
        progress = running.enter_context(Progress(console=console, transient=True))
        bar = progress.add_task("working off", total=len(published))
        drafts = [
            Draft(content=job, correlation_id=str(number), reply_to=RESULTS, dedup_id=f"demo/{number}")
            for number, job in enumerate(published)
        ]
        batch = await client.publish_many(QUEUE, drafts)
        console.print(f"producer   published {len(batch.message_ids)} jobs in one batch")
        async with asyncio.TaskGroup() as both:
            done = both.create_task(collect(client, RESULTS, counted, lambda: progress.advance(bar)))
            lost = both.create_task(collect(client, DEAD, len(published) - counted, lambda: progress.advance(bar)))
        results, dead = done.result(), lost.result()
        await settled(client)
        counts = (await client.queues.get(QUEUE)).counts
    ends = outcomes(results, dead)
    console.print(told(published, ends))
    shares = Counter(outcome.worker for outcome in ends.values() if outcome.worker)
    retried = sum(outcome.attempts > 1 for outcome in ends.values())
    console.print(f"done by    {', '.join(f'{name}: {number}' for name, number in sorted(shares.items()))}")
    console.print(f"in all     {len(results)} done, {retried} tried more than once, {len(dead)} dead letters")
    wrong = differences(published, ends, results)
    if counts.pending or counts.processing or counts.processed != counted:
        wrong.append(f"the queue's counts are {counts}")
    return wrong


def main() -> int:
    logging.basicConfig(level=logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    try:
        with tempfile.TemporaryDirectory(prefix="streambroker-demo-") as data_dir:
            wrong = asyncio.run(run(console, Path(data_dir)))
    except (DemoError, StreambrokerError) as error:
        wrong = [str(error)]
    except TimeoutError:
        wrong = [f"it was not done within {WITHIN_S} s"]
    for line in wrong:
        console.print(f"[red]not as expected:[/] {line}")
    if not wrong:
        console.print("Every job came to the end that it should.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
