"""Publishes of many callers, gathered into few requests, and sent again until the broker has confirmed them.

Everything that waits for one queue when the connection can send goes out in one request. The broker stores a request
whole or not at all; where it refuses one, each publish in it is tried alone, so nobody pays for a neighbour. Each
request has a dedup id of its own, its idempotency key: what was sent and not confirmed is sent again as it was, under
the same key, and is stored once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

from streambroker.client import frames
from streambroker.client.errors import (
    ConnectionLost,
    QueueFull,
    ServerError,
    StorageFull,
    StreambrokerError,
    StreambrokerTimeout,
    Unavailable,
)
from streambroker.client.http import Http, segment
from streambroker.client.link import Answer, Link
from streambroker.client.models import Published, PublishedBatch
from streambroker.client.retrying import RetryPolicy

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait to be confirmed; `publish` waits for room beyond that."""
MAX_DEADLINES = 100
"""Different time-outs that are watched before those that nobody uses any more are forgotten."""
_RETRY = RetryPolicy(base_s=0.1, most_s=5.0)


class Publish:
    """What one call wants stored, all or nothing. `drafts` are JSON; `future` tells what was stored."""

    __slots__ = ("alone", "deadline", "drafts", "future", "one", "size")

    def __init__(self, drafts: list[bytes], one: bool, future: asyncio.Future[Any], deadline: float) -> None:
        self.drafts = drafts
        self.one = one
        """Whether the caller wants a `Published`, and not a `PublishedBatch`."""
        self.future = future
        self.deadline = deadline
        self.size = sum(map(len, drafts)) + len(drafts)
        self.alone = False
        """Whether the broker refused it in company, and it is to be tried without."""


class Request:
    """Publishes that are sent together, and again only as they are: its `key` stands for exactly these."""

    __slots__ = ("key", "publishes", "queue", "refusals", "size")

    def __init__(self, queue: str, key: str, publishes: list[Publish], size: int) -> None:
        self.queue = queue
        self.key = key
        self.publishes = publishes
        self.size = size
        self.refusals = 0
        """How often the broker has said that it cannot now."""

    @property
    def drafts(self) -> Iterable[bytes]:
        """The messages, each as JSON."""
        return chain.from_iterable([publish.drafts for publish in self.publishes])

    @property
    def wanted(self) -> bool:
        """Whether any of its callers still waits."""
        return not all(publish.future.done() for publish in self.publishes)


