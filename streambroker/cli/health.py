"""``streambroker health``: is the broker ready? For HEALTHCHECK, ExecStartPost and scripts that wait for it."""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import plain
from streambroker.config import Settings, load

if TYPE_CHECKING:
    from http.client import HTTPConnection

TIMEOUT_S = 2.0
"""How long one question may take, in seconds."""
PAUSE_S = 0.2
"""Between two questions, in seconds."""
_LONGEST_ANSWER = 64 * 1024

app = typer.Typer()


@app.command()
def health(
    url: Annotated[str | None, typer.Option(help="The broker to ask, instead of the one of the settings.")] = None,
    config: Annotated[str | None, typer.Option(help="A TOML file with the settings of that broker.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Keep asking for so many seconds until it is ready.")] = 0,
) -> None:
    """Ask this machine's broker whether it is ready: exit 0 if it is, 1 if it is not or does not answer.

    Host, port and TLS are those that `serve` takes from the environment and from the file. It needs no token. The
    certificate is not checked: it is made out to the name that clients use, and this asks an address of the machine.
    """
    given = urlsplit(url or address(load({"config": config})))
    if given.scheme not in ("http", "https") or not given.hostname:
        fail(Exit.USAGE, f"{url!r} is no URL such as http://127.0.0.1:8000")
    secure, host, port = given.scheme == "https", given.hostname, given.port
    deadline = time.monotonic() + wait
    while (wrong := _unready(secure, host, port)) is not None:
        if time.monotonic() + PAUSE_S > deadline:
            fail(Exit.REFUSED, wrong)
        time.sleep(PAUSE_S)
    sys.stdout.write("ready\n")


def address(settings: Settings) -> str:
    """The URL at which a broker with these settings is reached from its own machine."""
    if settings.port == 0:
        fail(Exit.USAGE, "the broker takes any free port (port 0); say which one with --url")
    host = settings.host
    try:
        there = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if there.is_unspecified:  # all addresses: one of them is loopback
            host = "127.0.0.1" if there.version == 4 else "::1"
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _unready(secure: bool, host: str, port: int | None) -> str | None:
    """Why it cannot be used; None where it can."""
    from http.client import HTTPException

    connection = _connection(secure, host, port)
    where = f"the broker at {host}:{connection.port}"
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_LONGEST_ANSWER)
    except (OSError, HTTPException) as error:
        return f"{where} does not answer: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"{where} is not ready: {_reason(body) or f'it answers {status}'}"


def _reason(body: bytes) -> str:
    """The `detail` of a problem; empty where it is none, for who knows who answers there."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return plain(detail) if isinstance(detail, str) else ""


def _connection(secure: bool, host: str, port: int | None) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection  # `serve --help` has no use for them

    if not secure:
        return HTTPConnection(host, port, timeout=TIMEOUT_S)
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
