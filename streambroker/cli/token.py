"""``streambroker token``: log in, and print an access token."""

from __future__ import annotations

import typer

from streambroker.cli.connection import Caller, calls_broker
from streambroker.cli.exits import Exit, fail

app = typer.Typer()


@app.command()
@calls_broker
async def token(caller: Caller) -> None:
    """Log in and print an access token, for curl and the like; it ends after a quarter of an hour or so.

    For programs make an API key instead: `streambroker key create`.
    """
    credentials = caller.credentials()
    if "username" not in credentials:
        fail(Exit.USAGE, "an access token takes a login: give --username")
    async with caller.rest({}) as client:
        pair = await client.login(credentials["username"], credentials["password"])
    if caller.out.json:
        caller.out.document(pair)
        return
    caller.out.say(f"good for {pair.expires_in:g} s:")
    caller.out.line(pair.access_token)
