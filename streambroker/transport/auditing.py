"""What the log tells of users and keys, it tells with who did it and in which request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TypeVar

from structlog.contextvars import bound_contextvars

from streambroker.transport.http import Call, Reply

Door = TypeVar("Door")


def audited(handler: Callable[[Door, Call], Awaitable[Reply]]) -> Callable[[Door, Call], Awaitable[Reply]]:
    """The handler, with `request_id` and, where somebody is known, `user` in each line logged while it runs."""

    @wraps(handler)
    async def serve(door: Door, call: Call) -> Reply:
        who = {} if call.principal is None else {"user": call.principal.username}
        with bound_contextvars(request_id=call.request_id.decode("latin-1"), **who):
            return await handler(door, call)

    return serve
