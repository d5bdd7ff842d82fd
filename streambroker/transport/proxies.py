"""Whose request it is, where a proxy hands it on."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REMEMBERED = 1_000


class TrustedProxies:
    """The networks whose ``X-Forwarded-For`` is believed, and only as far as they vouch for it.

    Each proxy adds the address that it was called from to the right. So the client is the rightmost address that is no
    trusted proxy: what stands to the left of it is what that client said, and may be anything.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        """Raises `ValueError` for what is neither an address nor a network."""
        self._networks: list[_Network] = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._peers: dict[str, bool] = {}  # what was found of the peers, who are few where there is a proxy

    def client_address(self, headers: Mapping[bytes, bytes], peer: str) -> str:
        """The address of the client, in its shortest form where a proxy told it, else the peer's.

        Where a proxy says nothing or no address, it is the last that is known to be true: the proxy's own.
        """
        if not self.trusts(peer):
            return peer
        client = peer
        for entry in reversed(headers.get(b"x-forwarded-for", b"").split(b",")):
            address = _address_in(entry.decode("latin-1").strip())
            if address is None:
                return client
            client = str(address)
            if not self._includes(address):
                return client
        return client

    def scheme(self, headers: Mapping[bytes, bytes], peer: str, scheme: str) -> str:
        """``https`` or ``http``, as the client used it: what the nearest proxy says in ``X-Forwarded-Proto``."""
        if not self.trusts(peer):
            return scheme
        told = headers.get(b"x-forwarded-proto", b"").rpartition(b",")[2].strip().lower()
        return told.decode() if told in (b"http", b"https") else scheme

    def trusts(self, peer: str) -> bool:
        """Whether this address is a trusted proxy's."""
        if not self._networks:
            return False
        known = self._peers.get(peer)
        if known is None:
            address = _address_in(peer)
            known = address is not None and self._includes(address)
            if len(self._peers) < _REMEMBERED:
                self._peers[peer] = known
        return known

    def _includes(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _address_in(entry: str) -> _Address | None:
    """The address in an entry, which may have a port, brackets and quotes; IPv4 in IPv6 is IPv4."""
    text = entry.strip('"')
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not (port[0] == ":" and port[1:].isdecimal())):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not port.isdecimal():
            return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return ipaddress.IPv6Address(int(address))
        return address.ipv4_mapped or address
    return address
