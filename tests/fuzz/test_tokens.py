"""Forged access tokens: against the verifier by the thousand, and at every door of a real broker (D2, D3, D4, D5).

Not one of them lets anybody in, and the answer to each is the same 401, which does not tell what was wrong.
"""

from __future__ import annotations

import base64
import json
import re
import string
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from streambroker.core.errors import Unauthenticated
from streambroker.transport.auth.keys import KEY_FILE, SigningKeys
from streambroker.transport.auth.tokens import AccessTokens
from tests.fuzz.effort import tries
from tests.fuzz.forged import ANY_TEXT, Forger, signed
from tests.fuzz.insides import check_text
from tests.harness import PASSWORD, BrokerProcess
from tests.wire.problems import check_problem, check_refusal
from tests.wire.sockets import PROTOCOL, open_socket

pytestmark = pytest.mark.system

NOW = 1_800_000_000_000
TOKENS = AccessTokens(SigningKeys(bytes(range(32))), lifetime_ms=900_000)
FORGER = Forger(TOKENS.issue("ann", "session", "token", NOW), bytes(range(32)))
MUTANTS = dict(FORGER.mutants())
SHAPE = {"type", "title", "status", "detail", "instance", "code", "retryable"}
# Which door somebody knocked at may be told, and that a token was good once; not which check another one failed.
MOST_DETAILS = 4
LONGEST_IN_A_HANDSHAKE = 4_096  # longer header lines may be refused for their length


# ---- the verifier


def test_a_token_made_anew_with_the_same_tools_is_accepted() -> None:
    assert TOKENS.verify(FORGER.same(), NOW) == TOKENS.verify(FORGER.token, NOW)
    assert len(MUTANTS) > 350


def is_taken(token: str) -> bool:
    try:
        TOKENS.verify(token, NOW)
    except Unauthenticated:
        return False
    return True


def test_every_forged_token_is_refused() -> None:
    assert [name for name, text in MUTANTS.items() if is_taken(text)] == []


def test_a_padded_signature_is_refused() -> None:
    assert not is_taken(FORGER.token + "=")


@tries(1_000)
@given(st.data())
def test_a_token_with_a_few_edits_is_refused(data: st.DataObject) -> None:
    text = FORGER.token
    for _ in range(data.draw(st.integers(1, 4))):
        at, to = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        new = data.draw(st.text(string.ascii_letters + string.digits + "-_.+/= \n\0é\ud800", max_size=5))
        text = data.draw(st.sampled_from([text[:at] + new + text[to:], text[:at] + text[at:to] * 2 + text[to:]]))
    assume(text.rstrip("=") != FORGER.token)
    assert not is_taken(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@tries(1_000)
@given(st.sampled_from(sorted(FORGER.claims)), json_values)
def test_a_claim_of_any_other_json_value_is_refused(claim: str, value: Any) -> None:
    good = FORGER.claims[claim]
    assume(not (isinstance(value, str) and claim in ANY_TEXT and 1 <= len(value) <= 256))
    near = isinstance(good, int) and isinstance(value, int | float) and abs(value - good) <= 900
    assume(value != good and not near)
    payload = json.dumps({**FORGER.claims, claim: value}).encode()
    assert not is_taken(signed(FORGER.header, payload, FORGER.key))


@tries(1_000)
@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "zip"]), json_values, min_size=1))
def test_a_header_of_any_other_json_values_is_refused(changes: dict[str, Any]) -> None:
    header = {**FORGER.header, **changes}
    relevant = {name: header[name] for name in ("alg", "typ", "kid")}
    assume("crit" in changes or any(header[name] != FORGER.header[name] for name in relevant))
    assert not is_taken(signed(header, FORGER.payload, FORGER.key))


@tries(1_000)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_as_header_and_claims_are_refused(head: bytes, payload: bytes) -> None:
    assert not is_taken(signed(head, FORGER.payload, FORGER.key))
    assert not is_taken(signed(FORGER.header, payload, FORGER.key))


# ---- the doors


@pytest.fixture(scope="module")
def forger(broker: BrokerProcess, token: str) -> Forger:
    """As good as it gets: an admin's token that is good now, and the very key that the broker signs with."""
    return Forger(token, (broker.data_dir / KEY_FILE).read_bytes())


