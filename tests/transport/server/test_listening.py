"""The listening socket, and how many connections the process can hold."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

import pytest

from streambroker.transport import server
from streambroker.transport.server.listening import RESERVE, UNREAD_MS

AFFORDABLE = """
import logging, resource, sys
logging.basicConfig(format="%(levelname)s %(message)s")
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from streambroker.transport.server import affordable
print(affordable(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def afforded(soft: int, hard: int, wanted: int) -> tuple[list[int], str]:
    """What a process with these limits affords, its limit afterwards, and what it logged."""
    argv = [sys.executable, "-c", AFFORDABLE, str(soft), str(hard), str(wanted)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [int(number) for number in done.stdout.split()], done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_accepted_connections_are_ended_by_the_system_when_their_peer_is_gone(host: str) -> None:
    with server.listen(host, 0) as listening:
        listening.listen()
        with socket.create_connection(listening.getsockname()[:2]), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNREAD_MS
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_an_address_in_use_is_named() -> None:
    with server.listen("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: "):
            server.listen("127.0.0.1", port)


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = min(hard, 1_500) if hard != resource.RLIM_INFINITY else 1_500
    assert afforded(512, hard, hard - RESERVE) == ([hard - RESERVE, hard], "")


def test_connections_that_do_not_fit_are_fewer_with_a_warning() -> None:
    (most, limit), said = afforded(512, 1_000, 12_000)
    assert (most, limit) == (1_000 - RESERVE, 1_000)
    assert said.startswith("WARNING max_connections is 12000, but at most 1000 files may be open")
