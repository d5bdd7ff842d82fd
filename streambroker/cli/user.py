"""``streambroker user``: list, show, create, set, delete; for admins."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streambroker.cli.connection import uses_rest
from streambroker.cli.exits import Exit, fail
from streambroker.cli.output import Output, moment
from streambroker.cli.values import Yes, confirmed, grant

if TYPE_CHECKING:
    from streambroker.client.models import Grant, User
    from streambroker.client.rest import Rest

app = typer.Typer(no_args_is_help=True, help="Users and what they may do; for admins.")

Name = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
GrantOption = Annotated[
    list[str] | None,
    typer.Option("--grant", metavar="QUEUES:ACTIONS", help="Such as 'orders.*:publish,view' or 'tmp:all'; repeatable."),
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="The first line of stdin is the password.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password up, and print it.")]


@app.command("list")
@uses_rest
async def list_users(client: Rest, out: Output) -> None:
    """List all users."""
    if out.json:
        out.document([user async for user in client.users.list()])
        return
    rows = [
        [user.username, user.role, "disabled" if user.disabled else "", granted(user.grants), moment(user.created_at)]
        async for user in client.users.list()
    ]
    out.table(("USER", "ROLE", "STATE", "GRANTS", "CREATED"), rows)


@app.command()
@uses_rest
async def show(
    client: Rest, out: Output, name: Annotated[str, typer.Argument(metavar="USER", help="me: yourself.")] = "me"
) -> None:
    """Look at a user: at yourself where none is named."""
    if name == "me":
        me = await client.users.me()
        if not out.json:
            key = f" by the API key {me.credential.name}" if me.credential.kind == "api_key" else ""
            out.say(f"you are {me.username}{key}")
        _shown(out, me)
    else:
        _shown(out, await client.users.get(name))


def _shown(out: Output, user: User) -> None:
    if out.json:
        out.document(user)
        return
    out.fields(
        [
            ("user", user.username + (" (disabled)" if user.disabled else "")),
            ("role", user.role),
            ("grants", "\n".join(_text(one) for one in user.grants) or "-"),
            ("created", moment(user.created_at)),
            ("changed", moment(user.updated_at)),
        ]
    )


@app.command()
@uses_rest
async def create(
    client: Rest,
    out: Output,
    name: Name,
    role: Annotated[Literal["member", "admin"], typer.Option(help="An admin may do everything.")] = "member",
    grants: GrantOption = None,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Create a user. The password is asked for, or see --password-stdin and --generate."""
    given = [grant(text) for text in grants or ()]
    password = _password(name, password_stdin, generate)
    user = await client.users.create(name, password, role=role, grants=given)
    if generate:
        out.answer({**_members(user), "password": password}, f"user {name}, password {password}   (shown only now)")
    else:
        out.answer(user, f"user {name} is there")


@app.command("set")
@uses_rest
async def change(
    client: Rest,
    out: Output,
    name: Name,
    role: Annotated[Literal["member", "admin"] | None, typer.Option(help="An admin may do everything.")] = None,
    grants: GrantOption = None,
    no_grants: Annotated[bool, typer.Option("--no-grants", help="Take all grants away.")] = False,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="A disabled user and its keys are refused.")
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for another password.")] = False,
    password_stdin: PasswordStdin = False,
    generate: Generate = False,
) -> None:
    """Change a user; what is not named stays. --grant replaces all grants; another password ends all sessions."""
    if grants and no_grants:
        fail(Exit.USAGE, "--grant and --no-grants exclude each other")
    given = [grant(text) for text in grants] if grants else [] if no_grants else None
    new = _password(name, password_stdin, generate) if password or password_stdin or generate else None
    if all(value is None for value in (role, given, disabled, new)):
        fail(Exit.USAGE, "nothing to change was named")
    user = await client.users.update(name, password=new, role=role, grants=given, disabled=disabled)
    if generate:
        out.answer({**_members(user), "password": new}, f"user {name}, password {new}   (shown only now)")
    else:
        _shown(out, user)


@app.command()
@uses_rest
async def delete(client: Rest, out: Output, name: Name, yes: Yes = False) -> None:
    """Delete a user with its sessions and API keys; queues and messages stay."""
    confirmed(f"Delete the user {name} with its sessions and API keys for good?", yes)
    await client.users.delete(name)
    out.answer({"username": name, "deleted": True}, f"user {name} is deleted")


def granted(grants: tuple[Grant, ...] | None) -> str:
    """Grants in a line; what a key's user may do where it has none of its own."""
    return "as its user" if grants is None else "; ".join(_text(one) for one in grants)


def _text(one: Grant) -> str:
    return f"{one.queues}:{','.join(one.actions)}"


def _members(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in user.__struct_fields__}


def _password(name: str, from_stdin: bool, generate: bool) -> str:
    """A new password, by whichever way was asked for."""
    if from_stdin and generate:
        fail(Exit.USAGE, "--password-stdin and --generate exclude each other")
    if generate:
        return secrets.token_urlsafe(18)
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        fail(Exit.USAGE, "there is no terminal to ask for the password on; say --password-stdin or --generate")
    password = getpass.getpass(f"password for {name}: ")
    if password != getpass.getpass("the same again: "):
        fail(Exit.USAGE, "the two are not the same")
    return password
