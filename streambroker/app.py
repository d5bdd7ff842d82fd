"""The life of the process: listen, open the node, serve until told to stop, drain, close."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from starlette.types import Receive, Scope, Send

from streambroker import __version__
from streambroker.config import Settings, log_directory, secrets
from streambroker.core.errors import BrokerError, ConfigError, Overloaded, StorageFailed
from streambroker.node import FRAME_OVERHEAD, Node
from streambroker.observe.logging import Logs, configure
from streambroker.transport import server
from streambroker.transport.auth.keys import configured_key
from streambroker.transport.auth.users import check_first_password
from streambroker.transport.front import Front
from streambroker.transport.problems import refuse
from streambroker.transport.proxies import TrustedProxies
from streambroker.transport.tls import HSTS, Tls

log = logging.getLogger(__name__)

FAIL_STOP_S = 15
"""How long a broker whose storage failed may take to end, in seconds."""
EXIT_INPUT_OUTPUT = 74


class Lobby:
    """Answers while the broker starts: alive, not ready; then hands every request on to it."""

    def __init__(self) -> None:
        self.application: Callable[[Scope, Receive, Send], Awaitable[None]] = Front(self._not_yet)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)

    async def _not_yet(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": b'{"status":"alive"}'})
            return
        starting = "the broker is starting: it opens and recovers its data"
        await refuse(scope, send, Overloaded(starting, retry_after_ms=1_000))


async def serve(settings: Settings, say: Callable[[str], bool], logs: Logs) -> None:
    """Run a broker until it is told to stop. `say` prints a line for the operator, and tells whether that worked.

    Returns when it was stopped by SIGTERM or SIGINT. Raises `StorageFailed` when the storage failed, `OSError` when it
    cannot listen, and what `Node.open` and `Tls` raise.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    failed: asyncio.Future[None] = loop.create_future()

    def asked_to_stop(number: signal.Signals) -> None:
        if hurry.is_set():
            os._exit(EXIT_INPUT_OUTPUT)  # asked a third time: something hangs
        if stop.is_set():
            log.info("%s again: the broker stops without waiting any longer", number.name)
        else:
            log.info("%s: the broker drains, for at most %d ms", number.name, settings.drain_timeout_ms)
        (hurry if stop.is_set() else stop).set()

    def storage_failed(error: StorageFailed) -> None:
        log.critical("%s; the broker stops. Look at the disk and the kernel's log before it is started again", error)
        if not failed.done():
            failed.set_exception(error)
            # Nothing may keep a broker alive that cannot keep its promises: not even a disk that does not answer.
            watchdog = threading.Timer(FAIL_STOP_S, os._exit, (EXIT_INPUT_OUTPUT,))
            watchdog.daemon = True
            watchdog.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop, number)
    tls = None if settings.tls_cert is None or settings.tls_key is None else Tls(settings.tls_cert, settings.tls_key)
    loop.add_signal_handler(signal.SIGHUP, _reload, tls)
    sock = server.listen(settings.host, settings.port)
    lobby = Lobby()
    front = server.Server(
        server.configured(
            lobby,
            settings.heartbeat_ms,
            settings.max_message_bytes + FRAME_OVERHEAD,
            tls=None if tls is None else tls.context,
            most_connections=server.affordable(settings.max_connections),
            most_of_address=settings.max_connections_per_address,
            trusted=TrustedProxies(settings.trusted_proxies).trusts,
            headers=() if tls is None else (HSTS,),
        )
    )
    serving = asyncio.create_task(front.serve(sockets=[sock]))
    try:
        _tell_start(settings.data_dir)
        node = await _opened(settings, storage_failed, failed, () if tls is None else tls.certificate.names)
        logs.keep(log_directory(settings))  # not before the data directory is known to be ours
        try:
            lobby.application = node.application(front.connections, front.cut_off)
            node.listen_for_metrics()
            await asyncio.wait(
                [asyncio.ensure_future(front.listening.wait()), serving], return_when=asyncio.FIRST_COMPLETED
            )
            if node.password is not None:
                await _show_password(node, node.password, say)
            _announce(settings, sock.getsockname()[1], tls, node.password, say)
            # What lives as long as the broker need not be looked at by the collector again; and what the hot paths make
            # has no cycles, so looking for them more seldom loses nothing.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 50)
            gc.enable()
            stopping = asyncio.create_task(stop.wait())
            ends: list[asyncio.Future[Any]] = [stopping, failed, serving]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            await node.drain(hurry)
        finally:
            front.should_exit = True
            await asyncio.wait([serving], timeout=10)
            await node.close()
        if failed.done():
            failed.result()
        if not stop.is_set():
            raise OSError("the server ended by itself; its log says why")
        log.info("the broker has stopped")
    finally:
        front.should_exit = True
        await asyncio.wait([serving], timeout=10)
        sock.close()


