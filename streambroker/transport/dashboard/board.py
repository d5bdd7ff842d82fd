"""The table of queues as the feed tells it: all lines once, then those that have changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from streambroker.broker.broker import Broker
from streambroker.broker.rates import Rates, Traffic
from streambroker.core.message import State
from streambroker.protocol.json import encode
from streambroker.transport.dashboard import frames
from streambroker.transport.dashboard.frames import QueueLine
from streambroker.transport.dashboard.views import Moment, View

SPARK = 30
"""Depths in a spark line."""
SLOW = 2
"""Of so many intervals one adds to the spark lines; in as many, rates and spark lines of all queues are looked at."""
MOST_SLOW = 1_000
"""But of no more queues than this in one interval: ten thousand take ten, so that the loop is not held for long."""
AGED = 1.05
"""An age that only grows is told again when it is so many times what was told."""
_REMEMBERED = 300
"""Intervals for which a queue that is gone is remembered; a dashboard that is further behind gets all lines anew."""
_NOTHING = (0,) * len(State)


class _Line:
    """One queue: what was told last, in which version of the board."""

    __slots__ = ("age_ms", "counts", "json", "rates", "spark", "version")

    def __init__(self) -> None:
        self.counts: tuple[int, ...] = ()
        self.rates = Rates(0.0, 0.0, 0.0)
        self.spark: list[int] = []
        self.age_ms: int | None = None
        self.json = b""
        self.version = 0


class Board:
    """Owned by the feed. The lines are kept while somebody watches, the spark lines always.

    `version` grows with each look; whoever has seen one gets by `frame` what has changed since.
    """

    def __init__(self, broker: Broker) -> None:
        self.version = 0
        self.watchers = 0
        self.oldest: Mapping[str, int] = {}
        """When the oldest message that is ready was published, by queue; somebody looks it up now and then."""
        self._broker = broker
        self._intervals = 0
        self._first_slow = 0
        self._sparks: dict[str, deque[int]] = {}
        self._lines: dict[str, _Line] = {}
        self._gone: dict[str, int] = {}
        self._frames: dict[tuple[View, int], str | None] = {}

    def advance(self, moment: Moment) -> None:
        """An interval is over."""
        self._intervals += 1
        if self._intervals % SLOW == 0:
            self._draw_sparks(moment)
        if self.watchers:
            self._look(moment)

    def begin(self, moment: Moment | None) -> None:
        """Somebody watches from now on."""
        self.watchers += 1
        if self.watchers == 1 and moment is not None:
            self._look(moment, everything=True)

    def end(self) -> None:
        """And does so no more."""
        self.watchers -= 1
        if not self.watchers:
            self._frames.clear()

    def frame(self, view: View, since: int | None) -> str | None:
        """What has changed since that version, None where nothing has; without one all lines."""
        if since is None or since < self.version - _REMEMBERED:
            since = -1
        key = view, since
        if key not in self._frames:
            self._frames[key] = self._made(view, since)
        return self._frames[key]

    def _made(self, view: View, since: int) -> str | None:
        lines = [line.json for name, line in self._lines.items() if line.version > since and view.sees(name)]
        gone = [name for name, version in self._gone.items() if version > since and view.sees(name)]
        return frames.queues(lines, gone).decode() if lines or gone or since < 0 else None

    # -- looking -------------------------------------------------------------------------------------------------------

    def _draw_sparks(self, moment: Moment) -> None:
        depths, sparks = moment.depths, self._sparks
        for name in sparks.keys() - depths.keys():
            del sparks[name]
        for name, depth in depths.items():
            if (spark := sparks.get(name)) is None:
                spark = sparks[name] = deque(maxlen=SPARK)
            spark.append(depth[State.READY] + depth[State.DELAYED])

    def _look(self, moment: Moment, everything: bool = False) -> None:
        self.version += 1
        self._frames.clear()
        queues = self._broker.traffic()
        self._drop(queues)
        many, first = len(queues), self._first_slow
        some = many if everything else min(-(-many // SLOW), MOST_SLOW)
        self._first_slow = (first + some) % many if many else 0
        for index, (name, traffic) in enumerate(queues.items()):
            line = self._lines.get(name)
            fresh = line is None
            if line is None:
                line = self._lines[name] = _Line()
            slow = fresh or (index - first) % many < some
            if self._changed(line, name, traffic, moment, slow):
                line.version = self.version
                line.json = encode(_told(name, line))

    def _drop(self, traffic: Mapping[str, Traffic]) -> None:
        for name in [name for name in self._lines if name not in traffic]:
            del self._lines[name]
            self._gone[name] = self.version
        for name in [n for n, version in self._gone.items() if n in traffic or version < self.version - _REMEMBERED]:
            del self._gone[name]

    def _changed(self, line: _Line, name: str, traffic: Traffic, moment: Moment, slow: bool) -> bool:
        """Bring the line up to date; whether it is to be told again."""
        depth = moment.depths.get(name, _NOTHING)
        counts = (self._broker.queue(name).paused, *depth, traffic.consumers)
        changed = counts != line.counts
        line.counts = counts
        if slow:
            rates, spark = traffic.meter.rates(moment.at), list(self._sparks.get(name, ()))
            changed = changed or rates != line.rates or spark != line.spark
            line.rates, line.spark = rates, spark
        age = self._age(name, depth, moment.at)
        if changed or _differs(age, line.age_ms):
            line.age_ms = age
            return True
        return False

    def _age(self, name: str, depth: Sequence[int], now: int) -> int | None:
        since = self.oldest.get(name)
        return None if since is None or not depth[State.READY] else max(now - since, 0)


def _differs(age: int | None, told: int | None) -> bool:
    if age is None or told is None:
        return age is not told
    return age < told or age > told * AGED + 1_000


def _told(name: str, line: _Line) -> QueueLine:
    paused, ready, delayed, leased, processed, failed, consumers = line.counts
    return QueueLine(
        name,
        bool(paused),
        ready + delayed,
        delayed,
        leased,
        processed,
        failed,
        line.age_ms,
        consumers,
        *line.rates,
        line.spark,
    )
