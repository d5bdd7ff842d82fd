"""All webhooks of the broker: which of them run, and how they are made, changed and ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Literal

from streambroker.broker.broker import Broker
from streambroker.core.errors import BrokerError, Forbidden, NotFound, RateLimited
from streambroker.store.sql.webhooks import Delivery, Kind, Recent, Refused, Webhook, Webhooks
from streambroker.transport.auth.commitments import Commitments
from streambroker.transport.roster import Roster, Seat, Standing
from streambroker.transport.webhooks.addresses import target
from streambroker.transport.webhooks.answers import OUTCOMES, Line, Lines
from streambroker.transport.webhooks.courier import Courier, Posting
from streambroker.transport.webhooks.journal import Journal
from streambroker.transport.webhooks.pushing import Push
from streambroker.transport.webhooks.rights import Rights

log = logging.getLogger(__name__)

Status = Literal["active", "slowed", "stopped", "disabled"]
_RETRY_AFTER_MS = 60_000
_STEP = 500


@dataclass(frozen=True, slots=True)
class Health:
    """How a webhook stands, and why it does not run as it should."""

    status: Status
    reason: str | None
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class _Running:
    """A webhook at work."""

    push: Push
    line: Line
    seat: Seat


class Fleet:
    """Owns the webhooks that run, and sees to it that they are those that should; used from the event loop.

    The store goes first, and one change is made at a time, so that what runs follows what is stored. `lines` is None
    where webhooks are off or cannot be had; `off` says why. `most` is how many act for one user (0: any number). `wall`
    gives milliseconds since 1970 UTC.
    """

    def __init__(
        self,
        stored: Webhooks,
        broker: Broker,
        rights: Rights,
        roster: Roster,
        lines: Callable[[], Lines] | None,
        off: str,
        wall: Callable[[], int],
        most: int = 0,
    ) -> None:
        self.off = off if lines is None else None
        self._stored = stored
        self._broker = broker
        self._rights = rights
        self._roster = roster
        self._wall = wall
        self._most = most
        self._journal = Journal(stored)
        self._courier = None if lines is None else Courier(lines, self._journal, wall)
        self._running: dict[str, _Running] = {}
        self._ending: dict[Push, Line] = {}
        self._changing = asyncio.Lock()
        self._commitments = Commitments()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Run what was running before the restart; after `Broker.start`."""
        if self.off is None:
            for webhook in await self._stored.enabled():
                self._launch(webhook)
            self._spawn(self._journal.run())

    async def close(self) -> None:
        """Break off what is under way, whose messages go back, and write the log; before the store closes."""
        self._closed = True
        async with self._changing:
            for webhook_id in list(self._running):
                self._retire(webhook_id)
        ending = dict(self._ending)
        await asyncio.gather(*(push.abort() for push in ending))
        await asyncio.gather(*(line.close() for line in ending.values()))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._commitments.close()
        await self._journal.write()

    # -- what is counted -----------------------------------------------------------------------------------------------

    def outcomes(self) -> dict[str, int]:
        """How many requests came to which outcome."""
        return dict.fromkeys(OUTCOMES, 0) if self._courier is None else self._courier.outcomes.copy()

    def under_way(self) -> int:
        """How many requests are under way."""
        return 0 if self._courier is None else self._courier.under_way

    # -- making and changing -------------------------------------------------------------------------------------------

    def available(self) -> None:
        """Return where webhooks are to be had; raises `Forbidden` with what to do otherwise."""
        if self.off is not None:
            raise Forbidden(self.off)

    async def add(self, webhook: Webhook) -> None:
        """Store a new webhook and run it. Raises `NotFound` where its queue is gone, `RateLimited`."""
        await self._commitments.keep(self._add(webhook))

    async def change(self, webhook_id: str, changed: Callable[[Webhook], Webhook]) -> Webhook:
        """Store what `changed` makes of a webhook, and run it so from now on; requests under way end as they began.

        `changed` is called on the store's thread. Raises `NotFound`, `RateLimited`.
        """
        return await self._commitments.keep(self._change(webhook_id, changed))

    async def remove(self, webhook_id: str) -> None:
        """Delete a webhook with its log; requests under way come to their end. Raises `NotFound`."""
        await self._commitments.keep(self._remove(webhook_id))

    async def _add(self, webhook: Webhook) -> None:
        async with self._changing:
            self._expect(await self._stored.add(webhook, self._most))
            self._launch(webhook)
        told = "webhook %s of %r pushes %s"
        log.info(told, webhook.id, webhook.username, webhook.queue, extra={"queue": webhook.queue})

    async def _change(self, webhook_id: str, changed: Callable[[Webhook], Webhook]) -> Webhook:
        async with self._changing:
            answer = await self._stored.change(webhook_id, changed, self._most)
            self._expect(answer)
            assert isinstance(answer, Webhook)
            self._retire(webhook_id)
            self._launch(answer)
        log.info("webhook %s was changed", webhook_id, extra={"queue": answer.queue})
        return answer

    async def _remove(self, webhook_id: str) -> None:
        async with self._changing:
            removed = await self._stored.remove(webhook_id)
            self._retire(webhook_id)
        if not removed:
            raise no_such_webhook()
        log.info("webhook %s was deleted", webhook_id)

    def _expect(self, answer: Webhook | Refused | None) -> None:
        match answer:
            case Refused.TOO_MANY:
                raise RateLimited(
                    f"you have {self._most} webhooks, the most that max_webhooks_per_user allows; delete some",
                    retry_after_ms=_RETRY_AFTER_MS,
                )
            case Refused.NO_QUEUE:
                raise NotFound("the queue was deleted")
            case Refused.NO_WEBHOOK:
                raise no_such_webhook()

    # -- looking -------------------------------------------------------------------------------------------------------

    async def page(self, queue: str, after: str, most: int) -> list[Webhook]:
        """Those of a queue in the order in which they were made, after the id `after`."""
        return await self._stored.page(queue, after, most)

    async def every(self, seen: Callable[[str], bool], after: str, most: int) -> list[tuple[Webhook, Recent]]:
        """Those of the queues that `seen` says, in the order in which they were made, after the id `after`."""
        found: list[Webhook] = []
        while len(found) < most and (step := await self._stored.every(after, _STEP)):
            found += [webhook for webhook in step if seen(webhook.queue)]
            after = step[-1].id
        found = found[:most]
        await self._journal.write()
        recent = await self._stored.recent([webhook.id for webhook in found])
        return [(webhook, recent[webhook.id]) for webhook in found]

    async def get(self, queue: str, webhook_id: str) -> Webhook:
        """A webhook of a queue. Raises `NotFound`."""
        webhook = await self._stored.get(webhook_id)
        if webhook is None or webhook.queue != queue:
            raise no_such_webhook()
        return webhook

    def health(self, webhook: Webhook) -> Health:
        """How it stands at the moment."""
        if webhook.disabled:
            return Health("disabled", webhook.reason)
        reason = self.off or self._rights.missing(webhook)
        running = self._running.get(webhook.id)
        if reason is not None or running is None:
            return Health("stopped", reason)
        push = running.push
        if push.circuit.open:
            return Health("slowed", push.last_failure, push.in_flight)
        return Health("active", None, push.in_flight)

    def missing(self, webhook: Webhook) -> str | None:
        """Why it may not have messages at the moment; None where it may."""
        return self._rights.missing(webhook)

    def failing_since(self, webhook: Webhook) -> int | None:
        """Since when every request failed, milliseconds since 1970."""
        running = self._running.get(webhook.id)
        return webhook.failing_since if running is None else running.push.circuit.failing_since

    async def deliveries(self, webhook_id: str, before: str | None, most: int) -> list[Delivery]:
        """The log, the newest first."""
        await self._journal.write()
        return await self._stored.deliveries(webhook_id, before, most)

    async def delivery(self, webhook_id: str, delivery_id: str) -> Delivery:
        """One entry of the log. Raises `NotFound`."""
        await self._journal.write()
        found = await self._stored.delivery(webhook_id, delivery_id)
        if found is None:
            raise NotFound("there is no such delivery; the newest 100 are remembered")
        return found

    async def send(
        self, webhook: Webhook, kind: Kind, name: str, body: bytes, message: tuple[int, int] | None = None
    ) -> Delivery:
        """Make one request outside of the queue: it settles nothing. One that succeeds ends a run of failures.

        `name` is its webhook-id, `message` a message's id and attempt. Raises `Forbidden` where webhooks are off.
        """
        self.available()
        assert self._courier is not None
        line = self._courier.line(webhook)
        try:
            sent = await self._courier.deliver(webhook, line, kind, name, body, message=message)
        finally:
            await line.close()
        assert sent is not None
        answer, delivery = sent
        if answer.outcome == "delivered" and (running := self._running.get(webhook.id)) is not None:
            running.push.took()
        return delivery

    # -- running -------------------------------------------------------------------------------------------------------

    def changed(self, username: str) -> None:
        """The user's rights or keys have changed: what lost its right ends now, what has it again goes on."""
        for webhook_id, running in list(self._running.items()):
            if running.push.holder == username and self._rights.missing(running.push.webhook) is not None:
                self._break_off(webhook_id)
        if self.off is None and not self._closed:
            self._spawn(self._resume(username))

    async def _resume(self, username: str) -> None:
        async with self._changing:
            for webhook in await self._stored.enabled(username):
                if webhook.id not in self._running:
                    self._launch(webhook)

    def _launch(self, webhook: Webhook) -> None:
        if webhook.disabled or self._courier is None or self._closed or not self._broker.knows(webhook.queue):
            return
        if (reason := self._rights.missing(webhook)) is not None:
            log.info("webhook %s does not run: %s", webhook.id, reason, extra={"queue": webhook.queue})
            return
        line = self._courier.line(webhook)
        push = Push(
            webhook,
            self._broker,
            Posting(self._courier, webhook, line),
            may=lambda: self._may(webhook),
            given_up=lambda reason: self._disable(webhook, reason),
            turned=lambda: self._turned(webhook),
            ended=lambda: self._gone(webhook.id),
        )
        seat = push.seat = self._seat(push)
        self._running[webhook.id] = _Running(push, line, seat)
        self._roster.enter(seat)
        push.start()

    def _seat(self, push: Push) -> Seat:
        webhook = push.webhook
        return Seat(
            "webhook",
            webhook.username,
            webhook.queue,
            webhook.id,
            target(webhook.url).authority,
            self._broker.clock(),
            "session",
            lambda: Standing(webhook.concurrency, push.in_flight, push.circuit.open),
            lambda: self._disable(webhook, "disconnected by an administrator"),
        )

    def _retire(self, webhook_id: str) -> Push | None:
        """It takes no more messages; its requests under way come to their end."""
        running = self._running.pop(webhook_id, None)
        if running is None:
            return None
        self._roster.leave(running.seat)
        self._ending[running.push] = running.line
        running.push.finish()
        self._spawn(self._see_off(running.push))
        return running.push

    async def _see_off(self, push: Push) -> None:
        await push.drained()
        if (line := self._ending.pop(push, None)) is not None:
            await line.close()

    def _gone(self, webhook_id: str) -> None:
        log.info("webhook %s went with its queue", webhook_id)
        self._retire(webhook_id)

    def _break_off(self, webhook_id: str) -> None:
        """It ends at once, with its requests under way."""
        if (push := self._retire(webhook_id)) is not None:
            self._spawn(push.abort())

    def _may(self, webhook: Webhook) -> bool:
        reason = self._rights.missing(webhook)
        if reason is not None:
            log.info("webhook %s stops: %s", webhook.id, reason, extra={"queue": webhook.queue})
            # Not from inside of one of its own requests.
            asyncio.get_running_loop().call_soon(self._break_off, webhook.id)
        return reason is None

    def _disable(self, webhook: Webhook, reason: str) -> None:
        """Disable a webhook by itself, unless it has been changed since."""
        running = self._running.get(webhook.id)
        if running is None or running.push.webhook is not webhook:
            return
        log.warning("webhook %s is disabled: %s", webhook.id, reason, extra={"queue": webhook.queue})
        self._retire(webhook.id)

        def disabled(found: Webhook) -> Webhook:
            if found.updated_at != webhook.updated_at or found.disabled:
                return found
            return replace(found, disabled=True, reason=reason, failing_since=None)

        self._spawn(self._note(webhook.id, disabled))

    def _turned(self, webhook: Webhook) -> None:
        """Its circuit has opened or closed: remember since when it fails, also beyond a restart."""
        running = self._running.get(webhook.id)
        if running is None or running.push.webhook is not webhook:
            return
        push = running.push
        told = "is slowed down" if push.circuit.open else "runs as it should again"
        log.info("webhook %s %s", webhook.id, told, extra={"queue": webhook.queue})
        since = push.circuit.failing_since if push.circuit.open else None

        def failing(found: Webhook) -> Webhook:
            return replace(found, failing_since=since) if found.updated_at == webhook.updated_at else found

        self._spawn(self._note(webhook.id, failing))

    async def _note(self, webhook_id: str, changed: Callable[[Webhook], Webhook]) -> None:
        try:
            await self._commitments.keep(self._stored_change(webhook_id, changed))
        except BrokerError as error:
            log.warning("what became of webhook %s could not be stored: %s", webhook_id, error.detail)

    async def _stored_change(self, webhook_id: str, changed: Callable[[Webhook], Webhook]) -> None:
        async with self._changing:
            await self._stored.change(webhook_id, changed)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work on webhooks failed", exc_info=error)


def no_such_webhook() -> NotFound:
    """There is none, or one of another queue."""
    return NotFound("there is no such webhook; GET /queues/{queue}/webhooks lists those that there are")
