"""Publishes of many callers, gathered into few requests, and sent again until the broker has confirmed them.

Everything that waits for one queue when the connection can send goes out in one request. The broker stores a request
whole or not at all; where it refuses one, each publish in it is tried alone, so nobody pays for a neighbour. Each draft
carries a dedup id, so that what was sent and not confirmed can be sent again and is stored once.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import msgspec

from streambroker.client import frames
from streambroker.client.errors import (
    ConnectionLost,
    QueueFull,
    ServerError,
    StorageFull,
    StreambrokerError,
    Unavailable,
)
from streambroker.client.http import Http, segment
from streambroker.client.link import Answer, Link
from streambroker.client.models import Draft, Published, PublishedBatch, wire_draft
from streambroker.client.retrying import RetryPolicy

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What may wait to be confirmed; `publish` waits for room beyond that."""
_RETRY = RetryPolicy(base_s=0.1, most_s=5.0)


class Publish:
    """What one call wants stored, all or nothing. `drafts` are JSON; `future` tells what was stored."""

    __slots__ = ("alone", "drafts", "future", "size")

    def __init__(self, drafts: list[bytes], future: asyncio.Future[PublishedBatch]) -> None:
        self.drafts = drafts
        self.future = future
        self.size = sum(map(len, drafts)) + len(drafts)
        self.alone = False
        """Whether the broker refused it in company, and it is to be tried without."""