@pytest.fixture(scope="module")
def stranger(broker: BrokerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=broker.url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def writable(forger: Forger) -> dict[str, str]:
    """What can be written in a header at all."""
    return {name: text for name, text in forger.mutants() if text.isascii() and text.isprintable() and text.strip()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_forgers_tools_make_a_token_that_every_door_takes(
    broker: BrokerProcess, stranger: httpx.Client, forger: Forger
) -> None:
    assert stranger.get("/users/me", headers=bearer(forger.same())).status_code == 200
    for options in ({"token": forger.same()}, {"subprotocols": [PROTOCOL, f"bearer.{forger.same()}"]}):
        with open_socket(broker.ws_url + "/ws", **options) as socket:
            socket.op("welcome")
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send({"op": "hello", "token": forger.same()})
        socket.op("welcome")


def test_rest_answers_every_forged_token_with_the_same_401(stranger: httpx.Client, writable: dict[str, str]) -> None:
    details = set()
    for name, text in writable.items():
        if text.strip() == text:
            reply = stranger.get("/queues", headers=bearer(text))
            assert reply.status_code == 401, name
            problem = check_refusal(reply, "unauthenticated")
            assert set(problem) == SHAPE, name
            check_text(reply.text, text)
            details.add(problem["detail"])
    assert 1 <= len(details) <= MOST_DETAILS, details


def test_a_websocket_refuses_a_forged_token_before_the_upgrade(broker: BrokerProcess, writable: dict[str, str]) -> None:
    takes = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch  # RFC 9110 §5.6.2: what a subprotocol may consist of
    for index, (name, text) in enumerate(writable.items()):
        options: dict[str, Any] = {"token": text}
        if index % 2 and takes(text):
            options = {"subprotocols": [PROTOCOL, f"bearer.{text}"]}
        if text.strip() != text or len(text) > LONGEST_IN_A_HANDSHAKE:
            continue
        with pytest.raises(InvalidStatus) as refused, open_socket(broker.ws_url + "/ws", **options):
            pass
        response = refused.value.response
        assert response.status_code == 401, name
        assert response.headers["WWW-Authenticate"] == "Bearer"
        problem = json.loads(response.body)
        check_problem(problem, "unauthenticated")
        assert set(problem) == SHAPE, name


def test_a_hello_with_a_forged_token_closes_with_4401(broker: BrokerProcess, forger: Forger) -> None:
    for name, text in list(forger.mutants())[::2]:
        with open_socket(broker.ws_url + "/ws") as socket:
            socket.send({"op": "hello", "id": 1, "token": text})
            assert socket.close_code() == 4401, name
            assert "welcome" not in socket.ops(), name


def test_a_refresh_on_an_open_websocket_with_a_forged_token_changes_nothing(
    broker: BrokerProcess, token: str, forger: Forger
) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        for name, text in forger.mutants():
            if len(text) <= 8_192:
                problem = socket.error("refresh", token=text)
                assert problem["code"] == "unauthenticated", name
        socket.ok("refresh", token=token)


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
def test_a_token_in_the_url_is_400_and_comes_back_nowhere(
    broker: BrokerProcess, stranger: httpx.Client, forger: Forger, name: str
) -> None:
    some = [text for _, text in list(forger.mutants())[::10] if text.isascii() and text.isprintable()]
    for text in [forger.token, *some]:
        for path in ("/queues", "/login", "/healthz", "/no/such/path"):
            reply = stranger.get(path, params={name: text})
            if len(str(reply.url)) < 4_096:  # a longer one may be refused for its length
                check_refusal(reply, "malformed")
            assert reply.is_client_error
            assert len(text) < 10 or text not in reply.text


def test_tokens_of_one_kind_are_none_of_the_other(stranger: httpx.Client) -> None:
    pair = stranger.post("/login", json={"username": "admin", "password": PASSWORD}).json()
    key = stranger.post("/api-keys", json={"name": "fuzz"}, headers=bearer(pair["access_token"])).json()["key"]
    assert stranger.get("/queues", headers=bearer(key)).status_code == 200
    check_refusal(stranger.get("/queues", headers=bearer(pair["refresh_token"])), "unauthenticated")
    for text in (pair["access_token"], key, "sbr_" + key[4:], "sbk_" + pair["refresh_token"][4:]):
        check_refusal(stranger.post("/refresh", json={"refresh_token": text}), "unauthenticated")
    for text in ("sbk_" + pair["refresh_token"][4:], "sbr_" + key[4:], key[:-1], key + "A", key[4:], key.upper()):
        check_refusal(stranger.get("/queues", headers=bearer(text)), "unauthenticated")
    # None of these attempts cost the session anything.
    assert stranger.post("/refresh", json={"refresh_token": pair["refresh_token"]}).status_code == 200


def test_forged_refresh_tokens_are_refused(stranger: httpx.Client, forger: Forger) -> None:
    for name, text in list(forger.mutants())[::3]:
        if 1 <= len(text) <= 8_192:
            reply = stranger.post("/refresh", json={"refresh_token": text})
            assert reply.status_code == 401, name
            check_refusal(reply, "unauthenticated")


def test_no_scheme_but_bearer_is_taken(stranger: httpx.Client, forger: Forger) -> None:
    basic = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    token = forger.token
    schemes = ["", "Token ", "JWT ", "Bearer", "Bearer: ", "Bearer Bearer ", "bearer=", "Bearer,"]
    for value in [f"Basic {basic}", *(scheme + token for scheme in schemes), f"Bearer {token} {token}"]:
        check_refusal(stranger.get("/queues", headers={"Authorization": value}), "unauthenticated")
    assert stranger.get("/queues", headers={"Authorization": f"bEaReR   {token}"}).status_code == 200
