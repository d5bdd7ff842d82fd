"""One WebSocket to the broker, from its welcome to its end. It never comes back; `connection.py` opens another one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from streambroker.client import frames
from streambroker.client.errors import ConnectionLost, ProtocolError, StreambrokerError, from_problem

Answer = frames.Ok | StreambrokerError
Told = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended: the close code of the broker, 1006 where there was none."""

    code: int
    reason: str


class Party(Protocol):
    """What uses a link: it is asked for its frames when there is room to send, and told what comes in."""

    def outgoing(self, link: Link) -> Iterable[bytes]:
        """The frames to send now."""
        ...

    def incoming(self, link: Link, frame: frames.ServerFrame) -> None:
        """A frame that answers no request."""
        ...


class Link:
    """One open WebSocket. Owns its reader, its writer and the requests that wait for an answer.

    Nothing is queued here: the writer asks its `party` for frames when it is woken and the last ones have been taken,
    so all that gathers meanwhile goes out together, and a broker that reads slowly holds up whoever wants to send.
    """

    def __init__(
        self,
        socket: ClientConnection,
        welcome: frames.Welcome,
        early: Sequence[frames.ServerFrame],
        party: Party,
    ) -> None:
        self._socket = socket
        self._early = early
        self._party = party
        self._said: list[bytes] = []
        self._woken = asyncio.Event()
        self._waiting: dict[int, Told] = {}
        self._last_id = 0
        self.max_frame = welcome.max_frame
        self.alive = True
        self.draining = False
        self.proven = False
        """Whether the broker has granted something on it: only then is the way there known to be good."""

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    def say(self, frame: bytes) -> None:
        """Send a frame, after what the party has to send before it."""
        self._said.append(frame)
        self._woken.set()

    def expect(self, told: Told) -> int:
        """An id for a request; `told` is called once, with its answer or with `ConnectionLost`."""
        self._last_id += 1
        self._waiting[self._last_id] = told
        return self._last_id

    async def run(self) -> End:
        """Read and write until it ends, whoever ends it; then all requests are told. Cancelled, it closes cleanly."""
        writer = asyncio.create_task(self._write())
        try:
            return await self._read()
        finally:
            self.alive = False
            writer.cancel()
            self._tell_all(ConnectionLost())  # before anything is awaited, where this task may be cancelled
            await asyncio.wait([writer])

    async def close(self) -> None:
        """Close it cleanly: what is still held is given back and counts no failure."""
        self.alive = False
        await self._socket.close()

    # -- in ------------------------------------------------------------------------------------------------------------

    async def _read(self) -> End:
        recv = self._socket.recv
        try:
            for frame in self._early:
                self._take(frame)
            while True:
                for frame in frames.decoded(await recv(decode=False)):
                    self._take(frame)
        except ConnectionClosed as closed:
            return _end_of(closed)
        except ProtocolError as error:
            await self._socket.close(1002)
            return End(4400, error.detail)

    def _take(self, frame: frames.ServerFrame) -> None:
        match frame:
            case frames.Ok(id=int(number)):
                self.proven = True
                self._tell(number, frame)
            case frames.Refused(id=int(number)):
                self._tell(number, from_problem(frame.problem))
            case frames.Draining():
                self.draining = True
                self._party.incoming(self, frame)
            case _:
                self._party.incoming(self, frame)

    def _tell(self, number: int, answer: Answer) -> None:
        told = self._waiting.pop(number, None)
        if told is not None:
            told(answer)

    def _tell_all(self, answer: Answer) -> None:
        # The last first: each puts its work back in front of what waits, and so the old order is kept.
        while self._waiting:
            _, told = self._waiting.popitem()
            told(answer)

    # -- out -----------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Send what there is, all of one turn of the loop together; the reader hears when the connection ends."""
        send = self._socket.send
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                outgoing = list(self._party.outgoing(self))
                said, self._said = self._said, []
                for text in frames.arrays(outgoing + said, self.max_frame):
                    await send(text, text=True)
        except ConnectionClosed:
            pass


def _end_of(closed: ConnectionClosed) -> End:
    if closed.rcvd is None:
        return End(1006, str(closed.__cause__ or closed))
    return End(closed.rcvd.code, closed.rcvd.reason)
