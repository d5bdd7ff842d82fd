"""The command ``streambroker``."""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import Annotated, Any

import typer

from streambroker.config import SettingError, Settings, load
from streambroker.core.errors import ConfigError, DataDamaged, DataDirUnusable, StorageFailed


class Exit(IntEnum):
    """Exit codes, as in BSD's sysexits.h."""

    USAGE = 64
    DAMAGED = 65
    UNAVAILABLE = 69
    CANNOT_USE = 73
    INPUT_OUTPUT = 74
    CONFIGURATION = 78


app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def streambroker() -> None:
    """A durable message broker over HTTP and WebSocket."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[str | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the data is kept. [default: ./data]")] = None,
    config: Annotated[str | None, typer.Option(help="A TOML file with settings.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, json or console. [default: auto]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
    heartbeat_ms: Annotated[str | None, typer.Option(help="WebSocket ping interval. [default: 10000]")] = None,
    drain_timeout_ms: Annotated[
        str | None, typer.Option(help="How long a stop waits for acks. [default: 10000]")
    ] = None,
    auto_create_queues: Annotated[str | None, typer.Option(help="on or off. [default: on]")] = None,
    max_message_bytes: Annotated[str | None, typer.Option(help="Largest content. [default: 1048576]")] = None,
    access_token_ms: Annotated[str | None, typer.Option(help="Life of an access token. [default: 900000]")] = None,
    refresh_token_ms: Annotated[str | None, typer.Option(help="Life of a refresh token. [default: 30 days]")] = None,
) -> None:
    """Run a broker. Every option is also STREAMBROKER_<NAME> in the environment and a key of the TOML file."""
    flags: dict[str, Any] = dict(locals())
    _serve(load(flags))


def _serve(settings: Settings) -> None:
    from streambroker import app as broker  # the imports of a server take a moment; --help does not need them

    broker.run(settings)


def main() -> None:
    """Run the command; exits with a code of `Exit`."""
    try:
        app()
    except SystemExit as ended:
        # The parser has said what is wrong, and ends with 2 as most commands do.
        sys.exit(Exit.USAGE if ended.code == 2 else ended.code)
    except SettingError as error:
        _fail(Exit.USAGE if error.from_flag else Exit.CONFIGURATION, error)
    except ConfigError as error:
        _fail(Exit.CONFIGURATION, error)
    except DataDamaged as error:
        _fail(Exit.DAMAGED, error)
    except DataDirUnusable as error:
        _fail(Exit.CANNOT_USE, error)
    except StorageFailed as error:
        sys.stderr.write(f"streambroker: {error}\n")
        sys.stderr.flush()
        # At once: an ordinary exit would close the database, and so write to a file of which nothing is known.
        os._exit(Exit.INPUT_OUTPUT)
    except OSError as error:
        _fail(Exit.UNAVAILABLE, error)


def _fail(code: Exit, error: Exception) -> None:
    sys.stderr.write(f"streambroker: {error}\n")
    sys.exit(code)
