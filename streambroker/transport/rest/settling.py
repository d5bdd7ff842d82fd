"""Settle over REST: ack, nack, extend, one message or many."""

from __future__ import annotations

import msgspec

from streambroker.broker.broker import Broker
from streambroker.core.access import Action, Role
from streambroker.core.errors import AlreadySettled, BrokerError, LeaseLost, NotFound, NotProcessing
from streambroker.core.lifecycle import Event, Settlement
from streambroker.core.message import STATUS_OF, State
from streambroker.core.names import format_id, parse_id
from streambroker.protocol.json import JsonDecoder
from streambroker.protocol.times import rfc3339
from streambroker.store.contract import Settled
from streambroker.transport import schemas
from streambroker.transport.http import Call, Endpoint, Reply, reply
from streambroker.transport.limiting import Kind
from streambroker.transport.rest.looking import require_message

_REFUSALS: dict[str, tuple[type[BrokerError], str]] = {
    "not_found": (NotFound, "there is no such message"),
    "not_processing": (NotProcessing, "nobody is processing the message; give the lease you were delivered it with"),
    "lease_lost": (LeaseLost, "the lease is not the message's newest one, or is another user's"),
    "already_settled": (AlreadySettled, "the lease was used already, for another verdict"),
}


_ack = JsonDecoder[schemas.AckIn](schemas.AckIn)
_nack = JsonDecoder[schemas.NackIn](schemas.NackIn)
_extend = JsonDecoder[schemas.ExtendIn](schemas.ExtendIn)
_acks = JsonDecoder[schemas.AcksIn](schemas.AcksIn)
_nacks = JsonDecoder[schemas.NacksIn](schemas.NacksIn)
_extends = JsonDecoder[schemas.ExtendsIn](schemas.ExtendsIn)
_KIND = Kind.MESSAGES


class SettleDoor:
    """Handlers over one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def ack(self, call: Call) -> Reply:
        """Acknowledge: the message is done."""
        number = await self._mine(call)
        given = await call.optional_json(_ack, schemas.AckIn())
        return await self._settle(call, _acked(number, given, call))

    async def nack(self, call: Call) -> Reply:
        """Refuse: the message fails, or is tried again."""
        number = await self._mine(call)
        asked = call.options(schemas.NackQuery)
        given = await call.optional_json(_nack, schemas.NackIn())
        if asked.requeue:
            given = msgspec.structs.replace(given, requeue=True)
        return await self._settle(call, self._nacked(number, given, call))

    async def extend(self, call: Call) -> Reply:
        """Extend the lease, counted from now."""
        number = await self._mine(call)
        return await self._settle(call, self._extended(number, await call.json(_extend), call))

    async def ack_many(self, call: Call) -> Reply:
        """Acknowledge many; each is judged on its own."""
        items = (await call.json(_acks)).items
        return await self._settle_many(
            call, [(i.message_id, _acked(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def nack_many(self, call: Call) -> Reply:
        """Refuse many; each is judged on its own."""
        items = (await call.json(_nacks)).items
        return await self._settle_many(
            call, [(i.message_id, self._nacked(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def extend_many(self, call: Call) -> Reply:
        """Extend many leases; each is judged on its own."""
        items = (await call.json(_extends)).items
        return await self._settle_many(
            call, [(i.message_id, self._extended(parse_id(i.message_id) or 0, i, call)) for i in items]
        )

    async def _mine(self, call: Call) -> int:
        """The message that the path names, where one may consume its queue. Raises `NotFound` or `Forbidden`."""
        number = call.message_id()
        await self._may_settle(call, number)
        return number

    async def _may_settle(self, call: Call, number: int) -> None:
        if call.user.role is not Role.ADMIN:  # who may do everything need not be looked up
            require_message(call, Action.CONSUME, await self._broker.get(number))

    def _nacked(self, number: int, given: schemas.NackIn, call: Call) -> Settlement:
        return Settlement(
            number,
            Event.REQUEUE if given.requeue else Event.REJECT,
            given.lease,
            call.user.username,
            given.delay_ms,
            given.reason,
            chance=self._broker.chance(),
        )

    def _extended(self, number: int, given: schemas.ExtendIn, call: Call) -> Settlement:
        until = self._broker.clock() + given.lease_ms
        return Settlement(number, Event.EXTEND, given.lease, call.user.username, until=until)

    async def _settle(self, call: Call, item: Settlement) -> Reply:
        (settled,) = await self._broker.settle([item])
        if settled.refusal is not None:
            kind, detail = _REFUSALS[settled.refusal]
            raise kind(detail)
        return reply(_settled(settled, item.event))

    async def _settle_many(self, call: Call, asked: list[tuple[str, Settlement]]) -> Reply:
        results = [schemas.Result(text, False, "not_found") for text, _ in asked]
        todo: list[int] = []
        for index, (_, item) in enumerate(asked):
            try:
                if item.id:
                    await self._may_settle(call, item.id)
                    todo.append(index)
            except BrokerError as error:
                results[index].code = error.code
        settled = await self._broker.settle([asked[index][1] for index in todo]) if todo else []
        for index, one in zip(todo, settled, strict=True):
            results[index] = schemas.Result(asked[index][0], one.refusal is None, one.refusal)
        return reply(schemas.Results(results))

    def endpoints(self) -> list[Endpoint]:
        """What this door serves."""
        item, one, query = "/messages/{message_id}", {200: schemas.Settled}, schemas.NackQuery
        codes = ("not_found", "not_processing", "lease_lost", "already_settled")
        many = {200: schemas.Results}
        return [
            Endpoint(
                "POST", f"{item}/ack", self.ack, "Acknowledge a message", schemas.AckIn, one, codes=codes, limit=_KIND
            ),
            Endpoint(
                "POST",
                f"{item}/nack",
                self.nack,
                "Refuse a message",
                schemas.NackIn,
                one,
                query,
                codes=codes,
                limit=_KIND,
            ),
            Endpoint(
                "POST", f"{item}/extend", self.extend, "Extend a lease", schemas.ExtendIn, one, codes=codes, limit=_KIND
            ),
            Endpoint("POST", "/messages/ack", self.ack_many, "Acknowledge messages", schemas.AcksIn, many, limit=_KIND),
            Endpoint("POST", "/messages/nack", self.nack_many, "Refuse messages", schemas.NacksIn, many, limit=_KIND),
            Endpoint(
                "POST", "/messages/extend", self.extend_many, "Extend leases", schemas.ExtendsIn, many, limit=_KIND
            ),
        ]


def _acked(number: int, given: schemas.AckIn, call: Call) -> Settlement:
    return Settlement(number, Event.ACK, given.lease, call.user.username)


def _settled(settled: Settled, event: Event) -> schemas.Settled:
    out = schemas.Settled(format_id(settled.id), STATUS_OF[settled.state].value, settled.now_in, settled.attempt)
    if settled.already:
        if event is Event.ACK:
            out.already_acked = True
        else:
            out.already_nacked = True
    if event is Event.EXTEND:
        out.lease_expires_at = None if settled.due_at is None else rfc3339(settled.due_at)
    elif settled.state is State.DELAYED:
        out.available_at = rfc3339(settled.available_at)
    return out
