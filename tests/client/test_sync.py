"""The blocking client against a real broker."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streambroker.client import ConnectionLost, Draft, NotFound, StreambrokerError, StreambrokerTimeout, SyncClient
from streambroker.client.loopthread import LoopThread
from tests.harness import BrokerProcess


@pytest.fixture
def sync(broker: BrokerProcess) -> Iterator[SyncClient]:
    with SyncClient(broker.url, token=broker.token(), environment={}) as client:
        yield client


def test_it_publishes_and_consumes(sync: SyncClient, queue: str) -> None:
    first = sync.publish(queue, {"n": 1}, priority=9)
    sync.publish_many(queue, [Draft(content=2), Draft(content=3)])
    seen = []
    for message in sync.consume(queue, credit=5):
        seen.append((message.content, message.priority))
        message.ack()
        assert message.settled
        if len(seen) == 3:
            break
    assert seen == [({"n": 1}, 9), (2, 0), (3, 0)]
    assert sync.messages.get(first.message_id).status == "processed"


def test_leaving_the_loop_gives_back_what_is_not_settled(sync: SyncClient, queue: str) -> None:
    sync.publish(queue, 1)
    for _ in sync.consume(queue):
        break
    message = sync.receive(queue, wait_ms=40_000)
    assert message is not None
    message.extend(60_000)
    message.nack(requeue=False, reason="no")
    assert [one.error for one in sync.messages.browse(queue, status="failed")] == ["no"]


def test_it_has_the_same_groups(sync: SyncClient, queue: str) -> None:
    made = sync.queues.create(queue, max_messages=5)
    assert made.config.max_messages == 5
    assert sync.queues.update(queue, max_messages=6).config.max_messages == 6
    assert queue in {one.name for one in sync.queues.list()}
    assert sync.users.me().username == "admin"
    assert sync.stats().uptime_seconds >= 0
    sync.queues.delete(queue)
    with pytest.raises(NotFound):
        sync.queues.get(queue)


def test_threads_share_it(sync: SyncClient, queue: str) -> None:
    def publish(start: int) -> None:
        for n in range(start, start + 20):
            sync.publish(queue, n)

    threads = [threading.Thread(target=publish, args=(n * 100,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sync.queues.get(queue).counts.pending == 100


def test_calls_have_their_time_outs(queue: str) -> None:
    with SyncClient("http://127.0.0.1:9", token="t", environment={}) as client, pytest.raises(StreambrokerTimeout):
        client.publish(queue, 1, timeout=0.05)


def test_a_closed_client_says_so(sync: SyncClient, queue: str) -> None:
    sync.close()
    sync.close()
    with pytest.raises(StreambrokerError, match="closed"):
        sync.publish(queue, 1)


def test_wrong_arguments_are_told_and_leave_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="password"):
        SyncClient("http://127.0.0.1:1", username="u")
    assert threading.active_count() == before


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(sync: SyncClient, queue: str) -> None:
    sync.publish(queue, 1)
    child = os.fork()
    if child == 0:  # never back into pytest
        try:
            sync.publish(queue, 2)
        except StreambrokerError:
            sync.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    sync.publish(queue, 3)
    assert sync.queues.get(queue).counts.pending == 2


def test_a_program_that_forgets_to_close_ends_and_gives_back_what_it_held(
    broker: BrokerProcess, sync: SyncClient, queue: str
) -> None:
    program = textwrap.dedent(
        """
        import sys
        from streambroker.client import SyncClient
        client = SyncClient()
        client.publish(sys.argv[1], 1)
        stream = client.consume(sys.argv[1])
        message = next(stream)
        """
    )
    environment = {**os.environ, "STREAMBROKER_URL": broker.url, "STREAMBROKER_TOKEN": broker.token()}
    argv = [sys.executable, "-c", program, queue]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    message = sync.receive(queue, wait_ms=40_000)
    assert message is not None and message.attempt == 2


def test_closing_ends_calls_of_other_threads(broker: BrokerProcess, queue: str) -> None:
    client = SyncClient(broker.url, token=broker.token(), environment={})
    client.queues.create(queue)
    ended: list[BaseException] = []

    def call(wait: Callable[[], object]) -> None:
        try:
            wait()
        except BaseException as error:
            ended.append(error)

    waits: list[Callable[[], object]] = [
        lambda: client.receive(queue, wait_ms=60_000, timeout=90),
        lambda: next(client.consume(queue)),
    ]
    threads = [threading.Thread(target=call, args=(one,), daemon=True) for one in waits]
    for thread in threads:
        thread.start()
    with SyncClient(broker.url, token=broker.token(), environment={}) as other:
        ends = time.monotonic() + 60
        while other.queues.get(queue).consumers != 2:
            assert time.monotonic() < ends
    client.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert [type(error) for error in ended] == [ConnectionLost, ConnectionLost]


def test_ctrl_c_while_it_waits_for_a_message_is_a_keyboard_interrupt_and_nothing_else(
    broker: BrokerProcess, queue: str
) -> None:
    script = textwrap.dedent(f"""
        import sys, threading
        from streambroker.client import SyncClient
        client = SyncClient({broker.url!r}, token=sys.argv[1], environment={{}})
        client.publish({queue!r}, 1)
        try:
            for message in client.consume({queue!r}):
                message.ack()
                print("waiting", flush=True)
        except KeyboardInterrupt as error:
            print("interrupted", error.__context__, client.queues.get({queue!r}).consumers)
        client.close()
    """)
    argv = [sys.executable, "-W", "error", "-c", script, broker.token()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert (out, err, process.returncode) == ("interrupted None 0\n", "", 0)


def test_ctrl_c_while_a_call_begins_leaves_nothing_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal comes between any two steps: here when the call is on its way, and nobody waits for it yet."""
    thread = LoopThread()
    schedule = asyncio.BaseEventLoop.call_soon_threadsafe
    seen: list[str] = []

    async def work() -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def left() -> int:
        return len(asyncio.all_tasks())

    def interrupted(loop: asyncio.BaseEventLoop, *arguments: Any, **options: Any) -> asyncio.Handle:
        monkeypatch.undo()
        schedule(loop, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        thread.run(work())
    while thread.run(left()) > 1:
        pass
    thread.stop()
    assert seen in ([], ["begun", "ended"])


def threads() -> set[threading.Thread]:
    return {one for one in threading.enumerate() if one.name == "streambroker client"}


def test_a_client_that_is_dropped_is_closed_and_its_thread_ends(broker: BrokerProcess, queue: str) -> None:
    before = threads()
    client = SyncClient(broker.url, token=broker.token(), environment={})
    client.queues.create(queue, max_attempts=1)
    client.publish(queue, 1)
    messages = client.consume(queue)
    assert next(messages).attempt == 1
    (thread,) = threads() - before
    del client, messages
    thread.join(60)
    assert not thread.is_alive()
    with SyncClient(broker.url, token=broker.token(), environment={}) as other:
        again = other.receive(queue, wait_ms=40_000)
        assert again is not None and again.attempt == 2  # given back by a clean close: a failure would have ended it
        again.ack()


def test_a_message_keeps_its_client_alive(broker: BrokerProcess, queue: str) -> None:
    before = threads()
    client = SyncClient(broker.url, token=broker.token(), environment={})
    client.publish(queue, 1)
    message = client.receive(queue)
    assert message is not None
    (thread,) = threads() - before
    del client
    message.ack()
    assert message.settled
    del message
    thread.join(60)
    assert not thread.is_alive()


def test_a_client_in_a_cycle_of_garbage_is_closed_when_it_is_collected(broker: BrokerProcess, queue: str) -> None:
    before = threads()
    client = SyncClient(broker.url, token=broker.token(), environment={})
    client.publish(queue, 1)
    client.cycle = client  # type: ignore[attr-defined]
    (thread,) = threads() - before
    del client
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
