"""Who was let in a moment ago is let in with fewer steps, and is judged by the same rules."""

from __future__ import annotations

from typing import Any

import pytest
from limits import parse

from streambroker.core.access import Principal
from streambroker.core.errors import RateLimited, Unauthenticated
from streambroker.transport.auth.service import AuthService
from streambroker.transport.gate import Gate
from streambroker.transport.limiting import Kind, RateLimits
from tests.transport.auth_world import ADDRESS, PASSWORD

_KIND = Kind.MESSAGES


def asks(token: str, space: bytes = b"") -> dict[str, Any]:
    headers = {b"authorization": b"Bearer " + space + token.encode()}
    return {"streambroker.headers": headers, "streambroker.address": ADDRESS}


def gate_of(auth: AuthService, limit: str = "1000/minute") -> Gate:
    gate = Gate(auth.authenticate, auth.still, RateLimits({_KIND: parse(limit)}))
    auth.on_changed(gate.changed)
    return gate


async def token_of(auth: AuthService) -> str:
    return (await auth.login("ann", PASSWORD, ADDRESS)).access_token


async def test_a_newcomer_takes_the_long_way_and_then_the_short_one(auth: AuthService) -> None:
    gate, token = gate_of(auth), await token_of(auth)
    assert gate.at_once(asks(token), _KIND) is None
    known = await gate.pass_in(asks(token), _KIND)
    scope = asks(token)
    assert gate.at_once(scope, _KIND) is known
    assert (scope["streambroker.user"], scope["streambroker.limited"]) == ("ann", (_KIND, "u:ann"))
    assert dict(gate.told(scope))[b"ratelimit"] in gate.told_lines(scope)


async def test_the_short_way_ends_with_the_session(auth: AuthService) -> None:
    gate, token = gate_of(auth), await token_of(auth)
    await auth.logout(await gate.pass_in(asks(token), _KIND))
    assert gate.at_once(asks(token), _KIND) is None
    with pytest.raises(Unauthenticated):
        await gate.pass_in(asks(token), _KIND)


async def test_who_has_other_rights_now_is_somebody_else(auth: AuthService) -> None:
    gate, token = gate_of(auth), await token_of(auth)
    before = await gate.pass_in(asks(token), _KIND)
    await auth.users.change("ann", grants=())
    now: Principal | None = gate.at_once(asks(token), _KIND) or await gate.pass_in(asks(token), _KIND)
    assert now is not None
    assert (now.grants, before.grants != ()) == ((), True)


async def test_the_short_way_counts_for_the_limit_too(auth: AuthService) -> None:
    gate, token = gate_of(auth, "3/minute"), await token_of(auth)
    for _ in range(3):
        if gate.at_once(asks(token), _KIND) is None:
            await gate.pass_in(asks(token), _KIND)
    assert gate.at_once(asks(token), _KIND) is None
    with pytest.raises(RateLimited):
        await gate.pass_in(asks(token), _KIND)


async def test_words_that_are_long_are_not_remembered(auth: AuthService) -> None:
    gate, token = gate_of(auth), await token_of(auth)
    for _ in range(2):
        assert gate.at_once(asks(token, b" " * 1_024), _KIND) is None
        await gate.pass_in(asks(token, b" " * 1_024), _KIND)
