"""A way in for whoever has the machine and not the password."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

from streambroker.core.errors import DataDirUnusable
from streambroker.store.sql.accounts import Accounts
from streambroker.store.sql.connection import DATABASE
from streambroker.store.sql.login_failures import LoginFailures
from streambroker.store.sql.sqlite import SqliteStore
from streambroker.transport.auth.commitments import Commitments
from streambroker.transport.auth.passwords import Passwords
from streambroker.transport.auth.users import Users


def reset_password(data_dir: Path, username: str, password: str | None) -> str:
    """Give a user another password; it is made up where None is given, and returned.

    Holds the data directory meanwhile: raises `DataDirUnusable` while a broker runs and where there is no data, and
    what `SqliteStore.open` and `Users.reset` raise. Failed logins are forgotten: whoever has tried for long must not
    have to wait with the right password.
    """
    if not (data_dir / DATABASE).exists():
        raise DataDirUnusable(f"there is no data in {data_dir}, and so no user either; see --data-dir")
    return asyncio.run(_reset(data_dir, username, password))


async def _reset(data_dir: Path, username: str, password: str | None) -> str:
    store = await SqliteStore.open(data_dir, _wall_ms(), lambda _: None)
    passwords = Passwords()
    try:
        users = Users(
            Accounts(store.work), passwords, Commitments(), _wall_ms, secrets.token_bytes, changed=lambda _: None
        )
        await users.load()
        chosen = await users.reset(username, password)
        await LoginFailures(store.work).clear()
    finally:
        passwords.close()
        await store.close()
    return chosen


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
