"""Where webhooks may go: the URLs that are taken, and the addresses that are connected to.

A name says nothing about where it leads, and may lead elsewhere a moment later. So names are looked up by us, every
address is checked, and the connection goes to one that was (OWASP Server-Side Request Forgery Prevention Cheat Sheet).
The networks are those of IANA's special-purpose address registries; what a registry marks as not globally reachable, or
what carries an IPv4 address inside, is refused. Python's `is_global` lets multicast and NAT64 through, and differs from
release to release.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from streambroker.core.errors import Invalid, invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host name, in the order in which to try them. Raises `OSError`."""

MAX_URL = 2_048
MAX_ADDRESSES = 4
"""How many addresses of a name are tried. All are checked."""

_PRINTABLE = re.compile(r"[!-~]+").fullmatch
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_is_name = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*").fullmatch
# As the URL standard says: a host whose last label is a number is an IPv4 address, however it is written.
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?").fullmatch

_SPECIAL: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "an unspecified address"),
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "an address shared by a carrier's customers"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "a reserved address"),
    ("192.0.2.0/24", "an address for documentation"),
    ("192.31.196.0/24", "a reserved address"),
    ("192.52.193.0/24", "a reserved address"),
    ("192.88.99.0/24", "a 6to4 relay"),
    ("192.168.0.0/16", "a private address"),
    ("192.175.48.0/24", "a reserved address"),
    ("198.18.0.0/15", "an address for benchmarks"),
    ("198.51.100.0/24", "an address for documentation"),
    ("203.0.113.0/24", "an address for documentation"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved address"),
    ("::/128", "an unspecified address"),
    ("::1/128", "a loopback address"),
    ("64:ff9b::/96", "a NAT64 address"),
    ("64:ff9b:1::/48", "a NAT64 address"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a site-local address"),
    ("ff00::/8", "a multicast address"),
    ("2001::/32", "a Teredo address"),
    ("2001::/23", "a reserved address"),
    ("2001:db8::/32", "an address for documentation"),
    ("2002::/16", "a 6to4 address"),
    ("3fff::/20", "an address for documentation"),
)
_REFUSED: tuple[tuple[Network, str], ...] = tuple((ipaddress.ip_network(text), kind) for text, kind in _SPECIAL)
_UNICAST = ipaddress.ip_network("2000::/3")
"""The only IPv6 addresses that are given out for the Internet."""


class Blocked(Exception):
    """The address may not be connected to; the text says of what kind it is, and never which."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart.

    `host` is a name in lower case or an IP address, without brackets; `path` has the query; `authority` is what the
    Host header says.
    """

    secure: bool
    host: str
    port: int
    path: str
    authority: str

    @property
    def address(self) -> Address | None:
        """The host where it is an IP address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def target(url: str) -> Target:
    """The parts of a URL that a webhook may have. Raises `Invalid`, pointing to `/url`."""
    if len(url) > MAX_URL or not _PRINTABLE(url) or "\\" in url:
        raise _refused(f"is at most {MAX_URL:,} visible ASCII characters, without a backslash")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("is not a URL") from None
    if parts.scheme not in ("http", "https"):
        raise _refused("begins with https:// or http://")
    if "@" in parts.netloc:
        raise _refused("holds a user or password; give them as a header")
    if "#" in url:
        raise _refused("holds a fragment, which is never sent")
    if port == 0:
        raise _refused("has the port 0")
    host = _host(parts)
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if secure else 80
    name = f"[{host}]" if ":" in host else host
    return Target(secure, host, port or default, path, name if port in (None, default) else f"{name}:{port}")


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if parts.netloc.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host if "%" not in host else ""))
        except ValueError:
            raise _refused("has a host that is no IPv6 address") from None
    if _NUMERIC(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise _refused("has a number as its host; write an IPv4 address as four decimal numbers") from None
    if not _is_name(host.removesuffix(".")):
        raise _refused("has a host that is no name; write an international one in Punycode (xn--…)")
    return host.removesuffix(".")


def _refused(detail: str) -> Invalid:
    return invalid("/url", detail)


class Vetting:
    """Tells which addresses webhooks may connect to; `allowed` are networks that the operator opened to them."""

    def __init__(self, allowed: Iterable[str], resolve: Resolve) -> None:
        self._allowed = [ipaddress.ip_network(text) for text in allowed]
        self._resolve = resolve

    async def addresses(self, target: Target) -> list[str]:
        """The addresses to try for a target, each of them checked: one bad one among them spoils all.

        Raises `Blocked`, and `OSError` where there are none.
        """
        literal = target.address
        found = [str(literal)] if literal is not None else await self._resolve(target.host, target.port)
        addresses = [ipaddress.ip_address(text) for text in found]
        for address in addresses:
            if (kind := self.refusal(address)) is not None:
                raise Blocked(kind)
        if not addresses:
            raise OSError("the name has no address")
        return [str(address) for address in addresses[:MAX_ADDRESSES]]

    def refusal(self, address: Address) -> str | None:
        """Of which kind an address is that may not be connected to; None for one that may."""
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return "an address of one link"
        address = _unmapped(address)
        if any(address in network for network in self._allowed):
            return None
        for network, kind in _REFUSED:
            if address in network:
                return kind
        return "a reserved address" if address.version == 6 and address not in _UNICAST else None


def _unmapped(address: Address) -> Address:
    """The IPv4 address where it is written as an IPv6 one (``::ffff:127.0.0.1``): the same place."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
