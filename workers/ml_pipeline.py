"""A pipeline of stages: it learns to tell which Python package a piece of documentation belongs to.

ingest -> features -> train -> report, each stage a queue and a worker. Documents, features and models are large: they
lie in --artifacts, named by their SHA-256, and messages carry the names. Without --corpus the texts are the docstrings
of the standard library; one source answers only at the second attempt, and one is not there at all and becomes a dead
letter, which the pipeline notes and goes on without.

Alone, it works on all stages, submits a run and prints its report. `--work features train` only works, for several
processes or machines that share the artifacts; `--submit` only submits and waits.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import sysconfig
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from streambroker.client import Client, Draft, Message, Reject, Worker, worker
from workers import bayes, program
from workers.artifacts import Artifacts

STAGES = ("ingest", "features", "train", "report")
DEAD = "ml.dead"
PACKAGES = ("asyncio", "email", "unittest", "logging", "multiprocessing", "xml")
RESULT_WITHIN_S = 300


class Source(msgspec.Struct, frozen=True):
    """One label's documents: what `ingest` is told. `labels` are all of the run; `away_for` attempts fail."""

    run: str
    label: str
    labels: list[str]
    folder: str
    away_for: int = 0


class Shard(msgspec.Struct, frozen=True):
    """One label's documents, by reference: what `features` is told."""

    run: str
    label: str
    labels: list[str]
    documents: str


class Training(msgspec.Struct, frozen=True):
    """The features of all labels, by reference: what `train` is told."""

    run: str
    features: dict[str, str]
    missing: dict[str, str]


class Trained(msgspec.Struct, frozen=True):
    """A model and what it has never seen, by reference: what `report` is told."""

    run: str
    model: str
    features: dict[str, str]
    missing: dict[str, str]


class Report(msgspec.Struct, frozen=True):
    """What came of a run: shares from 0 to 1."""

    run: str
    accuracy: float
    by_label: dict[str, float]
    documents: int
    vocabulary: int
    smoothing: float
    missing: dict[str, str]


class Pipeline:
    """The stages; owns nothing but the way to the broker and to the artifacts, so any number may run at once."""

    def __init__(self, client: Client, artifacts: Artifacts) -> None:
        self.client = client
        self.artifacts = artifacts

    def workers(self, stages: list[str]) -> list[Worker]:
        """Session leases: a stage may take hours, and is given to another worker within seconds if this one dies."""
        made = {
            "ingest": [worker("ml.ingest", concurrency=2)(self.ingest), worker(DEAD)(self.left_out)],
            "features": [worker("ml.features", concurrency=2)(self.features)],
            "train": [worker("ml.train")(self.train)],
            "report": [worker("ml.report")(self.report)],
        }
        return [one for stage in stages for one in made[stage]]

    async def pass_on(self, stage: str, message: Message, content: msgspec.Struct, name: str) -> None:
        """To the next stage; the dedup id makes a stage that was done twice count once."""
        run: str = content.run  # type: ignore[attr-defined]
        await self.client.publish(
            f"ml.{stage}",
            content,
            dedup_id=f"{run}/{stage}/{name}",
            correlation_id=run,
            reply_to=message.reply_to,
        )

    async def ingest(self, message: Message) -> None:
        source = message.decode(Source)
        if message.attempt <= source.away_for:
            print(f"retry     {source.label}: its archive does not answer (attempt {message.attempt})", flush=True)
            raise ConnectionError(f"the archive of {source.label} did not answer")
        documents = await asyncio.to_thread(bayes.documents, Path(source.folder))
        if not documents:
            raise Reject(f"there are no documents in {source.folder}")
        reference = await asyncio.to_thread(self.artifacts.put, documents)
        print(f"ingest    {source.label}: {len(documents)} documents, {reference[:8]}", flush=True)
        await self.pass_on("features", message, Shard(source.run, source.label, source.labels, reference), source.label)

    async def left_out(self, message: Message) -> None:
        """A source that was given up: the run goes on without it."""
        source = message.decode(Source)
        assert message.dead_letter is not None
        why = message.dead_letter.error or message.dead_letter.reason
        print(f"dead      {source.label}: {why}", flush=True)
        self.artifacts.note(source.run, source.label, {"missing": why})
        await self.train_if_complete(message, source.run, source.labels)

    async def features(self, message: Message) -> None:
        shard = message.decode(Shard)
        documents = await asyncio.to_thread(self.artifacts.get, shard.documents, list[str])
        words = await asyncio.to_thread(bayes.features, documents)
        reference = await asyncio.to_thread(self.artifacts.put, words)
        print(f"features  {shard.label}: {len(words.training)} to learn from, {len(words.test)} to test", flush=True)
        self.artifacts.note(shard.run, shard.label, {"features": reference})
        await self.train_if_complete(message, shard.run, shard.labels)

    async def train_if_complete(self, message: Message, run: str, labels: list[str]) -> None:
        """Whoever finds that nothing is missing starts the training. Two may; the dedup id makes one of it."""
        notes = {label: self.artifacts.noted(run, label) for label in labels}
        if all(notes.values()):
            features = {label: note["features"] for label, note in notes.items() if "features" in note}
            missing = {label: note["missing"] for label, note in notes.items() if "missing" in note}
            await self.pass_on("train", message, Training(run, features, missing), "all")

    async def train(self, message: Message) -> None:
        training = message.decode(Training)
        if len(training.features) < 2:
            raise Reject("it takes two labels to tell one from another")
        words = await self.load(training.features)
        model = await asyncio.to_thread(bayes.train, {label: one.training for label, one in words.items()})
        reference = await asyncio.to_thread(self.artifacts.put, model)
        print(f"train     {len(model.vocabulary)} words, smoothing {model.smoothing:g}, {reference[:8]}", flush=True)
        await self.pass_on("report", message, Trained(training.run, reference, training.features, training.missing), "")

    async def report(self, message: Message) -> None:
        trained = message.decode(Trained)
        model = await asyncio.to_thread(self.artifacts.get, trained.model, bayes.Model)
        words = await self.load(trained.features)
        shares = await asyncio.to_thread(bayes.accuracy, model, {label: one.test for label, one in words.items()})
        tested = {label: len(one.test) for label, one in words.items()}
        right = sum(shares[label] * tested[label] for label in shares)
        report = Report(
            run=trained.run,
            accuracy=right / max(1, sum(tested.values())),
            by_label=shares,
            documents=sum(tested.values()) + sum(len(one.training) for one in words.values()),
            vocabulary=len(model.vocabulary),
            smoothing=model.smoothing,
            missing=trained.missing,
        )
        if message.reply_to:
            await self.client.publish(
                message.reply_to, report, correlation_id=trained.run, dedup_id=f"{trained.run}/result"
            )

    async def load(self, references: dict[str, str]) -> dict[str, bayes.Words]:
        """Features by label."""
        return {
            label: await asyncio.to_thread(self.artifacts.get, reference, bayes.Words)
            for label, reference in references.items()
        }


