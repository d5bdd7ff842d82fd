"""The command ``streambroker``."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer

from streambroker.config import FIELDS, SettingError, Settings, data_directory, load, read, shown
from streambroker.core.errors import ConfigError, DataDamaged, DataDirUnusable, Invalid, NotFound, StorageFailed


class Exit(IntEnum):
    """Exit codes, as in BSD's sysexits.h."""

    USAGE = 64
    DAMAGED = 65
    UNAVAILABLE = 69
    CANNOT_USE = 73
    INPUT_OUTPUT = 74
    CONFIGURATION = 78


app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
config = typer.Typer(no_args_is_help=True, help="Look at the settings without starting a broker.")
app.add_typer(config, name="config")


@app.callback()
def streambroker() -> None:
    """A durable message broker over HTTP and WebSocket."""


def _options() -> inspect.Signature:
    """A command's parameters: one option for each setting, and the file that may hold them."""
    parameters = [_option("config", str, "A TOML file with settings.")]
    for name, field in FIELDS.items():
        about = next(meta.description for meta in get_args(field.type) if getattr(meta, "description", None))
        default = shown(name, field.default).strip('"')
        about += "" if field.default in (None, ()) else f" [default: {default}]"
        parameters.append(_option(name, bool if name == "insecure" else str, about))
    return inspect.Signature(parameters)


def _option(name: str, type_: Any, about: str) -> inspect.Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=about.replace("[", r"\["), show_default=False)
    annotation = Annotated[type_ | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each setting."""
    command.__signature__ = _options()  # type: ignore[attr-defined]
    command.__annotations__ = {name: p.annotation for name, p in _options().parameters.items()}
    return command


@app.command()
@_takes_settings
def serve(**flags: Any) -> None:
    """Run a broker. Every option is also STREAMBROKER_<NAME> in the environment and a key of the TOML file."""
    _serve(load(flags))


@config.command()
@_takes_settings
def check(**flags: Any) -> None:
    """Check the settings that `serve` would start with; says what is wrong, and exits with 78 then (64 for a flag).

    Signing keys, the first password and the files of TLS are tried too; the data is not touched.
    """
    settings = load(flags)
    from streambroker import app as broker  # as in `_serve`

    broker.check(settings)
    sys.stdout.write("the settings are right\n")


@config.command()
@_takes_settings
def show(**flags: Any) -> None:
    """Print the settings that `serve` would start with as TOML, secrets masked, and where each comes from."""
    settings, sources = read(flags)
    for name in FIELDS:
        value = shown(name, getattr(settings, name))
        source = sources.get(name, "default")
        line = f"# {name} is not set" if value.startswith("#") else f"{name} = {value}"
        sys.stdout.write(f"{line:<48}{'' if value.startswith('#') else f'  # {source}'}".rstrip() + "\n")


@app.command()
def reset_password(
    username: Annotated[str, typer.Argument(help="Whose; admin is made anew where it is gone.")] = "admin",
    data_dir: Annotated[str | None, typer.Option(help="Where the data is kept.")] = None,
    config: Annotated[str | None, typer.Option(help="A TOML file with settings.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Take the first line of stdin, and make none up.")] = False,
) -> None:
    """Give a user another password, while no broker runs: for whoever has the machine and not the password.

    It enables the user and ends its sessions; its API keys stay. `admin` is an admin then, others keep their role.
    """
    directory = data_directory({"data_dir": data_dir, "config": config})
    given = sys.stdin.readline().rstrip("\r\n") if stdin else None
    from streambroker import reset  # as in `_serve`

    try:
        password = reset.reset_password(directory, username, given)
    except (NotFound, Invalid) as error:
        _fail(Exit.USAGE, error.detail)
    shown = "the password that was given" if stdin else f"password {password}   (shown only now)"
    sys.stdout.write(f"user {username}, {shown}\n")


@app.command()
def cert(
    out: Annotated[Path, typer.Option(help="Directory to write them to.")] = Path(),
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address of the broker; localhost is always among them.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How long the certificate is good.")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace the files if they exist.")] = False,
) -> None:
    """Make a self-signed certificate and its key for development: cert.pem and key_nopass.pem."""
    try:
        from streambroker import certificates  # what it needs is an extra
    except ImportError:
        _fail(Exit.UNAVAILABLE, "this needs the library cryptography: pip install 'streambroker[cert]'")
    for name in host or ():
        if not certificates.is_name(name):
            raise typer.BadParameter(f"{name!r} is neither a DNS name (ASCII; xn--… for others) nor an address")
    try:
        pair = certificates.make(out, host or (), days, datetime.now(UTC), replace=force)
    except certificates.AlreadyThere as error:
        _fail(Exit.CANNOT_USE, f"{error}; --force replaces them")
    except OSError as error:
        _fail(Exit.CANNOT_USE, f"cannot write to {out}: {error.strerror}")
    cert_file, key_file = shlex.quote(str(pair.cert_file)), shlex.quote(str(pair.key_file))
    sys.stdout.write(
        f"{cert_file}: a certificate for {', '.join(pair.names)}, good until {pair.not_after:%Y-%m-%d}\n"
        f"{key_file}: its key, without a passphrase; give it to nobody\n"
        f"SHA-256 fingerprint: {pair.fingerprint}\n"
        f"start: streambroker serve --tls-cert {cert_file} --tls-key {key_file}\n"
        f"try: curl --cacert {cert_file} https://localhost:8000/healthz\n"
    )


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


def _fail(code: Exit, error: Exception | str) -> NoReturn:
    sys.stderr.write(f"streambroker: {error}\n")
    sys.exit(code)
