"""Looking names up without holding up anybody: in threads of its own, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

MAX_LOOKUPS = 16
"""At a time. A name server that hangs keeps a thread for as long as the system's resolver waits for it."""


class Resolver:
    """Looks names up with the system's resolver.

    Not in the loop's own threads: the broker needs those, and a hostile name server could keep them all. Not in a pool
    either, whose threads the interpreter waits for when it ends.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name. Raises `OSError`. A lookup that nobody waits for any more comes to its end."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Sequence[str]] = loop.create_future()

        def told(answer: Sequence[str] | Exception) -> None:
            self._free.release()
            if found.done():
                return
            if isinstance(answer, Exception):
                found.set_exception(answer)
            else:
                found.set_result(answer)

        def look() -> None:
            answer: Sequence[str] | Exception
            try:
                answer = _look_up(host, port)
            except Exception as error:
                answer = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(told, answer)

        threading.Thread(target=look, name=f"lookup of {host}", daemon=True).start()
        return await found


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
