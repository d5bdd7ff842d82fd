"""A message in a consumer's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from streambroker.client.errors import AlreadySettled, ConnectionLost, LeaseLost, ProblemDocument, StreambrokerTimeout
from streambroker.client.models import DeadLetter, MessageInfo, Scalar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of a message: done, failed, or more time. Messages of one verdict are settled together."""

    what: Literal["ack", "nack", "extend"]
    requeue: bool = False
    delay_ms: int | None = None
    reason: str | None = None
    lease_ms: int | None = None


ACK = Verdict("ack")


class Hold:
    """A subscription on one connection, for as long as its leases can be settled by that connection."""

    __slots__ = ("alive",)

    def __init__(self) -> None:
        self.alive = True


Settle = Callable[["Message", Verdict], "asyncio.Future[None]"]


class Delivery:
    """What a delivered message says."""

    __slots__ = ("_info",)

    def __init__(self, info: MessageInfo) -> None:
        self._info = info

    @property
    def info(self) -> MessageInfo:
        """Everything that the broker told of it."""
        return self._info

    @property
    def content(self) -> Any:
        """The content's value, decoded anew at each use: what the JSON says, or `bytes` where raw bytes were sent."""
        return self._info.content

    @property
    def body(self) -> bytes:
        """The content's bytes as they were published: the JSON text, or the raw bytes."""
        return self._info.body

    def decode(self, kind: type[T]) -> T:
        """The content as a type of yours (a msgspec Struct, a dataclass, …). Raises `msgspec.ValidationError`."""
        return msgspec.json.decode(self._info.body, type=kind)

    @property
    def content_type(self) -> str:
        """Its media type."""
        return self._info.content_type

    @property
    def message_id(self) -> str:
        """Its id; ids sort by the order of publishing."""
        return self._info.message_id

    @property
    def queue(self) -> str:
        """The queue that it came from."""
        return self._info.queue

    @property
    def attempt(self) -> int:
        """Which delivery this is, from 1."""
        return self._info.attempt

    @property
    def max_attempts(self) -> int:
        """How many may fail; 0 is no limit."""
        return self._info.max_attempts

    @property
    def headers(self) -> dict[str, Scalar]:
        """The headers that it was published with."""
        return self._info.headers or {}

    @property
    def priority(self) -> int:
        """0 to 9."""
        return self._info.priority

    @property
    def key(self) -> str | None:
        """The publisher's key."""
        return self._info.key

    @property
    def dedup_id(self) -> str | None:
        """What named its publish."""
        return self._info.dedup_id

    @property
    def correlation_id(self) -> str | None:
        """What it belongs to, as its publisher said."""
        return self._info.correlation_id

    @property
    def reply_to(self) -> str | None:
        """The queue that an answer should go to."""
        return self._info.reply_to

    @property
    def traceparent(self) -> str | None:
        """The trace that it belongs to (W3C Trace Context)."""
        return self._info.traceparent

    @property
    def created_at(self) -> datetime | None:
        """When it was published."""
        return self._info.created_at

    @property
    def expires_at(self) -> datetime | None:
        """When its life ends."""
        return self._info.expires_at

    @property
    def error(self) -> str | None:
        """Why it failed the last time."""
        return self._info.error

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where it came from, if it is a dead letter."""
        return self._info.dead_letter

    @property
    def lease(self) -> str | None:
        """The fencing token of this delivery."""
        return self._info.lease

    @property
    def lease_expires_at(self) -> datetime | None:
        """When a fixed lease ends; None for one that lives as long as the connection."""
        return self._info.lease_expires_at

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.message_id} of {self.queue}, attempt {self.attempt}>"


class Message(Delivery):
    """A delivered message. It is yours until you settle it, or until its lease is lost.

    `ack()` and `nack()` are on their way when they return; what they return can be awaited, and is done once the
    broker has made it durable. Settling needs the event loop that the message was delivered on.
    """

    __slots__ = ("_hold", "_is_lost", "_lost", "_on_settled", "_settle", "_verdict", "_verdict_told")

    def __init__(
        self, info: MessageInfo, settle: Settle, hold: Hold | None, on_settled: Callable[[str], None] | None = None
    ) -> None:
        self._info = info
        self._settle = settle
        self._hold = hold
        self._on_settled = on_settled
        self._verdict: Verdict | None = None
        self._verdict_told: asyncio.Future[None] | None = None
        self._is_lost = False
        self._lost: asyncio.Event | None = None

    @property
    def settled(self) -> bool:
        """Whether it was acked or nacked here, confirmed or not."""
        return self._verdict is not None

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has it, or it is gone: work on it is in vain."""
        return self._is_lost

    @property
    def lost(self) -> asyncio.Event:
        """Set when the message is known to be lost, see `is_lost`."""
        if self._lost is None:
            self._lost = asyncio.Event()
            if self._is_lost:
                self._lost.set()
        return self._lost

    def ack(self, *, timeout: float | None = None) -> asyncio.Future[None]:
        """It is done. Awaited: durably so, and never delivered again; raises `LeaseLost` where that came too late.

        Sent at once, awaited or not. If the connection breaks it is sent again, with the lease, until the broker has
        answered, or `timeout` seconds have passed (`StreambrokerTimeout`; None: the client's `settle_timeout`).
        """
        return self._settled_as(ACK, timeout)

    def nack(
        self,
        *,
        requeue: bool = True,
        delay_ms: int | None = None,
        reason: str | None = None,
        timeout: float | None = None,
    ) -> asyncio.Future[None]:
        """It went wrong: to be tried again after `delay_ms` (None: the queue's backoff), or not at all.

        `reason` becomes the message's `error`, without what none may hold (NUL, halves of surrogate pairs). See `ack`
        for the rest.
        """
        return self._settled_as(Verdict("nack", requeue, delay_ms, reason and _carried(reason)[:4096]), timeout)

    def extend(self, lease_ms: int, *, timeout: float | None = None) -> asyncio.Future[None]:
        """A fixed lease ends `lease_ms` from now; one that lives with its connection has no end to move."""
        return _within(self._settle(self, Verdict("extend", lease_ms=lease_ms)), timeout)

    def _settled_as(self, verdict: Verdict, timeout: float | None) -> asyncio.Future[None]:
        if self._verdict is None:
            self._verdict = verdict
            if self._on_settled is not None:
                self._on_settled(self._info.message_id)
            self._verdict_told = self._settle(self, verdict)
        elif self._verdict.what != verdict.what or self._verdict.requeue != verdict.requeue:
            detail = f"{self.message_id} was settled here already: {self._verdict.what}"
            raise AlreadySettled(ProblemDocument("already_settled", 409, detail=detail))
        elif _may_ask_again(self._verdict_told):
            self._hold = None  # by its lease: the broker may have done it, and says so then
            self._verdict_told = self._settle(self, verdict)
        assert self._verdict_told is not None
        return _within(self._verdict_told, timeout)

    def lose(self) -> None:
        """The SDK's own: the lease is gone."""
        self._is_lost = True
        if self._lost is not None:
            self._lost.set()

    @property
    def held_by(self) -> Hold | None:
        """The SDK's own: the connection that can settle it by its id; None: by its lease."""
        hold = self._hold
        return hold if hold is not None and hold.alive else None


