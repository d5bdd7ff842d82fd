"""The commands that run a broker and prepare that: serve, config, reset-password, cert."""

from __future__ import annotations

import gc
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from streambroker.cli.exits import Exit, fail
from streambroker.cli.settings import takes_settings
from streambroker.config import FIELDS, Settings, data_directory, load, read, shown
from streambroker.core.errors import Invalid, NotFound

app = typer.Typer()
config = typer.Typer(no_args_is_help=True, help="Look at the settings without starting a broker.")
app.add_typer(config, name="config")


@app.command()
@takes_settings
def serve(**flags: Any) -> None:
    """Run a broker. Every option is also STREAMBROKER_<NAME> in the environment and a key of the TOML file."""
    _serve(load(flags))


@config.command()
@takes_settings
def check(**flags: Any) -> None:
    """Check the settings that `serve` would start with; says what is wrong, and exits with 78 then (64 for a flag).

    Signing keys, the first password and the files of TLS are tried too; the data is not touched.
    """
    settings = load(flags)
    from streambroker import app as broker  # as in `_serve`

    broker.check(settings)
    sys.stdout.write("the settings are right\n")


@config.command()
@takes_settings
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
        fail(Exit.USAGE, error.detail)
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
        fail(Exit.UNAVAILABLE, "this needs the library cryptography: pip install 'streambroker[cert]'")
    for name in host or ():
        if not certificates.is_name(name):
            raise typer.BadParameter(f"{name!r} is neither a DNS name (ASCII; xn--… for others) nor an address")
    try:
        pair = certificates.make(out, host or (), days, datetime.now(UTC), replace=force)
    except certificates.AlreadyThere as error:
        fail(Exit.CANNOT_USE, f"{error}; --force replaces them")
    except OSError as error:
        fail(Exit.CANNOT_USE, f"cannot write to {out}: {error.strerror}")
    cert_file, key_file = shlex.quote(str(pair.cert_file)), shlex.quote(str(pair.key_file))
    sys.stdout.write(
        f"{cert_file}: a certificate for {', '.join(pair.names)}, good until {pair.not_after:%Y-%m-%d}\n"
        f"{key_file}: its key, without a passphrase; give it to nobody\n"
        f"SHA-256 fingerprint: {pair.fingerprint}\n"
        f"start: streambroker serve --tls-cert {cert_file} --tls-key {key_file}\n"
        f"try: curl --cacert {cert_file} https://localhost:8000/healthz\n"
    )


def _serve(settings: Settings) -> None:
    gc.disable()  # what a start makes is there to stay, and need not be looked through again and again; see app.serve
    from streambroker import app as broker  # the imports of a server take a moment; --help does not need them

    broker.run(settings)
