"""Workers: a function for each message of a queue, and a runner that stops when it is asked to.

    @worker("thumbnails", concurrency=8)
    async def make(message: Message) -> None:
        ...

    run(make)

A message is acked when the function returns and nacked when it raises: with requeue, to be tried again after the
queue's backoff, until its attempts are used up. `Reject` gives it up, `Retry` says when to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import queue as queues
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streambroker.client.client import Client
from streambroker.client.consuming import Consumption, LeaseMode
from streambroker.client.errors import Reject, StreambrokerError
from streambroker.client.messages import Message

log = logging.getLogger("streambroker.worker")

Handler = Callable[[Message], Awaitable[None] | None]
OnError = Callable[[Message, Exception], Awaitable[None] | None]

GRACE_S = 30.0


class Retry(StreambrokerError):
    """Raise it in a worker to have the message tried again after `delay_ms` (None: after the queue's backoff)."""

    def __init__(self, detail: str = "", *, delay_ms: int | None = None) -> None:
        super().__init__(detail)
        self.delay_ms = delay_ms


@dataclass(frozen=True, slots=True)
class Worker:
    """A function for each message of a queue; made by `worker`. Call it to call the function."""

    queue: str
    handler: Handler
    concurrency: int = 1
    credit: int = 1
    lease_mode: LeaseMode = "session"
    lease_ms: int | None = None
    on_error: OnError | None = None

    def __call__(self, message: Message) -> Awaitable[None] | None:
        return self.handler(message)

    @property
    def name(self) -> str:
        """The function's name, for logs."""
        return getattr(self.handler, "__name__", type(self.handler).__name__)

    @property
    def is_async(self) -> bool:
        """Whether the function is awaited; a plain one runs in a thread."""
        call = self.handler
        while isinstance(call, functools.partial):
            call = call.func
        call = call if inspect.isroutine(call) else type(call).__call__
        return inspect.iscoroutinefunction(inspect.unwrap(call))


def worker(
    queue: str,
    *,
    concurrency: int = 1,
    prefetch: int = 0,
    lease_mode: LeaseMode = "session",
    lease_ms: int | None = None,
    on_error: OnError | None = None,
) -> Callable[[Handler], Worker]:
    """Make a function the worker of a queue. An async one shares the event loop, a plain one runs in threads.

    At most `concurrency` messages are worked on at a time, and `prefetch` more wait here for their turn: more of them
    hide the way to the broker where the work is short, and are kept from other workers where it is long. `on_error` is
    called with the message and the exception after each failure, when the nack is on its way.
    """
    if concurrency < 1 or prefetch < 0:
        raise ValueError("concurrency is at least 1, and prefetch at least 0")

    def made(handler: Handler) -> Worker:
        return Worker(queue, handler, concurrency, concurrency + prefetch, lease_mode, lease_ms, on_error)

    return made


def run(
    *workers: Worker,
    url: str | None = None,
    token: str | None = None,
    username: str | None = None,
    password: str | None = None,
    grace: float = GRACE_S,
    **options: Any,
) -> None:
    """Work until SIGTERM or SIGINT, then stop gracefully, see `work`; a second signal stops at once.

    Arguments are those of `Client`. Raises what ends the consuming for good, such as `Unauthenticated`.
    """

    async def main() -> None:
        stop, now = asyncio.Event(), asyncio.Event()
        async with Client(url, token=token, username=username, password=password, **options) as client:
            with _signals(stop, now):
                await work(client, *workers, stop=stop, stop_now=now, grace=grace)

    asyncio.run(main())


async def work(
    client: Client,
    *workers: Worker,
    stop: asyncio.Event | None = None,
    stop_now: asyncio.Event | None = None,
    grace: float = GRACE_S,
) -> None:
    """Work with a client of your own until `stop` is set, or until it is cancelled.

    Then nothing new is begun, what runs has `grace` seconds to finish (none once `stop_now` is set), and the rest is
    given back to the queue without counting as a failure. One worker that can go on no more stops them all, and what it
    raised is raised. `SystemExit` and `KeyboardInterrupt` from a worker's function do so at once, without the grace.
    """
    if not workers:
        raise ValueError("there is no worker to run")
    stop, stop_now = stop or asyncio.Event(), stop_now or asyncio.Event()
    shifts = [Shift(client, one) for one in workers]
    ended = [asyncio.create_task(shift.run(), name=f"worker {shift.worker.name}") for shift in shifts]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([*ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        await _finish(shifts, ended, stop_now, 0 if any(map(_leaves, ended)) else grace)
    finally:
        stopped.cancel()
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, stopped, return_exceptions=True)
        await asyncio.gather(*(shift.close() for shift in shifts))
    # Who leaves goes before what only failed, as it may have because of that.
    for task in sorted(ended, key=_leaves, reverse=True):
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error.reason if isinstance(error, _Leaving) else error


class _Leaving(Exception):
    """The function wants the program to end. Raised in a task as it is, that would stop the loop under everybody."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _leaves(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and isinstance(task.exception(), _Leaving)


async def _finish(
    shifts: Sequence[Shift], ended: Sequence[asyncio.Task[None]], stop_now: asyncio.Event, grace: float
) -> None:
    """Let what runs come to its end, for a while."""
    for shift in shifts:
        shift.stop()
    hurry = asyncio.create_task(stop_now.wait())
    everybody = asyncio.ensure_future(asyncio.wait(ended))
    log.info("stopping: %d messages are being worked on", sum(shift.busy for shift in shifts))
    try:
        await asyncio.wait({everybody, hurry}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurry.cancel()
        everybody.cancel()
    if left := sum(shift.busy for shift in shifts):
        log.warning("%d messages were not finished in time; they are given back", left)


class Shift:
    """One worker at work: owns its subscription and its lanes, each of which works on one message at a time."""

    def __init__(self, client: Client, worker: Worker) -> None:
        self.worker = worker
        self.busy = 0
        self._client = client
        self._consumption: Consumption | None = None
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Work until `stop`; raises what ends the subscription for good."""
        one = self.worker
        self._consumption = self._client.subscribe(
            one.queue, credit=one.credit, lease_mode=one.lease_mode, lease_ms=one.lease_ms
        )
        log.info("%s works on %s, %d at a time", one.name, one.queue, one.concurrency)
        lanes = [asyncio.create_task(self._lane(self._consumption)) for _ in range(one.concurrency)]
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for lane in lanes:
                lane.cancel()
            results = await asyncio.gather(*lanes, return_exceptions=True)
        for error in results:
            if isinstance(error, Exception):
                raise error

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True
        if self._consumption is not None:
            self._consumption.pause()
        for lane in self._waiting:
            lane.cancel()

    async def close(self) -> None:
        """Give back what is not settled."""
        if self._consumption is not None:
            await self._consumption.close()

    async def _lane(self, consumption: Consumption) -> None:
        lane = asyncio.current_task()
        assert lane is not None
        with _caller(self.worker) as call:
            while not self._stopping:
                self._waiting.add(lane)  # only what waits here is cancelled by `stop`
                try:
                    message = await consumption.take()
                finally:
                    self._waiting.discard(lane)
                self.busy += 1
                try:
                    await self._work(message, call)
                except (SystemExit, KeyboardInterrupt) as error:
                    raise _Leaving(error) from None
                finally:
                    self.busy -= 1

    async def _work(self, message: Message, call: Call) -> None:
        try:
            await call(message)
        except asyncio.CancelledError as error:
            lane = asyncio.current_task()
            if lane is None or lane.cancelling():
                raise
            await self._failed(message, _cancelled(error))
        except Exception as error:
            await self._failed(message, error)
        else:
            if not message.settled:
                message.ack().add_done_callback(lambda told: _log_refusal(message, told))

    async def _failed(self, message: Message, error: Exception) -> None:
        """Nack it; the queue's policy decides when it is tried again, and how often."""
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, Reject | Retry):
            log.info("%s gave back %r: %s", self.worker.name, message, reason)
            reason = error.detail or reason
        else:
            log.error("%s failed on %r", self.worker.name, message, exc_info=error)
        if not message.settled:
            delay_ms = error.delay_ms if isinstance(error, Retry) else None
            told = message.nack(requeue=not isinstance(error, Reject), delay_ms=delay_ms, reason=reason)
            told.add_done_callback(lambda told: _log_refusal(message, told))
        if self.worker.on_error is not None:
            try:
                hooked = self.worker.on_error(message, error)
                if inspect.isawaitable(hooked):
                    await hooked
            except Exception:
                log.exception("the on_error of %s failed", self.worker.name)


def _cancelled(error: asyncio.CancelledError) -> Exception:
    """The failure of a function that was not cancelled itself: something that it waited for was."""
    failure = RuntimeError("something that it waited for was cancelled")
    failure.__cause__ = error
    return failure


def _log_refusal(message: Message, told: asyncio.Future[None]) -> None:
    if not told.cancelled() and (error := told.exception()) is not None:
        log.warning("%r was worked on, but not settled: %s", message, error)


# -- calling the function ----------------------------------------------------------------------------------------------

Call = Callable[[Message], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def _caller(worker: Worker) -> Iterator[Call]:
    """How a lane calls the worker's function: on the loop, or in a thread of its own."""
    if worker.is_async:
        yield lambda message: _awaited(worker, message)
        return
    thread = LaneThread(worker)
    try:
        yield thread.call
    finally:
        thread.end()


async def _awaited(worker: Worker, message: Message) -> None:
    result = worker.handler(message)
    if inspect.isawaitable(result):
        await result


_PASSED_ON = (Exception, SystemExit, KeyboardInterrupt)


class LaneThread:
    """A thread for one lane. A daemon: a function that does not come back cannot keep the process from ending."""

    def __init__(self, worker: Worker) -> None:
        self._handler = worker.handler
        self._loop = asyncio.get_running_loop()
        self._jobs: queues.SimpleQueue[Callable[[], None] | None] = queues.SimpleQueue()
        threading.Thread(target=self._run, name=f"worker {worker.name}", daemon=True).start()

    async def call(self, message: Message) -> None:
        """Call the function in the thread. Cancelled, it runs on, and its end interests nobody any more."""
        future: asyncio.Future[None] = self._loop.create_future()
        context = contextvars.copy_context()

        def job() -> None:
            error: BaseException | None
            try:
                result = context.run(self._handler, message)
                error = None if result is None or not inspect.isawaitable(result) else _unexpected(result)
            except BaseException as raised:
                error = raised if isinstance(raised, _PASSED_ON) else RuntimeError(repr(raised))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(_tell, future, error)

        self._jobs.put(job)
        await future

    def end(self) -> None:
        """End the thread after what it does now."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _unexpected(result: Any) -> Exception:
    if inspect.iscoroutine(result):
        result.close()
    return TypeError("a plain function returned an awaitable; make it an async function")


def _tell(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    elif isinstance(error, StopIteration):  # no future takes one
        future.set_exception(RuntimeError(repr(error)))
    else:
        future.set_exception(error)


# -- signals -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _signals(stop: asyncio.Event, now: asyncio.Event) -> Iterator[None]:
    """The first SIGTERM or SIGINT sets `stop`, the next one `now`. Only the main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def heard() -> None:
        (now if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heard)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
