"""One scripted client that does a little of everything, in one order, until the broker dies under it or the end comes.

It writes the same history as the clients of the crash tests, for the same checker.
"""

from __future__ import annotations

from tests.system.history import Delivery, History, Item, Outcome, Publish, Resting, Settle, Verdict, now
from tests.system.stage import delivery_of, draft_of, value_of
from tests.system.wire import Cut, Json, Refused, Rest, unknown_or

QUEUE = "work"
LEASE_MS = 600_000


class Script:
    """Owns its history; one call at a time, so that each outcome is certain but the last."""

    def __init__(self) -> None:
        self.history = History()
        self._round = 0
        self._life = 0

    async def run(self, rest: Rest, rounds: int) -> bool:
        """Publish, consume and settle; False when the broker did not answer any more."""
        self._life += 1
        try:
            for _ in range(rounds):
                await self._play(rest)
        except Cut:
            return False
        return True

    async def drain(self, rest: Rest) -> None:
        """Take and ack everything that is ready, then note what rests where."""
        while deliveries := await self._consume(rest, 100, wait_ms=0):
            for delivery in deliveries:
                await self._settle(rest, delivery, Verdict.ACK)
        for message in await rest.browse(QUEUE):
            self.history.resting.append(
                Resting(message["message_id"], value_of(message["content"]), QUEUE, message["status"])
            )

    async def _play(self, rest: Rest) -> None:
        self._round += 1
        await self._publish(rest, 1)
        await self._publish(rest, 4)
        deliveries = await self._consume(rest, 5)
        for delivery, verdict in zip(deliveries, (Verdict.ACK, Verdict.REQUEUE, Verdict.REJECT), strict=False):
            await self._settle(rest, delivery, verdict)
        await self._ack_all(rest, deliveries[3:])

    async def _publish(self, rest: Rest, count: int) -> None:
        items = tuple(Item(f"{self._round}-{count}-{n}", QUEUE, n % 3) for n in range(count))
        invoked, outcome, ids = now(), Outcome.INFO, ()
        try:
            reply = await rest.post(f"/queues/{QUEUE}/messages/batch", {"messages": [draft_of(i) for i in items]})
            outcome, ids = Outcome.OK, tuple(reply["message_ids"])
        except Refused as refusal:
            raise unknown_or(refusal) from refusal
        finally:
            self.history.publishes.append(Publish("script", items, invoked, now(), outcome, ids))

    async def _consume(self, rest: Rest, most: int, wait_ms: int = 2000) -> list[Delivery]:
        not_before = now()
        try:
            messages = await rest.consume(QUEUE, most, wait_ms, lease_ms=LEASE_MS)
        except Refused as refusal:
            raise unknown_or(refusal) from refusal
        connection = f"script-{self._life}"
        deliveries = [delivery_of(message, "script", connection, not_before) for message in messages]
        self.history.deliveries += deliveries
        return deliveries

    async def _settle(self, rest: Rest, delivery: Delivery, verdict: Verdict) -> None:
        door = "ack" if verdict is Verdict.ACK else "nack"
        body: Json = {"lease": delivery.lease}
        if verdict is Verdict.REQUEUE:
            body |= {"requeue": True, "delay_ms": 0}
        invoked, outcome = now(), Outcome.INFO
        try:
            await rest.post(f"/messages/{delivery.message_id}/{door}", body)
            outcome = Outcome.OK
        except Refused as refusal:
            raise unknown_or(refusal) from refusal
        finally:
            self._note(delivery, verdict, invoked, outcome)

    async def _ack_all(self, rest: Rest, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        items = [{"message_id": delivery.message_id, "lease": delivery.lease} for delivery in deliveries]
        invoked, outcome = now(), Outcome.INFO
        try:
            reply = await rest.post("/messages/ack", {"items": items})
            if all(result["ok"] for result in reply["results"]):
                outcome = Outcome.OK
        except Refused as refusal:
            raise unknown_or(refusal) from refusal
        finally:
            for delivery in deliveries:
                self._note(delivery, Verdict.ACK, invoked, outcome)

    def _note(self, delivery: Delivery, verdict: Verdict, invoked: float, outcome: Outcome) -> None:
        self.history.settles.append(
            Settle("script", verdict, delivery.message_id, delivery.lease, invoked, now(), outcome)
        )
