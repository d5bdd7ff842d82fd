"""Workers against a real broker."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streambroker.client import Client, Draft, Forbidden, Grant, Message, Reject, Retry, Worker, run, work, worker
from tests.harness import BrokerProcess


@asynccontextmanager
async def working(client: Client, *workers: Worker, grace: float = 10) -> AsyncIterator[asyncio.Event]:
    """Workers at work; they are stopped at the end, or when the event is set."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work(client, *workers, stop=stop, grace=grace))
        try:
            yield stop
        finally:
            stop.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.005)


async def settled(client: Client, queue: str) -> tuple[int, int, int]:
    """Pending, processed and failed, once nothing is processing."""
    async with asyncio.timeout(40):
        while (counts := (await client.queues.get(queue)).counts).processing:
            await asyncio.sleep(0.01)
    return counts.pending, counts.processed, counts.failed


async def test_a_return_acks_and_an_exception_nacks_with_its_reason(client: Client, queue: str) -> None:
    await client.queues.create(queue, max_attempts=2, backoff={"kind": "fixed", "base_ms": 0, "jitter": False})

    @worker(queue, concurrency=2)
    async def handle(message: Message) -> None:
        seen.append((message.content, message.attempt, message.error))
        if message.content == "bad":
            raise LookupError("not there")

    seen: list[tuple[str, int, str | None]] = []
    await client.publish_many(queue, [Draft(content="good"), Draft(content="bad")])
    async with working(client, handle):
        await until(lambda: len(seen) == 3)
        async with asyncio.timeout(40):
            while await settled(client, queue) != (0, 1, 1):
                await asyncio.sleep(0.01)
    assert ("bad", 2, "LookupError: not there") in seen
    failed = [one async for one in client.messages.browse(queue, status="failed")]
    assert failed[0].error == "LookupError: not there"


async def test_a_rejected_message_is_given_up_and_one_to_retry_waits_as_told(client: Client, queue: str) -> None:
    @worker(queue)
    async def handle(message: Message) -> None:
        seen.append(message.content)
        if message.content == "reject":
            raise Reject("never again")
        raise Retry("later", delay_ms=3_600_000)

    seen: list[str] = []
    await client.publish_many(queue, [Draft(content="reject"), Draft(content="retry")])
    async with working(client, handle):
        await until(lambda: len(seen) == 2)
    counts = (await client.queues.get(queue)).counts
    assert (counts.failed, counts.delayed) == (1, 1)
    found = {one.content: one.error async for one in client.messages.browse(queue)}
    assert found == {"reject": "never again", "retry": "later"}


async def test_a_plain_function_runs_in_threads_no_more_than_its_concurrency(client: Client, queue: str) -> None:
    most = 0

    @worker(queue, concurrency=3)
    def handle(message: Message) -> None:
        nonlocal most
        threads.add(threading.current_thread().name)
        running.append(message.content)
        most = max(most, len(running))
        if message.content < 3:
            together.wait(60)
        running.remove(message.content)
        done.append(message.content)

    together = threading.Barrier(3)
    running: list[int] = []
    done: list[int] = []
    threads: set[str] = set()
    await client.publish_many(queue, [Draft(content=n) for n in range(30)])
    async with working(client, handle):
        await until(lambda: len(done) == 30)
    assert await settled(client, queue) == (0, 30, 0)
    assert most == 3
    assert threading.main_thread().name not in threads


async def test_a_plain_function_that_raises_nacks(client: Client, queue: str) -> None:
    @worker(queue)
    def handle(message: Message) -> None:
        raise Reject("no")

    message_id = (await client.publish(queue, 1)).message_id
    async with working(client, handle):
        async with asyncio.timeout(40):
            while (await client.messages.get(message_id)).status != "failed":
                await asyncio.sleep(0.01)


async def test_what_the_function_settled_itself_stays_as_it_is(client: Client, queue: str) -> None:
    @worker(queue)
    async def handle(message: Message) -> None:
        await message.nack(requeue=False, reason="mine")
        done.set()

    done = asyncio.Event()
    message_id = (await client.publish(queue, 1)).message_id
    async with working(client, handle):
        await done.wait()
    assert (await client.messages.get(message_id)).error == "mine"


