"""The access log: what became of requests, without a line for each of them and without the URLs they asked for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

log = logging.getLogger(__name__)

Mode = Literal["off", "errors", "summary", "all"]

Counts = Callable[[], Iterable[tuple[str, str, int, int]]]
"""Method, route, status, how many there ever were."""

PERIOD_S = 10
SAMPLE_S = 60
MAX_KINDS = 1_000
"""Kinds of trouble that are told apart in a minute; beyond it all are one kind."""
_REFUSED = frozenset({401, 403, 429})
_HEARS_FROM: dict[Mode, int] = {"all": 100, "summary": 400, "errors": 400, "off": 1_000}


@dataclass(slots=True)
class _Sample:
    """Trouble of one kind that a line told of: until when the like is only counted, and how much of it came."""

    until: float
    more: int = 0


class AccessLog:
    """Tells of requests. Owned by the event loop; `run` is its one task.

    What goes well costs nothing here: `note` is to be called for statuses from `hears_from` on, and the summary is made
    of `counts`, which tells method, route, status and how many there ever were.

    ``errors`` tells of server errors (5xx) and of refusals (401, 403, 429): the first of each status and route at once,
    the rest of a minute as a number. ``summary`` adds, every ten seconds in which there were requests, how many of each
    route ended how. ``all`` has a line for every request instead of the summary; ``off`` nothing.
    """

    def __init__(self, mode: Mode, counts: Counts = tuple, clock: Callable[[], float] = time.monotonic) -> None:
        self.hears_from = _HEARS_FROM[mode]
        """The lowest status that is of interest one by one."""
        self._sums = mode == "summary"
        self._each = mode == "all"
        self._counts = counts
        self._clock = clock
        self._told: dict[tuple[str, str, int], int] = {}
        self._samples: dict[tuple[int, str], _Sample] = {}

    def note(
        self,
        method: str,
        route: str,
        status: int,
        user: str | None = None,
        request_id: bytes = b"",
        duration_ms: float | None = None,
        subject: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """A request was answered. `route` is its template, such as ``/queues/{queue}``, never the path itself.

        `subject` is what of it may be told: the `queue`, the `message_id`.
        """
        if status < self.hears_from:
            return
        if self._each:
            self._tell(logging.INFO, "request", method, route, status, user, request_id, duration_ms, subject)
        elif status >= 500 or status in _REFUSED:
            self._trouble(method, route, status, user, request_id, duration_ms, subject)

    async def run(self) -> None:
        """Tell every ten seconds what has gathered; at the end, by cancellation, once more."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                self.flush()
        finally:
            self.flush(at_end=True)

    def flush(self, at_end: bool = False) -> None:
        """Tell what has gathered: the counts, and how much trouble of each kind followed the first of a minute."""
        if self._sums and (requests := self._since_last()):
            log.info("requests", extra={"requests": requests})
        now = self._clock()
        for kind, sample in list(self._samples.items()):
            if now >= sample.until or at_end:
                del self._samples[kind]
                self._tell_more(kind, sample)

    def _since_last(self) -> dict[str, dict[str, int]]:
        """How many requests of each route ended how since this was asked the last time; by class of status."""
        found: dict[str, dict[str, int]] = {}
        for method, route, status, count in self._counts():
            more = count - self._told.get((method, route, status), 0)
            if more:
                self._told[method, route, status] = count
                of_route, of_class = found.setdefault(f"{method} {route}", {}), f"{status // 100}xx"
                of_route[of_class] = of_route.get(of_class, 0) + more
        return found

    def _trouble(
        self,
        method: str,
        route: str,
        status: int,
        user: str | None,
        request_id: bytes,
        duration_ms: float | None,
        subject: Mapping[str, str],
    ) -> None:
        kind = status, f"{method} {route}"
        if kind not in self._samples and len(self._samples) >= MAX_KINDS:
            kind = status, "other"
        now = self._clock()
        sample = self._samples.get(kind)
        if sample is not None and now < sample.until:
            sample.more += 1
            return
        if sample is not None:
            self._tell_more(kind, sample)
        self._samples[kind] = _Sample(now + SAMPLE_S)
        level, event = (logging.WARNING, "request failed") if status >= 500 else (logging.INFO, "request refused")
        self._tell(level, event, method, route, status, user, request_id, duration_ms, subject)

    def _tell_more(self, kind: tuple[int, str], sample: _Sample) -> None:
        if sample.more:
            status, route = kind
            fields = {"route": route, "status": status, "more": sample.more}
            log.log(logging.WARNING if status >= 500 else logging.INFO, "more of the same", extra=fields)

    def _tell(
        self,
        level: int,
        event: str,
        method: str,
        route: str,
        status: int,
        user: str | None,
        request_id: bytes,
        duration_ms: float | None,
        subject: Mapping[str, str],
    ) -> None:
        fields = {
            "route": f"{method} {route}",
            "status": status,
            "user": user,
            **subject,
            "request_id": request_id.decode("latin-1"),
            "duration_ms": None if duration_ms is None else round(duration_ms, 3),
        }
        log.log(level, event, extra={name: value for name, value in fields.items() if value not in (None, "")})
