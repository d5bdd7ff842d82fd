"""Looking names up without holding up anybody: in threads of its own, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence

MAX_LOOKUPS = 32
"""At a time, of names that answered promptly the last time, and as many of all others. A name server that hangs keeps
a thread for as long as the system's resolver waits for it."""
PROMPT_S = 1.0
MAX_KNOWN = 4_096
"""Names remembered as prompt; the one that answered first is forgotten first."""


class Resolver:
    """Looks names up with the system's resolver.

    Whoever asks for a name that is being looked up waits for that answer, so that one name keeps one thread. Not in the
    loop's own threads: the broker needs those, and a hostile name server could keep them all. Not in a pool
    either, whose threads the interpreter waits for when it ends. Names that hang keep only each other waiting: those
    that answered promptly the last time have places of their own.
    """

    def __init__(self) -> None:
        self._free_for_known = asyncio.Semaphore(MAX_LOOKUPS)
        self._free_for_others = asyncio.Semaphore(MAX_LOOKUPS)
        self._known: dict[tuple[str, int], None] = {}
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name. Raises `OSError`. A lookup that nobody waits for any more comes to its end."""
        if (found := self._under_way.get((host, port))) is None:
            free = self._free_for_known if (host, port) in self._known else self._free_for_others
            await free.acquire()
            if (found := self._under_way.get((host, port))) is None:
                found = self._begun(host, port, free)
            else:  # somebody else asked while this one waited
                free.release()
        return await asyncio.shield(found)

    def _remember(self, name: tuple[str, int], prompt: bool) -> None:
        self._known.pop(name, None)
        if prompt:
            self._known[name] = None
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]

    def _begun(self, host: str, port: int, free: asyncio.Semaphore) -> asyncio.Future[Sequence[str]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found: asyncio.Future[Sequence[str]] = loop.create_future()
        found.add_done_callback(lambda done: done.exception())  # perhaps nobody waits for it any more
        self._under_way[host, port] = found

        def told(answer: Sequence[str] | Exception) -> None:
            free.release()
            self._remember((host, port), not isinstance(answer, Exception) and loop.time() - began < PROMPT_S)
            if self._under_way.get((host, port)) is found:
                del self._under_way[host, port]
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
        return found


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
