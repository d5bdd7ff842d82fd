"""What is counted of requests, for metrics: plain numbers, added to on the event loop, read from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from streambroker.core.histogram import Histogram
from streambroker.transport.limiting import Kind


class _Answered:
    """Requests of one route that ended with one status; `took` is shared by all statuses of a class."""

    __slots__ = ("count", "took")

    def __init__(self, took: Histogram) -> None:
        self.took = took
        self.count = 0


class Tally:
    """How the requests of one route ended, and how long they took. Owned by the event loop; read from any thread."""

    __slots__ = ("_by_status", "_took", "method", "template")

    def __init__(self, method: str, template: str) -> None:
        self.method = method
        self.template = template
        self._by_status: dict[int, _Answered] = {}
        self._took: dict[str, Histogram] = {}

    def note(self, status: int, seconds: float) -> None:
        """One request was answered."""
        answered = self._by_status.get(status)
        if answered is None:
            answered = self._first(status)
        answered.count += 1
        answered.took.add(seconds)

    def _first(self, status: int) -> _Answered:
        of_class = f"{status // 100}xx"
        took = self._took.get(of_class)
        if took is None:
            took = self._took[of_class] = Histogram(
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30
            )
        answered = self._by_status[status] = _Answered(took)
        return answered

    def counts(self) -> list[tuple[int, int]]:
        """Status, how many."""
        return [(status, answered.count) for status, answered in self._by_status.copy().items()]

    def durations(self) -> list[tuple[str, Histogram]]:
        """Class of status such as ``2xx``, seconds."""
        return list(self._took.copy().items())


class Requests:
    """Requests that were answered, by method, template (such as ``/queues/{queue}``) and status.

    Bounded, for none of them are the client's words: whoever counts gives ``*`` for a method that a route does not
    have, and one template for all paths that there are not.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def of(self, method: str, template: str) -> Tally:
        """Where the requests of this route are counted, always the same; whoever serves it looks it up once."""
        return self._tallies.setdefault((method, template), Tally(method, template))

    def count(self, method: str, template: str, status: int) -> int:
        """How many of the route's requests ended so."""
        tally = self._tallies.get((method, template))
        return 0 if tally is None else dict(tally.counts()).get(status, 0)

    def counts(self) -> list[tuple[str, str, int, int]]:
        """Method, template, status, how many."""
        tallies = self._tallies.copy().values()
        return [(tally.method, tally.template, *counted) for tally in tallies for counted in tally.counts()]

    def durations(self) -> list[tuple[str, str, str, Histogram]]:
        """Method, template, class of status such as ``2xx``, seconds."""
        tallies = self._tallies.copy().values()
        return [(tally.method, tally.template, *took) for tally in tallies for took in tally.durations()]


class Credential(StrEnum):
    """What somebody tried to be recognized by."""

    NONE = "none"
    TOKEN = "token"  # noqa: S105
    API_KEY = "api_key"
    LOGIN = "login"
    REFRESH = "refresh"


class Refused:
    """Who was turned away at the gate: for want of a good credential, or for asking too often."""

    def __init__(self) -> None:
        self._unknown = dict.fromkeys(Credential, 0)
        self._limited = dict.fromkeys(Kind, 0)

    def unknown(self, given: bytes | None) -> None:
        """Somebody was not recognized by `given`: an `Authorization` header, or a token; None where there was none."""
        token = (given or b"").rpartition(b" ")[2]
        if not token:
            self._unknown[Credential.NONE] += 1
        elif token.startswith(b"sbk_"):
            self._unknown[Credential.API_KEY] += 1
        else:
            self._unknown[Credential.TOKEN] += 1

    def limited(self, kind: Kind, count: int = 1) -> None:
        """So many requests or frames were one too many."""
        self._limited[kind] += count

    def auth_failures(self, requests: Requests) -> Mapping[str, int]:
        """Credentials that were refused, by kind; those of the doors that take passwords are among the requests."""
        return {
            **{str(credential): count for credential, count in self._unknown.items()},
            str(Credential.LOGIN): requests.count("POST", "/login", 401),
            str(Credential.REFRESH): requests.count("POST", "/refresh", 401),
        }

    def rate_limited(self) -> Mapping[str, int]:
        """Requests and frames that were refused, by what they were counted as."""
        return {kind.name.lower(): count for kind, count in self._limited.items()}
