"""Publishing over one WebSocket connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Principal, accountable, require
from streambroker.core.errors import BrokerError
from streambroker.core.message import Draft
from streambroker.core.names import format_id
from streambroker.protocol import frames
from streambroker.protocol.messages import Limits, batch_digest, digest, draft
from streambroker.store.contract import Published
from streambroker.transport.websocket.answers import Answers


class Publishing:
    """What a connection does for a publisher. `user` tells who that is; `limits` bounds messages."""

    def __init__(self, broker: Broker, answers: Answers, limits: Limits, user: Callable[[], Principal]) -> None:
        self._broker = broker
        self._answers = answers
        self._limits = limits
        self._user = user

    async def one(self, frame: frames.Publish) -> None:
        """Store what the frame holds, and answer once it is durable. Raises a `BrokerError` where it is refused."""
        user = self._user()
        require(user, Action.PUBLISH, frame.queue)
        queue = await self._broker.ensure_queue(frame.queue, accountable(user))
        require(self._user(), Action.PUBLISH, frame.queue)  # it may have lost the right meanwhile
        now, limits = self._broker.clock(), self._limits
        ids = self._broker.new_ids(len(frame.messages), now)
        drafts = [
            draft(one, number, queue.config, limits, now, None, f"/messages/{index}")
            for index, (one, number) in enumerate(zip(frame.messages, ids, strict=True))
        ]
        digests = [digest(made) for made in drafts if made.dedup_id is not None]
        durability = "memory" if queue.config.durability == "memory" else None
        told = partial(self._answers.told, frame.id, partial(_say_published, frame.id, durability))
        key = frame.idempotency_key
        whole = b"" if key is None else batch_digest(drafts)
        self._broker.post(frame.queue, drafts, told, batch_key=key, digest=whole, digests=digests)
        self._answers.owe(1)

    async def run(self, queue: str, run: Sequence[frames.Publish]) -> None:
        """Publishes to one queue, one after the other: one command for the store where none could be refused alone.

        What a client sends in one turn of its loop comes as one array; what a command costs is then shared.
        """
        if len(run) == 1:
            await self._answered(run[0])
            return
        try:
            user = self._user()
            require(user, Action.PUBLISH, queue)
            config = (await self._broker.ensure_queue(queue, accountable(user))).config
            require(self._user(), Action.PUBLISH, queue)
        except BrokerError as error:
            for frame in run:
                self._answers.refuse(frame.id, error)
            return
        if config.max_messages or any(map(_can_repeat, run)):
            for frame in run:
                await self._answered(frame)
            return
        now, limits = self._broker.clock(), self._limits
        numbers = iter(self._broker.new_ids(sum([len(frame.messages) for frame in run]), now))
        drafts: list[Draft] = []
        stored: list[tuple[frames.FrameId, int]] = []  # the frame's id, and how many drafts are its own
        for frame in run:
            try:
                own = [
                    draft(one, next(numbers), config, limits, now, None, f"/messages/{index}")
                    for index, one in enumerate(frame.messages)
                ]
            except BrokerError as error:
                self._answers.refuse(frame.id, error)
                continue
            drafts += own
            stored.append((frame.id, len(own)))
        if not drafts:
            return
        durability = "memory" if config.durability == "memory" else None
        try:
            self._broker.post(queue, drafts, partial(self._told_run, stored, durability))
        except BrokerError as error:
            for frame_id, _ in stored:
                self._answers.refuse(frame_id, error)
        else:
            self._answers.owe(len(stored))

    def _told_run(self, stored: list[tuple[frames.FrameId, int]], durability: str | None, answer: Any) -> None:
        start = 0
        for frame_id, count in stored:
            if not isinstance(answer, BrokerError):
                ids = answer.ids[start : start + count]
                self._answers.say(frames.published(frame_id, [format_id(i) for i in ids], [], durability))
                start += count
            else:
                self._answers.refuse(frame_id, answer)
        self._answers.given(len(stored))

    async def _answered(self, frame: frames.Publish) -> None:
        try:
            await self.one(frame)
        except BrokerError as error:
            self._answers.refuse(frame.id, error)


def _can_repeat(frame: frames.Publish) -> bool:
    return frame.idempotency_key is not None or any(one.dedup_id is not None for one in frame.messages)


def _say_published(frame_id: frames.FrameId, durability: str | None, stored: Published) -> bytes:
    return frames.published(frame_id, [format_id(i) for i in stored.ids], list(stored.duplicates), durability)