async def test_on_error_hears_of_each_failure_and_its_own_failure_does_no_harm(client: Client, queue: str) -> None:
    async def hear(message: Message, error: Exception) -> None:
        heard.append(f"{message.content}: {error}")
        raise RuntimeError("the hook is broken")

    @worker(queue, on_error=hear)
    async def handle(message: Message) -> None:
        raise Reject(f"no {message.content}")

    heard: list[str] = []
    await client.publish_many(queue, [Draft(content=1), Draft(content=2)])
    async with working(client, handle):
        await until(lambda: len(heard) == 2)
    assert heard == ["1: no 1", "2: no 2"]


async def test_several_workers_share_a_run(client: Client, queue: str) -> None:
    @worker(f"{queue}-a")
    async def first(message: Message) -> None:
        await client.publish(f"{queue}-b", message.content + 1)

    @worker(f"{queue}-b")
    def second(message: Message) -> None:
        got.append(message.content)

    got: list[int] = []
    await client.publish(f"{queue}-a", 1)
    async with working(client, first, second):
        await until(lambda: got == [2])


async def test_stopping_finishes_what_runs_and_begins_nothing_new(
    client: Client, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    @worker(queue, prefetch=3)
    async def handle(message: Message) -> None:
        begun.append(message.content)
        started.set()
        await finish.wait()

    begun: list[int] = []
    started, finish = asyncio.Event(), asyncio.Event()
    caplog.set_level("INFO", "streambroker.worker")
    await client.publish_many(queue, [Draft(content=n) for n in range(5)])
    async with working(client, handle) as stop:
        await started.wait()
        stop.set()
        await until(lambda: "stopping: 1 messages" in caplog.text)
        finish.set()
    assert begun == [0]
    assert await settled(client, queue) == (4, 1, 0)


async def test_what_does_not_finish_in_time_is_given_back_without_a_failure(client: Client, queue: str) -> None:
    @worker(queue)
    async def handle(message: Message) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(message.content)

    started = asyncio.Event()
    cancelled: list[int] = []
    await client.queues.create(queue, max_attempts=1)
    await client.publish(queue, 1)
    async with working(client, handle, grace=0.05):
        await started.wait()
    assert cancelled == [1]
    assert await settled(client, queue) == (1, 0, 0)


class Sync:
    """A worker's function that is no coroutine."""

    def __init__(self, leave: BaseException) -> None:
        self.leave = leave

    def __call__(self, message: Message) -> None:
        raise self.leave


class Async(Sync):
    """One that is."""

    async def __call__(self, message: Message) -> None:  # type: ignore[override]
        raise self.leave


@pytest.mark.parametrize("leave", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("kind", [Sync, Async])
async def test_a_function_that_ends_the_program_does_so_at_once_and_its_message_is_given_back(
    client: Client, queue: str, kind: type[Sync], leave: BaseException
) -> None:
    began = asyncio.Event()

    @worker(f"{queue}.other")
    async def busy(message: Message) -> None:
        began.set()
        await asyncio.Event().wait()

    await client.publish(f"{queue}.other", 1)
    working = asyncio.create_task(_left(client, worker(queue)(kind(leave)), busy))
    await began.wait()
    await client.publish(queue, 1)
    async with asyncio.timeout(40):
        assert await working is leave
    assert await settled(client, queue) == await settled(client, f"{queue}.other") == (1, 0, 0)
    again = await client.receive(queue)
    assert again is not None and again.error is None


async def _left(client: Client, *workers: Worker) -> BaseException:
    try:
        await work(client, *workers)
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    raise AssertionError("it went on")


async def test_a_plain_function_that_raises_stop_iteration_has_failed(client: Client, queue: str) -> None:
    @worker(queue)
    def handle(message: Message) -> None:
        next(iter(()))

    await client.queues.create(queue, max_attempts=1)
    await client.publish(queue, 1)
    async with working(client, handle):
        async with asyncio.timeout(40):
            while (await client.queues.get(queue)).counts.failed != 1:
                await asyncio.sleep(0.01)


async def test_a_worker_that_may_not_consume_ends_the_run(broker: BrokerProcess, client: Client, queue: str) -> None:
    @worker(queue)
    async def handle(message: Message) -> None:
        raise AssertionError("nothing comes")

    await client.queues.create(queue)
    key = await client.api_keys.create("viewer", grants=[Grant(queue, ("view",))])
    async with Client(broker.url, token=key.key, environment={}) as viewer:
        with pytest.raises(Forbidden):
            await work(viewer, handle)


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from streambroker.client import Message, run, worker

    @worker(sys.argv[1])
    async def handle(message: Message) -> None:
        print("begun", message.content, flush=True)
        if message.content == "slow":
            await asyncio.sleep(0.3)
        elif message.content == "stuck":
            await asyncio.sleep(3600)
        print("done", message.content, flush=True)

    run(handle, grace=float(sys.argv[2]))
    print("stopped", flush=True)
    """
)


def started(broker: BrokerProcess, tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "STREAMBROKER_URL": broker.url, "STREAMBROKER_TOKEN": broker.token()}
    argv = [sys.executable, str(program), *args]
    return subprocess.Popen(argv, env=environment, text=True, stdout=subprocess.PIPE)


async def test_sigterm_stops_a_program_after_what_it_does(
    broker: BrokerProcess, client: Client, queue: str, tmp_path: Path
) -> None:
    await client.publish(queue, "slow")
    with started(broker, tmp_path, queue, "30") as program:
        assert program.stdout is not None
        assert await asyncio.to_thread(program.stdout.readline) == "begun slow\n"
        program.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(program.stdout.read) == "done slow\nstopped\n"
        assert program.wait(60) == 0
    assert await settled(client, queue) == (0, 1, 0)


async def test_a_second_signal_stops_at_once(broker: BrokerProcess, client: Client, queue: str, tmp_path: Path) -> None:
    await client.publish(queue, "stuck")
    with started(broker, tmp_path, queue, "3600") as program:
        assert program.stdout is not None
        assert await asyncio.to_thread(program.stdout.readline) == "begun stuck\n"
        program.send_signal(signal.SIGINT)
        program.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(program.stdout.read) == "stopped\n"
        assert program.wait(60) == 0
    assert await settled(client, queue) == (1, 0, 0)


def test_a_worker_is_still_its_function() -> None:
    @worker("q", concurrency=4, prefetch=2)
    def handle(message: Message) -> None:
        raise LookupError(json.dumps(message.content))

    assert (handle.queue, handle.concurrency, handle.credit) == ("q", 4, 6)
    assert (handle.name, handle.is_async) == ("handle", False)
    with pytest.raises(ValueError, match="concurrency"):
        worker("q", concurrency=0)
    with pytest.raises(ValueError, match="no worker"):
        run(url="http://127.0.0.1:1")


async def test_a_function_whose_own_task_was_cancelled_has_failed_and_the_worker_goes_on(
    client: Client, queue: str
) -> None:
    @worker(queue)
    async def handle(message: Message) -> None:
        seen.append(message.content)
        if message.content == "cancelled":
            child = asyncio.create_task(asyncio.Event().wait())
            child.cancel()
            await child

    seen: list[str] = []
    await client.queues.create(queue, max_attempts=1)
    await client.publish_many(queue, [Draft(content="cancelled"), Draft(content="next")])
    async with working(client, handle):
        await until(lambda: seen == ["cancelled", "next"])
        async with asyncio.timeout(40):
            while await settled(client, queue) != (0, 1, 1):
                await asyncio.sleep(0.01)


def test_a_partial_of_an_async_function_is_async() -> None:
    async def handle(how: str, message: Message) -> None: ...

    def plain(how: str, message: Message) -> None: ...

    assert worker("q")(functools.partial(handle, "fast")).is_async
    assert not worker("q")(functools.partial(plain, "fast")).is_async