def _tell_start(data_dir: str) -> None:
    """Before the data is looked at, which may take its time."""
    log.info("streambroker %s starts: it opens and checks the data in %s", __version__, Path(data_dir).resolve())


async def _opened(
    settings: Settings, storage_failed: Callable[[StorageFailed], None], failed: Any, names: Sequence[str]
) -> Node:
    try:
        return await Node.open(settings, storage_failed, names)
    except BrokerError:
        await asyncio.sleep(0)  # the news of a failed storage comes by the loop
        if failed.done():
            failed.result()
        raise


def _reload(tls: Tls | None) -> None:
    """What SIGHUP asks for: the certificate that is now in the files, for new connections."""
    if tls is None:
        log.info("SIGHUP: there is no certificate to load again, for TLS is off")
        return
    try:
        certificate = tls.reload()
    except ConfigError as error:
        log.error("SIGHUP: the certificate in use stays, for the new one cannot be used: %s", error)
    else:
        log.info("SIGHUP: new connections get the certificate with the serial number %s", certificate.serial)


async def _show_password(node: Node, password: str, say: Callable[[str], bool]) -> None:
    """Print the password that the first start made, and only then have it kept: nobody else can ever tell it."""
    if not say(f"first start: user admin, password {password}   (shown only now)"):
        log.error(
            "the password of the user admin could not be printed; the next start makes another one, and so does "
            "`streambroker reset-password` while the broker is stopped"
        )
        return
    try:
        await node.password_shown()
    except BrokerError as error:
        log.warning("it could not be noted that the password was shown, the next start makes another one: %s", error)


def _announce(settings: Settings, port: int, tls: Tls | None, password: str | None, say: Callable[[str], bool]) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - looked for, not bound
    curl = f"curl -s{'' if tls is None else _trust(settings, tls, host)}"
    host = f"[{host}]" if ":" in host else host
    url = f"{'http' if tls is None else 'https'}://{host}:{port}"
    log.info("the broker takes requests at %s", url)
    say(f"streambroker listening on {url}")
    say(f"dashboard: {url}/dashboard")
    shown = password or "YOUR-PASSWORD"
    credentials = f'{{"username":"admin","password":"{shown}"}}'
    say(f"try: {curl} {url}/login -H 'Content-Type: application/json' -d '{credentials}'")


def _trust(settings: Settings, tls: Tls, host: str) -> str:
    """How curl comes to trust the broker's certificate."""
    if not tls.certificate.covers(host):
        return "k"  # it is made out to another name than the one that can be printed here
    return f" --cacert {shlex.quote(str(settings.tls_cert))}" if tls.certificate.self_signed else ""


def check(settings: Settings) -> None:
    """Raise `ConfigError` for what `serve` would refuse of its settings, without a look at the data."""
    for name in ("jwt_secret", "jwt_secret_previous"):
        if (secret := getattr(settings, name)) is not None:
            configured_key(secret, name)
    if settings.admin_password:
        check_first_password(settings.admin_password)
    if settings.tls_cert is not None and settings.tls_key is not None:
        Tls(settings.tls_cert, settings.tls_key)


def _hold_standard_streams() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed: a socket or the database would take its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")


def _say(line: str) -> bool:
    if sys.stdout is None:  # closed before the start
        return False
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except OSError:
        # What is stuck in the buffer would be tried again at the end, and turn a good exit into a bad one.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
        return False
    return True


def run(settings: Settings) -> None:
    """Run a broker in an event loop of its own; see `serve`."""
    _hold_standard_streams()
    with (
        configure(settings.log_format, settings.log_level, secrets(settings)) as logs,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(serve(settings, _say, logs))
