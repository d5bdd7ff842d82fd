"""The program's own consumers among all others: on `consumers`, the dashboard, `streambroker top`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from streambroker.node import Node
from streambroker.transport.roster import LeaseMode, Seat, Standing


def seat(
    node: Node,
    user: str,
    queue: str,
    sub: str | None,
    lease_mode: LeaseMode,
    standing: Callable[[], Standing],
    dismiss: Callable[[], None],
) -> Seat:
    """A seat that is taken from now on; whoever takes it leaves it. It has no address."""
    taken = Seat("embedded", user, queue, sub, "", node.broker.clock(), lease_mode, standing, dismiss)
    node.consumers.enter(taken)
    return taken


@contextmanager
def waiting(node: Node, user: str, queues: Sequence[str], most: int, dismiss: Callable[[], None]) -> Iterator[None]:
    """A receive waits on each of these queues meanwhile, for `most` messages."""
    taken = [seat(node, user, queue, None, "fixed", lambda: Standing(most, 0, False), dismiss) for queue in queues]
    try:
        yield
    finally:
        for one in taken:
            node.consumers.leave(one)
