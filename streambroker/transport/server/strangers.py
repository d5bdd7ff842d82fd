"""Connections on which nobody has been recognized yet, counted by where they come from.

Whoever is recognized has limits of its own. Everybody else could hold every place that there is, so the strangers of
one address have only some of them.
"""

from __future__ import annotations

from collections.abc import Callable

from streambroker.transport.limiting.addresses import network

RECOGNIZED = "streambroker.recognized"
"""The key of a scope under which the application finds what to call, without arguments, when it knows who asks.

It is there as long as nobody was recognized on the connection.
"""


class Stranger:
    """One connection, until somebody is recognized on it. It is handed on where the connection is upgraded.

    `on_trial` it must be recognized at once: its address has more connections than may stay. `trusted` it comes from a
    proxy, who hands on the requests of many.
    """

    __slots__ = ("_leave", "on_trial", "recognized", "trusted")

    def __init__(
        self,
        *,
        recognized: bool = False,
        on_trial: bool = False,
        trusted: bool = False,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self.recognized = recognized
        self.on_trial = on_trial
        self.trusted = trusted
        self._leave = leave

    def recognize(self) -> None:
        """Somebody is recognized; it is none of the strangers any more."""
        self.recognized, self.on_trial = True, False
        self.leave()

    def leave(self) -> None:
        """It counts no longer."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Strangers:
    """Owns how many strangers each address has; an address is a network, as rate limits count it.

    `most` of them may stay as long as their deadlines let them; 0: any number. Those beyond it are on trial, so that a
    burst of clients that all log in finds its way. With `share`, trials included, one address has all that it can have.
    Where `most` is None the application recognizes nobody, and nobody is a stranger. `trusted` tells a proxy by its
    address; proxies are not counted.
    """

    def __init__(self, most: int | None, share: int, trusted: Callable[[str], bool]) -> None:
        self.most = most if most is None else min(most, share)
        self._share = share
        self._trusted = trusted
        self._of: dict[str, int] = {}

    def enter(self, address: str) -> Stranger | None:
        """A newcomer; None where its address has its share already."""
        if self.most is None:
            return Stranger(recognized=True)
        if self._trusted(address):
            return Stranger(trusted=True)
        if self.most == 0:
            return Stranger()
        name = network(address)
        count = self._of.get(name, 0)
        if count >= self._share:
            return None
        self._of[name] = count + 1
        return Stranger(on_trial=count >= self.most, leave=lambda: self._gone(name))

    def count(self, address: str) -> int:
        """How many strangers an address has."""
        return self._of.get(network(address), 0)

    def _gone(self, name: str) -> None:
        if self._of[name] == 1:
            del self._of[name]  # or addresses that were here once would be remembered for ever
        else:
            self._of[name] -= 1
