"""How messages that are ready are shared among the consumers that ask at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streambroker.store.contract import Claim


class Shares:
    """Deals messages to claims in turn, one each, until nobody has room: with few messages everyone gets as many."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        self._room = [claim.limit for claim in claims]
        self._bytes = [claim.max_bytes for claim in claims]
        self._next = 0

    def deal(self, size: int) -> int | None:
        """The index of the claim that gets a message of `size` bytes, or None when nobody has room."""
        count = len(self._room)
        for step in range(count):
            index = (self._next + step) % count
            if self._room[index] > 0 and self._bytes[index] > 0:
                self._room[index] -= 1
                self._bytes[index] -= size
                self._next = index + 1
                return index
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
