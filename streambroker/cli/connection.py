"""Commands that call a broker: the options they share, who is asking, and how an error becomes an exit code."""

from __future__ import annotations

import asyncio
import functools
import getpass
import inspect
import os
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output

if TYPE_CHECKING:
    from streambroker.client import Client
    from streambroker.client.rest import Rest

P = ParamSpec("P")

USERNAME_VARIABLE = "STREAMBROKER_USERNAME"
PASSWORD_VARIABLE = "STREAMBROKER_PASSWORD"  # noqa: S105
_SLOW_LOGIN_S = 2.0
_SLOW_LOGIN = (
    "waiting for the login: a user may log in a few times a minute, and each command does. It needs none with an API "
    "key in STREAMBROKER_TOKEN; `streambroker key create NAME` makes one"
)
NEEDS_EXTRA = "this command needs the extra cli: pip install 'streambroker[cli]'"

Url = Annotated[
    str | None, typer.Option("--url", help=r"Where the broker is \[STREAMBROKER_URL, or http://127.0.0.1:8000].")
]
Token = Annotated[
    str | None,
    typer.Option("--token", help=r"API key or access token \[STREAMBROKER_TOKEN, which does not show in `ps`]."),
]
Username = Annotated[
    str | None,
    typer.Option("--username", "-u", help="Log in as this user; the password is asked for, or STREAMBROKER_PASSWORD."),
]
CaCert = Annotated[Path | None, typer.Option("--cacert", help="File with the certificates to trust (PEM).")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a call may take.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, one document, or one a line for streams.")]
_SHARED: dict[str, tuple[Any, Any]] = {
    "url": (Url, None), "token": (Token, None), "username": (Username, None), "cacert": (CaCert, None),
    "timeout": (Timeout, 30.0), "json": (Json, False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls which broker, as the options and the environment say; `out` is where the answer goes."""

    url: str | None
    token: str | None
    username: str | None
    cacert: Path | None
    timeout: float
    out: Output

    def credentials(self) -> dict[str, str]:
        """The arguments `token`, or `username` and `password`, of a client. Options go before the environment.

        Asks for the password on a terminal. Ends the command where there is no way to get one.
        """
        if self.token is not None:
            if self.username is not None:
                fail(Exit.USAGE, "--token and --username exclude each other")
            return {"token": self.token}
        token = os.environ.get("STREAMBROKER_TOKEN")
        username = self.username or (None if token else os.environ.get(USERNAME_VARIABLE))
        if username is None:
            return {"token": token} if token else {}
        return {"username": username, "password": self._password(username)}

    def rest(self, credentials: dict[str, str]) -> Rest:
        """A client for REST; the command that asked closes it."""
        from streambroker.client.rest import Rest

        try:
            return Rest(self.url, timeout=self.timeout, verify=self.trust(), **credentials)  # type: ignore[arg-type]
        except ValueError as error:
            fail(Exit.USAGE, error)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client for everything, which has found its broker and is known there; closed and logged out at the end."""
        from streambroker.client import Client

        async with self.known() as rest:
            client = Client(self.url, timeout=self.timeout, verify=self.trust())
            client.tokens = client.http.tokens = rest.tokens
            async with client:
                # It would come back for ever to a broker that is not there; say so now.
                await client.users.me()
                yield client

    @asynccontextmanager
    async def known(self) -> AsyncIterator[Rest]:
        """A client for REST; a session that is begun for it ends with it."""
        credentials = self.credentials()
        async with self.rest(credentials) as rest:
            if "username" not in credentials:
                yield rest
                return
            await self._log_in(rest)
            try:
                yield rest
            finally:
                await log_out(rest)

    async def _log_in(self, rest: Rest) -> None:
        """Begin the session now, to be able to say why nothing happens where the broker makes it wait."""
        notice = asyncio.get_running_loop().call_later(_SLOW_LOGIN_S, self.out.say, _SLOW_LOGIN)
        try:
            await rest.tokens.token()
        finally:
            notice.cancel()

    def trust(self) -> ssl.SSLContext:
        """The certificates that are trusted: those of the system, and of ``--cacert``."""
        try:
            return ssl.create_default_context(cafile=None if self.cacert is None else str(self.cacert))
        except (OSError, ssl.SSLError) as error:
            fail(Exit.UNREADABLE, f"{self.cacert} holds no certificates that can be read: {error}")

    def _password(self, username: str) -> str:
        if password := os.environ.get(PASSWORD_VARIABLE):
            return password
        if not sys.stdin.isatty():
            fail(Exit.USAGE, f"there is no password for {username}; set {PASSWORD_VARIABLE}")
        return getpass.getpass(f"password of {username}: ")


def calls_broker(command: Callable[Concatenate[Caller, P], Awaitable[int | None]]) -> Callable[..., int]:
    """Make a coroutine function whose first parameter is a `Caller` a command, with the options that a caller needs.

    What it returns is the exit code (None: 0). Errors of the client become one line and a code of `Exit`.
    """
    return _as_command(command, 1, command)


def uses_rest(command: Callable[Concatenate[Rest, Output, P], Awaitable[int | None]]) -> Callable[..., int]:
    """As `calls_broker`, for a command that takes a client for REST, and where to put the answer.

    A session that was begun for the command ends with it.
    """

    async def connected(caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> int | None:
        async with caller.known() as client:
            return await command(client, caller.out, *args, **kwargs)

    return _as_command(command, 2, connected)


async def log_out(client: Rest) -> None:
    """End the session that a command began, where the broker still listens."""
    from streambroker.client.errors import StreambrokerError

    try:
        await client.logout(timeout=2)
    except StreambrokerError:
        pass  # it ends by itself; what the command was for has been done, or its error is the one to tell


def _as_command(
    described: Callable[..., Any], given: int, body: Callable[Concatenate[Caller, P], Awaitable[int | None]]
) -> Callable[..., int]:
    """A command with the parameters of `described` after the first `given`, and the shared options."""

    @functools.wraps(described)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        shared: dict[str, Any] = {name: kwargs.pop(name) for name in _SHARED}
        out = Output(json=shared.pop("json"))
        return _run(lambda: body(Caller(**shared, out=out), *args, **kwargs), out)

    # The client's types are imported when a command runs; here they only need to be names.
    signature = inspect.signature(described, eval_str=True, locals={"Rest": object})
    parameters = [
        *list(signature.parameters.values())[given:],
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
            for name, (annotation, default) in _SHARED.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _run(body: Callable[[], Awaitable[int | None]], out: Output) -> int:
    if find_spec("httpx") is None:
        fail(Exit.UNAVAILABLE, NEEDS_EXTRA)
    from streambroker.cli.refusals import told
    from streambroker.client.errors import StreambrokerError

    async def awaited() -> int | None:
        return await body()

    try:
        return asyncio.run(awaited()) or 0
    except StreambrokerError as error:
        return told(error, out)
    except BrokenPipeError:
        nothing_more()
        return 0
    except OSError as error:
        nothing_more()
        fail(Exit.INPUT_OUTPUT, f"the answer cannot be written: {error.strerror or error}")


def nothing_more() -> None:
    """Let what is still to be written to stdout go nowhere, where it cannot be written: whoever read it has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
