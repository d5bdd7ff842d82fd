"""What is counted of requests, for metrics: plain numbers, added to on the event loop, read from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from streambroker.core.histogram import Histogram
from streambroker.transport.limiting import Kind


@dataclass(slots=True)
class _Answered:
    """Requests of one route that ended with one status; `took` is shared by all statuses of a class."""

    took: Histogram
    count: int = 0


class Requests:
    """Requests that were answered, by method, template (such as ``/queues/{queue}``) and status.

    Bounded, for none of them are the client's words: whoever counts gives ``*`` for a method that a route does not
    have, and one template for all paths that there are not.
    """

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str, int], _Answered] = {}
        self._took: dict[tuple[str, str, str], Histogram] = {}

    def note(self, method: str, template: str, status: int, seconds: float) -> None:
        """One request was answered."""
        answered = self._answered.get((method, template, status))
        if answered is None:
            answered = self._first(method, template, status)
        answered.count += 1
        answered.took.add(seconds)

    def _first(self, method: str, template: str, status: int) -> _Answered:
        of_class = method, template, f"{status // 100}xx"
        took = self._took.get(of_class)
        if took is None:
            took = self._took[of_class] = Histogram(
                0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30
            )
        answered = self._answered[method, template, status] = _Answered(took)
        return answered

    def count(self, method: str, template: str, status: int) -> int:
        """How many of the route's requests ended so."""
        answered = self._answered.get((method, template, status))
        return 0 if answered is None else answered.count

    def counts(self) -> list[tuple[str, str, int, int]]:
        """Method, template, status, how many."""
        return [(*kind, answered.count) for kind, answered in self._answered.copy().items()]

    def durations(self) -> list[tuple[str, str, str, Histogram]]:
        """Method, template, class of status such as ``2xx``, seconds."""
        return [(*kind, took) for kind, took in self._took.copy().items()]


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
