"""How messages that are ready are shared among the consumers that ask at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from streambroker.store.contract import Claim


class Shares:
    """Deals messages to consumers in turn, one each, until nobody has room: with few messages everyone gets as many.

    The claims of one consumer are filled one after the other, so that what they bring together stays in the order of
    delivery.
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._room = [claim.limit for claim in claims]
        self._bytes = [claim.max_bytes for claim in claims]
        consumers: dict[int | str, list[int]] = {}
        for index, claim in enumerate(claims):
            consumers.setdefault(claim.consumer or claim.terms.token, []).append(index)
        self._line = deque(consumers.values())

    def deal(self, size: int) -> int | None:
        """The index of the claim that gets a message of `size` bytes, or None when nobody has room."""
        line = self._line
        while line:
            claims = line[0]
            index = claims[0]
            if self._room[index] > 0 and self._bytes[index] > 0:
                self._room[index] -= 1
                self._bytes[index] -= size
                line.rotate(-1)
                return index
            if len(claims) > 1:
                del claims[0]
            else:
                line.popleft()
        return None

    def total(self) -> int:
        """How many messages all claims together still have room for."""
        return sum(room for room, left in zip(self._room, self._bytes, strict=True) if left > 0)


def by_queue(claims: Sequence[Claim]) -> Iterator[tuple[str, list[int]]]:
    """The indexes of the claims, queue by queue."""
    grouped: dict[str, list[int]] = {}
    for index, claim in enumerate(claims):
        grouped.setdefault(claim.queue, []).append(index)
    yield from grouped.items()