class Deadlines:
    """Publishes of one time-out, and so in the order of their deadlines: one timer does for them all."""

    __slots__ = ("_late", "_timer", "waiting")

    def __init__(self, late: Callable[[], StreambrokerTimeout]) -> None:
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self.waiting: deque[Publish] = deque()

    def add(self, publish: Publish, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a publish, and forget those at the front that are done."""
        waiting = self.waiting
        while waiting and waiting[0].future.done():
            waiting.popleft()
        waiting.append(publish)
        if self._timer is None:
            self._timer = loop.call_at(publish.deadline, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self.waiting and (self.waiting[0].future.done() or self.waiting[0].deadline <= now):
            publish = self.waiting.popleft()
            if not publish.future.done():
                publish.future.set_exception(self._late())
        if self.waiting:
            self._timer = loop.call_at(self.waiting[0].deadline, self._ring, loop)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()


class Publisher:
    """Owns all publishes of a client until each is confirmed or refused, or its caller has left.

    At most `MAX_WAITING` messages, or `MAX_WAITING_BYTES` of them, are taken; beyond that `room` waits. `trouble` says
    why there is no connection, for those whose time is over.
    """

    def __init__(
        self,
        rest: Http,
        need: Callable[[], None],
        chance: Callable[[], float],
        trouble: Callable[[], StreambrokerError | None],
    ) -> None:
        self._rest = rest
        self._need = need
        self._chance = chance
        self._trouble = trouble
        self._waiting: dict[str, list[Publish]] = {}
        self._again: deque[Request] = deque()
        self._count = 0
        self._bytes = 0
        self._freed = asyncio.Event()
        # Unique by 96 random bits; the number tells the requests of this publisher apart.
        self._prefix = secrets.token_hex(12)
        self._number = 0
        self._by_rest: dict[asyncio.Task[None], Request] = {}
        self._later: dict[Request, asyncio.TimerHandle] = {}
        self._deadlines: dict[float, Deadlines] = {}

    # -- from whoever publishes ----------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether `room` should be asked for before the next publish."""
        return self._count >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    async def room(self, timeout: float | None) -> None:
        """Wait for room. Raises `StreambrokerTimeout`."""
        try:
            async with asyncio.timeout(timeout):
                while self.full:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            raise self._late(timeout or 0) from None

    def post(self, queue: str, drafts: list[bytes], one: bool, timeout: float | None) -> asyncio.Future[Any]:
        """Publish drafts to a queue, all or none; what the future holds says `one`, see `Publish`. Durable then.

        Raises what the broker refuses, and `StreambrokerTimeout`. Cancelled, what was not sent is not sent any more.
        """
        loop = asyncio.get_running_loop()
        publish = Publish(drafts, one, loop.create_future(), 0.0 if timeout is None else loop.time() + timeout)
        if timeout is not None:
            self._watch(publish, timeout, loop)
        self._count += len(drafts)
        self._bytes += publish.size
        waiting = self._waiting.get(queue)
        if waiting is None:
            self._waiting[queue] = [publish]
            self._need()
        else:
            waiting.append(publish)
        return publish.future

    def _watch(self, publish: Publish, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        deadlines = self._deadlines.get(timeout)
        if deadlines is None:
            if len(self._deadlines) >= MAX_DEADLINES:
                self._deadlines = {known: line for known, line in self._deadlines.items() if line.waiting}
            deadlines = self._deadlines[timeout] = Deadlines(lambda: self._late(timeout))
        deadlines.add(publish, loop)

    def _late(self, timeout: float) -> StreambrokerTimeout:
        trouble = self._trouble()
        why = "" if trouble is None else f"; no connection: {trouble}"
        return StreambrokerTimeout(f"the broker has not confirmed it within {timeout:g} s{why}")

    def _gone(self, publish: Publish) -> None:
        """It is confirmed, refused, or not wanted any more: there is room for others."""
        self._count -= len(publish.drafts)
        self._bytes -= publish.size
        if not self._freed.is_set():
            self._freed.set()

    @property
    def busy(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting or self._again)

    def fail_all(self, error: StreambrokerError) -> None:
        """There is no way to the broker: whoever waits is told why."""
        again, self._again = self._again, deque()
        waiting, self._waiting = self._waiting, {}
        for publish in chain(*(request.publishes for request in again), *waiting.values()):
            self._fail(publish, error)

    def close(self) -> None:
        """Give up what is not confirmed."""
        error = ConnectionLost("the client was closed before the broker confirmed it")
        for timer in self._later.values():
            timer.cancel()
        for task in self._by_rest:
            task.cancel()
        for deadlines in self._deadlines.values():
            deadlines.close()
        for request in chain(self._later, self._by_rest.values()):
            for publish in request.publishes:
                self._fail(publish, error)
        self._later, self._by_rest = {}, {}
        self.fail_all(error)

    # -- over the connection -------------------------------------------------------------------------------------------

    def outgoing(self, link: Link) -> Iterable[bytes]:
        """The frames of what waits, what was sent before first; nothing while the broker drains: it would refuse."""
        if link.draining or not self.busy:
            return
        again, self._again = self._again, deque()
        waiting, self._waiting = self._waiting, {}
        most = link.max_frame - frames.MARGIN
        fresh = chain.from_iterable(self._grouped(queue, publishes, most) for queue, publishes in waiting.items())
        for request in chain(again, fresh):
            if request.size > most:
                self._send_by_rest(request)
            elif request.wanted:
                number = link.expect(partial(self._told, request))
                yield frames.publish(number, request.queue, request.key, request.drafts)
            else:
                self._forget(request)

    def _grouped(self, queue: str, publishes: Iterable[Publish], most: int) -> Iterable[Request]:
        """What goes together, in order; what no frame can hold is alone. Whose caller has left goes nowhere."""
        group: list[Publish] = []
        size = count = 0
        for publish in publishes:
            if publish.future.done():
                self._gone(publish)
                continue
            full = size + publish.size > most or count + len(publish.drafts) > frames.MAX_IDS
            if group and (full or publish.alone or group[-1].alone):
                yield self._request(queue, group, size)
                group, size, count = [], 0, 0
            group.append(publish)
            size += publish.size
            count += len(publish.drafts)
        if group:
            yield self._request(queue, group, size)

    def _request(self, queue: str, group: list[Publish], size: int) -> Request:
        self._number += 1
        return Request(queue, f"{self._prefix}-{self._number}", group, size)

    def _told(self, request: Request, answer: Answer) -> None:
        if isinstance(answer, frames.Ok):
            self._share(request.publishes, answer)
        elif isinstance(answer, ConnectionLost):
            self._send_again(request)
        elif _comes_back(answer):
            request.refusals += 1
            wait = _RETRY.wait_s(request.refusals, answer, self._chance())
            self._later[request] = asyncio.get_running_loop().call_later(wait, self._send_later, request)
        elif len(request.publishes) > 1:
            self._send_each(request)
        else:
            self._fail(request.publishes[0], answer)

    def _send_later(self, request: Request) -> None:
        del self._later[request]
        self._send_again(request)

    def _send_again(self, request: Request) -> None:
        """Before what waits: it was there before."""
        if request.wanted:
            self._again.appendleft(request)
            self._need()
        else:
            self._forget(request)

    def _forget(self, request: Request) -> None:
        for publish in request.publishes:
            self._gone(publish)

    def _send_each(self, request: Request) -> None:
        """It was refused, so nothing of it is stored: whose fault that was shows when each goes alone."""
        for publish in request.publishes:
            publish.alone = True
        self._waiting[request.queue] = request.publishes + self._waiting.get(request.queue, [])
        self._need()

    # -- over REST -----------------------------------------------------------------------------------------------------

    def _send_by_rest(self, request: Request) -> None:
        task = asyncio.create_task(self._post_batch(request))
        self._by_rest[task] = request
        task.add_done_callback(lambda done: self._by_rest.pop(done, None))

    async def _post_batch(self, request: Request) -> None:
        path = f"/queues/{segment(request.queue)}/messages/batch"
        headers = {"content-type": "application/json", "idempotency-key": request.key}
        raw = b'{"messages":[%b]}' % b",".join(request.drafts)
        try:
            stored = await self._rest.call("POST", path, PublishedBatch, raw=raw, headers=headers, repeatable=True)
        except StreambrokerError as error:
            for publish in request.publishes:
                self._fail(publish, error)
        else:
            self._share(request.publishes, stored)

    # -- what became of them -------------------------------------------------------------------------------------------

    def _share(self, publishes: list[Publish], answer: frames.Ok | PublishedBatch) -> None:
        """Tell each publish of a request what became of its own messages."""
        ids, duplicates, durability = answer.message_ids, answer.duplicates, answer.durability
        start = 0
        for publish in publishes:
            end = start + len(publish.drafts)
            if publish.future.done():
                pass
            elif publish.one:
                publish.future.set_result(Published(ids[start], start in duplicates, durability))
            else:
                own = [index - start for index in duplicates if start <= index < end] if duplicates else []
                publish.future.set_result(PublishedBatch(ids[start:end], own, durability))
            self._gone(publish)
            start = end

    def _fail(self, publish: Publish, error: StreambrokerError) -> None:
        self._gone(publish)
        if not publish.future.done():
            publish.future.set_exception(error)


def _comes_back(error: StreambrokerError) -> bool:
    """Whether to try again by ourselves; a queue or disk that is full is for the caller to decide on."""
    return isinstance(error, Unavailable | ServerError) and not isinstance(error, QueueFull | StorageFull)
