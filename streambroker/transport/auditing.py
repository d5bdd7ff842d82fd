"""What somebody has changed is told in the log with who did it and in which request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import TypeVar

from starlette.types import Scope
from structlog.contextvars import bind_contextvars, bound_contextvars

from streambroker.broker.broker import Broker
from streambroker.core.access import Principal, accountable
from streambroker.store.contract import Queue
from streambroker.transport.http import Call, Reply

Door = TypeVar("Door")


def audited(handler: Callable[[Door, Call], Awaitable[Reply]]) -> Callable[[Door, Call], Awaitable[Reply]]:
    """The handler, with `request_id` and, where somebody is known, `user` in each line logged while it runs."""

    @wraps(handler)
    async def serve(door: Door, call: Call) -> Reply:
        with _told_of(call):
            return await handler(door, call)

    return serve


async def ensured(broker: Broker, call: Call, name: str) -> Queue:
    """The queue of that name, created where that is allowed. Raises as `Broker.ensure_queue`."""
    if broker.knows(name):
        return broker.queue(name)
    with _told_of(call):
        return await broker.ensure_queue(name, accountable(call.user))


def audited_from_now_on(scope: Scope, principal: Principal) -> None:
    """For a connection that somebody has opened: the same for all that is logged in its task from now on."""
    bind_contextvars(request_id=scope["streambroker.request_id"].decode("latin-1"), user=principal.username)


def _told_of(call: Call) -> AbstractContextManager[None]:
    who = {} if call.principal is None else {"user": call.principal.username}
    return bound_contextvars(request_id=call.request_id.decode("latin-1"), **who)
