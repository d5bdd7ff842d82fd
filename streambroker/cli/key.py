"""``streambroker key``: list, create, delete API keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.output import Output, moment
from streambroker.cli.user import GrantOption, granted
from streambroker.cli.values import Yes, confirmed, grant, time

if TYPE_CHECKING:
    from streambroker.client.rest import Rest

app = typer.Typer(no_args_is_help=True, help="API keys for programs. Making and deleting them takes a login.")


@app.command("list")
@uses_rest
async def list_keys(client: Rest, out: Output) -> None:
    """List your API keys; an admin's list is everybody's."""
    if out.json:
        out.document([key async for key in client.api_keys.list()])
        return
    rows = [
        [key.id, key.name, key.username, granted(key.grants), moment(key.created_at), moment(key.expires_at)]
        async for key in client.api_keys.list()
    ]
    out.table(("ID", "NAME", "USER", "GRANTS", "CREATED", "EXPIRES"), rows)


@app.command()
@uses_rest
async def create(
    client: Rest,
    out: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.")],
    grants: GrantOption = None,
    expires: Annotated[
        datetime | None,
        typer.Option(parser=time, metavar="TIME", help="When it ends: 2027-01-01T00:00:00Z, or 30d from now."),
    ] = None,
) -> None:
    """Make an API key, and print it alone on stdout: nobody can be shown it again.

    Without --grant it may do all that you may.
    """
    given = [grant(text) for text in grants] if grants else None
    made = await client.api_keys.create(name, grants=given, expires_at=expires)
    if not out.json:
        out.say(f"API key {made.id} ({name}), grants: {granted(made.grants)}; shown only now:")
    out.answer(made, made.key)


@app.command()
@uses_rest
async def delete(
    client: Rest,
    out: Output,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `key list` shows it.")],
    yes: Yes = False,
) -> None:
    """Delete an API key: it is refused from now on."""
    confirmed(f"Delete the API key {key_id} for good?", yes)
    await client.api_keys.delete(key_id)
    out.answer({"id": key_id, "deleted": True}, f"API key {key_id} is deleted")
