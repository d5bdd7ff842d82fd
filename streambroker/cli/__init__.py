"""The command ``streambroker``.

Where commands are added: a module of this package makes a `typer.Typer()` called `app`, and stands in `_GROUPS` below,
with the name under which its commands are found (None: they stand beside `serve`). What a command needs beyond the
standard library, typer and `streambroker.config` it imports when it runs: `serve --help` must be quick, and must work
where the extra `cli` is not installed. Commands that call a broker take their options by `cli.connection.calls_broker`.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from streambroker import __version__
from streambroker.cli import (
    bench,
    completion,
    consume,
    db,
    doctor,
    health,
    key,
    message,
    publish,
    queue,
    server,
    tail,
    token,
    top,
    user,
    webhook,
)
from streambroker.cli.exits import Exit, fail
from streambroker.config import SettingError
from streambroker.core.errors import ConfigError, DataDamaged, DataDirUnusable, StorageFailed

__all__ = ["Exit", "app", "main"]

_GROUPS: tuple[tuple[typer.Typer, str | None], ...] = (
    (server.app, None),
    (db.app, "db"),
    (doctor.app, None),
    (health.app, None),
    (top.app, None),
    (bench.app, None),
    (publish.app, None),
    (consume.app, None),
    (tail.app, None),
    (queue.app, "queue"),
    (message.app, "message"),
    (user.app, "user"),
    (key.app, "key"),
    (webhook.app, "webhook"),
    (token.app, None),
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for _commands, _name in _GROUPS:
    app.add_typer(_commands, name=_name)


def _say_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"streambroker {__version__}\n")
        raise typer.Exit


@app.callback()
def streambroker(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """A durable message broker over HTTP and WebSocket."""


def main() -> None:
    """Run the command; exits with a code of `Exit`."""
    code: object = None
    try:
        if (asked := completion.named(sys.argv[1:])) is not None:
            completion.for_shell(*asked)
            return
        code = app(prog_name="streambroker", standalone_mode=False)
    except typer.TyperException as error:
        _wrong_usage(error)
    except typer.Abort:
        sys.exit(Exit.INTERRUPTED)
    except SettingError as error:
        fail(Exit.USAGE if error.from_flag else Exit.CONFIGURATION, error)
    except ConfigError as error:
        fail(Exit.CONFIGURATION, error)
    except DataDamaged as error:
        fail(Exit.DAMAGED, error)
    except DataDirUnusable as error:
        fail(Exit.CANNOT_USE, error)
    except StorageFailed as error:
        sys.stderr.write(f"streambroker: {error}\n")
        sys.stderr.flush()
        # At once: an ordinary exit would close the database, and so write to a file of which nothing is known.
        os._exit(Exit.INPUT_OUTPUT)
    except OSError as error:
        fail(Exit.UNAVAILABLE, error)
    sys.exit(code if isinstance(code, int) else 0)


def _wrong_usage(error: typer.TyperException) -> None:
    """What the parser found wrong, in a line; a command that only groups others shows its help instead."""
    context = getattr(error, "ctx", None)
    message = error.format_message().replace("Value error, ", "")  # how the parser's library introduces our sentence
    if not message or "Usage:" in message:
        sys.stderr.write(message)
        sys.exit(Exit.USAGE)
    hint = f"\n`{context.command_path} --help` says what it takes" if context is not None else ""
    fail(Exit.USAGE, f"{message}{hint}")