async def declare_queues(client: Client) -> None:
    backoff = {"kind": "exponential", "base_ms": 200, "factor": 2, "max_ms": 60_000, "jitter": True}
    await client.queues.create(DEAD)
    for stage in STAGES:
        # Only without a source can a run go on, so only sources become dead letters.
        dead = DEAD if stage == "ingest" else None
        await client.queues.create(f"ml.{stage}", max_attempts=4, backoff=backoff, dead_letter_queue=dead)


def sources(run: str, corpus: Path | None) -> list[Source]:
    """A folder for each label: those of the corpus, or packages of the standard library and one that is not there."""
    if corpus is not None:
        folders = sorted(path for path in corpus.iterdir() if path.is_dir())
    else:
        library = Path(sysconfig.get_path("stdlib"))
        folders = [library / package for package in (*PACKAGES, "atlantis")]
    labels = [folder.name for folder in folders]
    away = 1 if corpus is None else 0
    return [Source(run, folder.name, labels, str(folder), away * (not number)) for number, folder in enumerate(folders)]


async def submit(client: Client, corpus: Path | None) -> Report:
    """Start a run and wait for its report, which comes to a queue of its own."""
    run = secrets.token_hex(4)
    results = f"ml.results.{run}"
    await client.queues.create(results)
    drafts = [
        Draft(content=source, correlation_id=run, reply_to=results, dedup_id=f"{run}/ingest/{source.label}")
        for source in sources(run, corpus)
    ]
    if not drafts:
        raise program.ProgramError(f"there is no folder in {corpus}")
    await client.publish_many("ml.ingest", drafts)
    print(f"submitted run {run}: {len(drafts)} sources", flush=True)
    try:
        async with asyncio.timeout(RESULT_WITHIN_S):
            async for message in client.consume(results, credit=1):
                await message.ack()
                return message.decode(Report)
    except TimeoutError:
        raise program.ProgramError(f"no report within {RESULT_WITHIN_S} s: do workers run?") from None
    finally:
        await client.queues.delete(results)
    raise AssertionError("a consumer ends by an exception only")


def show(report: Report) -> None:
    table = Table()
    table.add_column("label")
    table.add_column("told right", justify="right")
    for label, share in sorted(report.by_label.items(), key=lambda pair: -pair[1]):
        table.add_row(label, f"{share:.0%}")
    for label, why in report.missing.items():
        table.add_row(label, f"left out: {why}", style="red")
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"Run {report.run}: {report.accuracy:.0%} of the unseen documents told right")
    console.print(table)
    console.print(f"{report.documents} documents, {report.vocabulary} words, smoothing {report.smoothing:g}")


async def main(arguments: argparse.Namespace, client: Client) -> None:
    if arguments.submit:
        show(await submit(client, arguments.corpus))
        return
    async with AsyncExitStack() as stack:
        root = arguments.artifacts or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="artifacts-")))
        await declare_queues(client)
        pipeline = Pipeline(client, Artifacts(root))
        await stack.enter_async_context(program.at_work(client, *pipeline.workers(arguments.work or list(STAGES))))
        if arguments.work:
            print(f"working on {', '.join(arguments.work)}", flush=True)
            await program.until_told()
        show(await submit(client, arguments.corpus))


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--corpus", type=Path, help="a folder with a folder for each label, of .py or .txt files")
    parser.add_argument("--artifacts", type=Path, help="where large data lies, shared by all workers (temporary)")
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--work", nargs="+", choices=STAGES, help="only work on these stages, until stopped")
    alone.add_argument("--submit", action="store_true", help="only submit a run to workers that are there")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
