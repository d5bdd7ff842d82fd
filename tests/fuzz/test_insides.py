"""The check that every fuzzed answer goes through finds what it looks for (D33)."""

from __future__ import annotations

import sqlite3
import traceback

import pytest

from tests.fuzz.insides import check_text

pytestmark = pytest.mark.system


def stack() -> str:
    try:
        sqlite3.connect(":memory:").execute("SELECT nothing FROM nowhere")
    except sqlite3.Error:
        return traceback.format_exc()
    raise AssertionError("unreachable")


@pytest.mark.parametrize(
    "leak",
    [
        stack(),
        "no such table: users; SELECT password FROM users WHERE name = ?",
        "UNIQUE constraint failed: user.name",
        "cannot open /var/lib/streambroker/jwt.key",
        __file__,
        "msgspec.ValidationError: Expected `int`",
        "KeyError: 'x'",
        "<Broker object at 0x7f00>",
    ],
)
def test_a_leak_is_found(leak: str) -> None:
    with pytest.raises(AssertionError):
        check_text(f'{{"detail": "{leak}"}}', "POST /queues")


def test_what_the_client_said_itself_may_come_back() -> None:
    check_text('{"detail": "unknown field `/etc/../tmp/x.py`"}', "/etc/../tmp/x.py")
    check_text('{"detail": "/priority: Expected `int` <= 9", "pointer": "/priority"}', "")
