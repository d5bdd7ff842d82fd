"""One rate, and what each client has of it in hand.

A client takes from its counter in shares, a hundredth of the limit at a time, and spends a share from a plain integer.
"""

from __future__ import annotations

import asyncio
import enum
from typing import NamedTuple

from limits import RateLimitItem

from streambroker.core.errors import RateLimited
from streambroker.transport.limiting.windows import Windows

MOST_STRANGERS = 32_768
"""Addresses that one window of a rate tells apart: about 17 MiB with their counts in this window and the last one."""
_BUCKETS = 1_024
"""What further addresses share."""
_SHARES_IN_LIMIT = 100
_LARGEST_SHARE = 1_000


class Kind(enum.IntEnum):
    """What is counted. An integer, because its hash is then not a call of Python code."""

    DEFAULT = 0
    LOGIN = 1
    MESSAGES = 2


_COUNTED = {Kind.DEFAULT: "requests", Kind.LOGIN: "logins", Kind.MESSAGES: "publishes, consumes and settles"}


class Policy(NamedTuple):
    """A limit as clients are told of it."""

    name: str
    limit: int
    window_s: int
    header: tuple[bytes, bytes]
    field: bytes
    lines: bytes

    @classmethod
    def of(cls, name: str, item: RateLimitItem) -> Policy:
        """Its texts are made once."""
        limit, window_s = item.amount, item.get_expiry()
        header = (b"ratelimit-policy", f'"{name}";q={limit};w={window_s}'.encode())
        field = f'"{name}";r=%d;t=%d'.encode()
        return cls(name, limit, window_s, header, field, b"%b: %b\r\nratelimit: %b\r\n" % (*header, field))


class Standing(NamedTuple):
    """How somebody stands with a limit (draft-ietf-httpapi-ratelimit-headers-10).

    `remaining` is what can still be taken in this window, and `reset_s` the seconds until that is more again.
    """

    policy: Policy
    remaining: int
    reset_s: int

    def headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """The fields `RateLimit-Policy` and `RateLimit`."""
        policy, remaining, reset_s = self
        return policy.header, (b"ratelimit", policy.field % (remaining, reset_s))

    def lines(self) -> bytes:
        """The same as lines of a head."""
        return self.policy.lines % (self.remaining, self.reset_s)


class Share:
    """What a client has taken and not spent. Times in milliseconds."""

    __slots__ = ("barred_cost", "barred_until", "free", "left", "until")

    def __init__(self) -> None:
        self.left = 0
        self.until = 0
        """When the window ends from which it was taken, and what is left with it."""
        self.free = 0
        """What the counter had beyond this share."""
        self.barred_until = 0
        """Until then the counter need not be asked for `barred_cost` or more."""
        self.barred_cost = 0


class Rate:
    """One limit, and the shares of all clients. Owned by the event loop."""

    def __init__(self, kind: Kind, item: RateLimitItem) -> None:
        self.kind = kind
        self.item = item
        self.shares: dict[str, Share] = {}
        self.drawing: dict[str, asyncio.Task[None]] = {}
        """Clients for whom a share is on its way."""
        self._name = kind.name.lower()
        self._share = max(1, min(_LARGEST_SHARE, item.amount // _SHARES_IN_LIMIT))
        self._policy = Policy.of(self._name, item)
        self._window_ms = item.get_expiry() * 1_000
        self._window = -1
        self._strangers = 0

    def key(self, who: str, now: int) -> str:
        """The name under which `who` counts: addresses beyond those that are told apart share a bucket."""
        if now // self._window_ms != self._window:
            # Nothing taken earlier is good any more, so forgetting it all is right, and bounds the memory.
            self._window = now // self._window_ms
            self.shares.clear()
            self._strangers = 0
        if who in self.shares or not who.startswith("a:"):
            return who
        if self._strangers < MOST_STRANGERS:
            self._strangers += 1
            return who
        return f"a:~{hash(who) % _BUCKETS}"

    def spend(self, key: str, cost: int, now: int) -> bool:
        """Take `cost` from the share in hand. Raises `RateLimited` where the counter need not be asked for more."""
        if cost > self.item.amount:
            raise self._never(cost)
        share = self.shares.get(key)
        if share is None:
            return False
        if share.until > now and share.left >= cost:
            share.left -= cost
            return True
        if share.barred_until > now and cost >= share.barred_cost:
            raise self._refusal(share.barred_until - now)
        return False

    async def draw(self, windows: Windows, key: str, cost: int, now: int) -> None:
        """Take a share that `cost` can be spent from, or note when that can be. Raises what `windows` does."""
        window = await windows.look(self.item, self._name, key)
        short = max(1, cost - self._left(key, now))
        free = window.free(self.item)
        granted = await self._granted(windows, key, short, free) if free >= short else 0
        left = self._left(key, now)  # looked up anew: it may have been spent while we waited, the window may be over
        share = self.shares.setdefault(key, Share())
        share.left = left + granted
        share.free = free - granted
        share.until = min(now + window.ends_in_ms(self.item), (now // self._window_ms + 1) * self._window_ms)
        if not granted:
            share.barred_cost = cost
            share.barred_until = now + window.retry_ms(self.item, short)

    def _left(self, key: str, now: int) -> int:
        share = self.shares.get(key)
        return share.left if share is not None and share.until > now else 0

    async def _granted(self, windows: Windows, key: str, short: int, free: int) -> int:
        """What the counter gives: a share, else, when another broker was faster, just what is due."""
        wanted = max(short, min(free, self._share))
        if await windows.hit(self.item, self._name, key, cost=wanted):
            return wanted
        if wanted > short and await windows.hit(self.item, self._name, key, cost=short):
            return short
        return 0

    def standing(self, who: str, now: int) -> Standing | None:
        """How `who` stands, None where nothing was taken in this window."""
        share = self.shares.get(who)
        if share is None and who.startswith("a:"):
            share = self.shares.get(f"a:~{hash(who) % _BUCKETS}")
        if share is None or share.until <= now:
            return None
        until = share.barred_until if share.barred_until > now else share.until
        return Standing(self._policy, share.left + share.free, (until - now + 999) // 1_000)

    def _refusal(self, wait_ms: int) -> RateLimited:
        return RateLimited(f"the limit of {self._allowed()} is used up", retry_after_ms=wait_ms)

    def _never(self, cost: int) -> RateLimited:
        error = RateLimited(f"{cost} at once is more than {self._allowed()}, and those are all; send fewer at a time")
        error.retryable = False
        return error

    def _allowed(self) -> str:
        return f"{self._policy.limit} {_COUNTED[self.kind]} in {self._policy.window_s} s"