def _carried(reason: str) -> str:
    """The reason without what no reason may hold: it is mostly the text of an exception, and no cause of another."""
    return reason.replace("\0", "").encode(errors="replace").decode()


def _may_ask_again(told: asyncio.Future[None] | None) -> bool:
    """Whether a settle was given up here, and not refused by the broker."""
    if told is None or not told.done():
        return False
    return told.cancelled() or isinstance(told.exception(), StreambrokerTimeout | ConnectionLost)


def _within(told: asyncio.Future[None], timeout: float | None) -> asyncio.Future[None]:
    """The future, which fails after `timeout` seconds; the settle goes on all the same."""
    if timeout is None or told.done():
        return told
    ours: asyncio.Future[None] = told.get_loop().create_future()
    late = StreambrokerTimeout(f"the broker has not confirmed it within {timeout:g} s")
    timer = told.get_loop().call_later(timeout, _fail, ours, late)

    def pass_on(done: asyncio.Future[None]) -> None:
        timer.cancel()
        if ours.done():
            return
        if done.cancelled():
            ours.cancel()
        elif (error := done.exception()) is not None:
            _fail(ours, error)
        else:
            ours.set_result(None)

    told.add_done_callback(pass_on)
    return ours


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever does not await it does not care


def lost_lease(message: Message) -> LeaseLost:
    """The error of a message that is not ours any more."""
    detail = f"the lease of {message.message_id} is lost: somebody else was handed the message, or it is gone"
    return LeaseLost(ProblemDocument("lease_lost", 409, detail=detail))
