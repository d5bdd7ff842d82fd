"""Whose requests count together where nobody is logged in."""

from __future__ import annotations

import functools
import ipaddress

UNKNOWN = "unknown"


@functools.lru_cache(maxsize=4096)
def network(address: str) -> str:
    """The network that an address counts for: an IPv4 address is one, an IPv6 address counts for its /64.

    A /64 is what one household or machine is given, so nobody has more of a limit by changing the lower half. IPv4 in
    IPv6 is IPv4. Everything that is no address counts together.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(parsed) >> 64 << 64)}/64"
