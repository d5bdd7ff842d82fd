"""What was written to clients that did not read it: how much there is, of all connections, and for how long.

Every door of the server writes to the same transports, so there is one account of them and one rule.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from typing import Literal, get_args

from streambroker.transport.server.bounds import NEVER, Deadlines
from streambroker.transport.server.portions import PORTION, Portions

log = logging.getLogger(__name__)


Fault = Literal["stalled", "slow", "memory"]
"""Why a client is cut off: it takes nothing, it takes too little, or it has most of what is too much for all."""


class Backlog:
    """What waits in memory for all clients: at most `most` bytes, unless a single client alone has more.

    Beyond it, whoever has most waiting is cut off, until it is not too much any more: small answers are not lost to
    those who let large ones wait. `cut_off` counts who was, since the start.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.cut_off: dict[str, int] = dict.fromkeys(get_args(Fault), 0)
        self._behind: set[Reading] = set()
        self._sum = 0  # of what each had when it was counted; they have less by now, for they are not given more

    def __len__(self) -> int:
        return len(self._behind)

    def count(self) -> int:
        """Count again; how many bytes wait."""
        self._sum = sum([reading.count() for reading in self._behind])
        return self._sum

    def add(self, reading: Reading) -> None:
        """One client more is behind."""
        self._behind.add(reading)
        self._sum += reading.count()
        if self._sum > self.most:
            self.bound()

    def discard(self, reading: Reading) -> None:
        """It is not behind any more."""
        if reading in self._behind:
            self._behind.discard(reading)
            self._sum -= reading.counted

    def bound(self) -> None:
        """Count again, and cut off whoever has most, as long as there is too much."""
        self.count()
        while self._sum > self.most and len(self._behind) > 1:
            most = max(self._behind, key=lambda reading: reading.counted)
            most.cut("memory", f"it has most of the {self._sum:,} bytes that wait to be read, {most.counted:,}")


class Reading:
    """How far one client is behind with reading.

    It has to take something every `unread` seconds, and all that waits within `unread` seconds and what that takes at
    `least` bytes a second. Whoever takes a byte now and then holds nothing for ever.
    """

    __slots__ = ("_all_by", "_backlog", "_deadlines", "_left", "_since", "_socket", "_transport", "counted")

    def __init__(self, transport: asyncio.Transport | Portions, backlog: Backlog, deadlines: Deadlines) -> None:
        """The protocol is told by `pause_writing` as soon as anything waits, and by `resume_writing` once all went."""
        self._transport = transport
        self._backlog = backlog
        self._deadlines = deadlines
        self._since = 0.0  # when it last took something; 0: it is not behind
        self._left = 0
        self._all_by = 0.0
        self._socket = -1
        self.counted = 0
        if not isinstance(transport, Portions):
            transport.set_write_buffer_limits(0)

    def fall_behind(self, now: float) -> None:
        """The system did not take all that was written."""
        if self._since:
            return
        sock = self._transport.get_extra_info("socket")
        self._socket = -1 if sock is None else sock.fileno()
        self._since, self._left = now, self._not_taken()
        self._all_by = now + self._deadlines.unread + self._left / self._deadlines.least
        self._backlog.add(self)

    def goes_on(self) -> bool:
        """The system takes more; whether nothing waits any more."""
        if isinstance(self._transport, Portions):
            self._transport.go_on()
            if self._transport.get_write_buffer_size() >= PORTION:
                return False  # it has asked for a pause again
        self.end()
        return True

    def end(self) -> None:
        """Nothing waits any more."""
        self._since = 0.0
        self._backlog.discard(self)

    def count(self) -> int:
        """Bytes that wait in memory."""
        self.counted = self._transport.get_write_buffer_size()
        return self.counted

    def cut(self, fault: Fault, why: str) -> None:
        """End the connection, and what waits with it."""
        host, port, *_ = self._transport.get_extra_info("peername") or ("?", 0)
        log.warning("a client that is slow to read is cut off, %s port %s: %s", host, port, why)
        self._backlog.cut_off[fault] += 1
        self.end()
        self._transport.abort()

    def look(self, now: float) -> float:
        """Cut it off if it is too late at `now`; when it will be, `NEVER` for a client that is not behind."""
        if not self._since:
            return NEVER
        left = self._not_taken()
        if left < self._left:
            self._left, self._since = left, now
        stalled = self._since + self._deadlines.unread
        if now < min(stalled, self._all_by):
            return min(stalled, self._all_by)
        if now >= stalled:
            self.cut("stalled", f"it read nothing for {self._deadlines.unread} s")
        else:
            self.cut("slow", f"it reads fewer than {self._deadlines.least:,.0f} bytes a second")
        return NEVER

    def _not_taken(self) -> int:
        """Bytes that it has not acknowledged: also what the system keeps for it, which is much for one on a fast link.

        The system asks for more only when a third of that is gone; of a slow reader nothing would be seen until then.
        """
        try:
            (kept,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))
        except (OSError, ValueError):  # the connection is at its end
            kept = 0
        return self._transport.get_write_buffer_size() + int(kept)
