"""The listening socket, and how many connections the process can hold."""

from __future__ import annotations

import logging
import resource
import socket

log = logging.getLogger(__name__)

UNREAD_MS = 10_000
"""How long what was sent may stay unacknowledged, or unsent because the peer's window is closed (RFC 5482)."""
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 30, 5, 3
RESERVE = 256
"""File descriptors that connections leave to the rest: the data, logs, connections on their way out."""


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises `OSError`. Accepted connections inherit its options."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _find_dead_peers(sock)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    sock.set_inheritable(True)
    return sock


def _find_dead_peers(sock: socket.socket) -> None:
    """Have the system end connections to peers that are gone or do not read, also those on which nothing is sent."""
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, _PROBES)


def affordable(wanted: int) -> int:
    """How many of the connections that are `wanted` this process may hold, after raising its limit on open files.

    Logs a warning where they are fewer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError) as error:
        log.info("the limit on open files stays at %s: %s", soft, error)
    if soft == resource.RLIM_INFINITY or wanted <= soft - RESERVE:
        return wanted
    most = max(soft - RESERVE, 1)
    log.warning(
        "max_connections is %s, but at most %s files may be open (ulimit -Hn); %s connections are accepted",
        wanted,
        soft,
        most,
    )
    return most