class Publisher:
    """Owns all publishes of a client until each is confirmed or refused, or its caller has left.

    At most `MAX_WAITING` messages of `MAX_WAITING_BYTES` together are taken; beyond that `room` waits.
    """

    def __init__(self, rest: Http, need: Callable[[], None], chance: Callable[[], float] = random.random) -> None:
        self._rest = rest
        self._need = need
        self._chance = chance
        self._waiting: dict[str, deque[Publish]] = {}
        self._count = 0
        self._bytes = 0
        self._freed = asyncio.Event()
        self._prefix = secrets.token_hex(12)
        self._number = 0
        self._by_rest: set[asyncio.Task[None]] = set()

    # -- from whoever publishes ----------------------------------------------------------------------------------------

    def encoded(self, draft: Draft) -> bytes:
        """A draft as JSON, with a dedup id. Raises `TypeError` where the content is nothing that JSON can say."""
        wire = wire_draft(draft)
        if draft.dedup_id is None:
            wire["dedup_id"] = self._new_dedup_id()
        return frames.encode(wire)

    def plain(self, content: Any) -> bytes:
        """A draft of nothing but its content, which is no bytes; as `encoded`, and cheaper."""
        return b'{"content":%b,"dedup_id":"%b"}' % (frames.encode(content), self._new_dedup_id().encode())

    def _new_dedup_id(self) -> str:
        # Unique by the client's 96 random bits; to ask the system for new ones each time would cost more than the rest.
        self._number += 1
        return f"{self._prefix}{self._number:x}"

    async def stored(self, queue: str, drafts: list[bytes]) -> PublishedBatch:
        """Publish drafts to a queue, all or none; returns once they are durable.

        Raises what the broker refuses. Cancelled, what was not sent is not sent any more.
        """
        while self._count >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES:
            self._freed.clear()
            await self._freed.wait()
        publish = Publish(drafts, asyncio.get_running_loop().create_future())
        self._count += len(drafts)
        self._bytes += publish.size
        try:
            self._post(queue, publish)
            return await publish.future
        finally:
            self._count -= len(drafts)
            self._bytes -= publish.size
            if not self._freed.is_set():
                self._freed.set()

    def _post(self, queue: str, publish: Publish) -> None:
        waiting = self._waiting.get(queue)
        if waiting is None:
            self._waiting[queue] = deque((publish,))
            self._need()
        else:
            waiting.append(publish)

    @property
    def busy(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._waiting)

    def fail_all(self, error: StreambrokerError) -> None:
        """There is no way to the broker: whoever waits is told why."""
        waiting, self._waiting = self._waiting, {}
        for publish in chain.from_iterable(waiting.values()):
            _fail(publish, error)

    def close(self) -> None:
        """Give up what is not confirmed."""
        for task in self._by_rest:
            task.cancel()
        self.fail_all(ConnectionLost("the client was closed before the broker confirmed it"))

    # -- over the connection -------------------------------------------------------------------------------------------

    def outgoing(self, link: Link) -> Iterable[bytes]:
        """The frames of what waits; nothing while the broker drains, for it would refuse them."""
        if link.draining:
            return
        waiting, self._waiting = self._waiting, {}
        for queue, publishes in waiting.items():
            for group in self._groups(queue, publishes, link.max_frame - frames.MARGIN):
                number = link.expect(partial(self._told, queue, group))
                yield frames.publish(number, queue, chain.from_iterable(one.drafts for one in group))

    def _groups(self, queue: str, publishes: Iterable[Publish], most: int) -> Iterable[list[Publish]]:
        """What goes together, in order. What no frame can hold goes over REST; whose caller has left, nowhere."""
        group: list[Publish] = []
        size = count = 0
        for publish in publishes:
            if publish.future.done():
                continue
            if publish.size > most:
                self._send_by_rest(queue, publish)
                continue
            full = size + publish.size > most or count + len(publish.drafts) > frames.MAX_IDS
            if group and (full or publish.alone or group[-1].alone):
                yield group
                group, size, count = [], 0, 0
            group.append(publish)
            size += publish.size
            count += len(publish.drafts)
        if group:
            yield group

    def _told(self, queue: str, group: list[Publish], answer: Answer) -> None:
        if isinstance(answer, frames.Ok):
            _share(group, answer)
        elif isinstance(answer, ConnectionLost):
            self._put_back(queue, group)
        elif _comes_back(answer):
            wait = _RETRY.wait_s(1, answer, self._chance())
            asyncio.get_running_loop().call_later(wait, self._put_back, queue, group)
        elif len(group) > 1:
            for publish in group:
                publish.alone = True
            self._put_back(queue, group)
        else:
            _fail(group[0], answer)

    def _put_back(self, queue: str, group: list[Publish]) -> None:
        """In front of what waits: it was there before."""
        left = [publish for publish in group if not publish.future.done()]
        if left:
            self._waiting.setdefault(queue, deque()).extendleft(reversed(left))
            self._need()

    # -- over REST -----------------------------------------------------------------------------------------------------

    def _send_by_rest(self, queue: str, publish: Publish) -> None:
        task = asyncio.create_task(self._post_batch(queue, publish))
        self._by_rest.add(task)
        task.add_done_callback(self._by_rest.discard)

    async def _post_batch(self, queue: str, publish: Publish) -> None:
        body = {"messages": [msgspec.Raw(draft) for draft in publish.drafts]}
        path = f"/queues/{segment(queue)}/messages/batch"
        try:
            stored = await self._rest.call("POST", path, PublishedBatch, body=body, repeatable=True)
        except StreambrokerError as error:
            _fail(publish, error)
        else:
            if not publish.future.done():
                publish.future.set_result(stored)


def _share(group: list[Publish], answer: frames.Ok) -> None:
    """Tell each publish of a request what became of its own messages."""
    ids, duplicates = answer.message_ids, answer.duplicates
    start = 0
    for publish in group:
        end = start + len(publish.drafts)
        if not publish.future.done():
            own = [index - start for index in duplicates if start <= index < end] if duplicates else []
            publish.future.set_result(PublishedBatch(ids[start:end], own, answer.durability))
        start = end


def _fail(publish: Publish, error: StreambrokerError) -> None:
    if not publish.future.done():
        publish.future.set_exception(error)


def _comes_back(error: StreambrokerError) -> bool:
    """Whether to try again by ourselves; a queue or disk that is full is for the caller to decide on."""
    return isinstance(error, Unavailable | ServerError) and not isinstance(error, QueueFull | StorageFull)


def single(stored: PublishedBatch) -> Published:
    """What became of the one message of a publish."""
    return Published(stored.message_ids[0], bool(stored.duplicates), stored.durability)
