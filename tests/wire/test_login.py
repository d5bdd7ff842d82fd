"""Logging in, refreshing, and the three ways to say who you are on a WebSocket (contract §2, §5)."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.harness import PASSWORD, BrokerProcess
from tests.wire.doors import JSON, body
from tests.wire.problems import check_problem, check_refusal
from tests.wire.sockets import PROTOCOL, Closed, Socket, open_socket

Pair = dict[str, Any]


def log_in(stranger: httpx.Client, password: str = PASSWORD, username: str = "admin") -> httpx.Response:
    return stranger.post("/login", content=body({"username": username, "password": password}), headers=JSON)


def refresh(stranger: httpx.Client, token: str) -> httpx.Response:
    return stranger.post("/refresh", content=body({"refresh_token": token}), headers=JSON)


def may(stranger: httpx.Client, token: str) -> bool:
    reply = stranger.get("/queues", headers={"Authorization": f"Bearer {token}"})
    if reply.status_code != 200:
        check_refusal(reply, "unauthenticated")
    return reply.status_code == 200


@pytest.fixture
def pair(stranger: httpx.Client) -> Pair:
    reply = log_in(stranger)
    assert reply.status_code == 200, reply.text
    tokens: Pair = reply.json()
    return tokens


def test_a_login_gives_a_pair_of_tokens(stranger: httpx.Client, pair: Pair) -> None:
    assert set(pair) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert pair["token_type"] == "bearer"
    assert pair["expires_in"] == 900
    assert may(stranger, pair["access_token"])


def test_an_access_token_is_a_jwt_with_all_its_claims(pair: Pair) -> None:
    assert jwt.get_unverified_header(pair["access_token"])["alg"] == "HS256"
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    assert {"iss", "aud", "sub", "sid", "jti", "iat", "exp"} <= set(claims)
    assert claims["sub"] == "admin"
    assert claims["exp"] - claims["iat"] == 900


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("admin", "admin"),
        ("admin", ""),
        ("admin", PASSWORD + " "),
        ("admin", "x" * 5000),
        ("nobody", PASSWORD),
        ("", ""),
        ("admin\u0000", PASSWORD),
        ("' OR 1=1 --", "x"),
    ],
)
def test_a_wrong_login_is_refused(stranger: httpx.Client, username: str, password: str) -> None:
    check_refusal(log_in(stranger, password, username), {"unauthenticated", "invalid"})


def test_a_wrong_name_and_a_wrong_password_look_the_same(stranger: httpx.Client) -> None:
    wrong_name = check_refusal(log_in(stranger, "wrong", "nobody"), "unauthenticated")
    wrong_password = check_refusal(log_in(stranger, "wrong"), "unauthenticated")
    assert wrong_name["detail"] == wrong_password["detail"]


def forged(pair: Pair, *, alg: str = "HS256", key: str = "k" * 32, **changes: Any) -> str:
    claims = jwt.decode(pair["access_token"], options={"verify_signature": False})
    claims |= changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=alg)


def unsigned(pair: Pair) -> str:
    claims = pair["access_token"].split(".")[1]
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{header}.{claims}."


def test_a_token_that_the_broker_did_not_sign_is_refused(stranger: httpx.Client, pair: Pair) -> None:
    header, claims, signature = pair["access_token"].split(".")
    altered = base64.urlsafe_b64encode(
        json.dumps({**jwt.decode(pair["access_token"], options={"verify_signature": False}), "sub": "root"}).encode()
    )
    for token in [
        unsigned(pair),
        forged(pair),
        forged(pair, exp=int(time.time()) + 10**6),
        f"{header}.{altered.rstrip(b'=').decode()}.{signature}",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{claims}",
        pair["access_token"] + ".x",
        "x" * 100_00,
    ]:
        assert not may(stranger, token), token[:200]
    assert may(stranger, pair["access_token"])


def test_the_two_tokens_can_not_stand_for_each_other(stranger: httpx.Client, pair: Pair) -> None:
    assert not may(stranger, pair["refresh_token"])
    check_refusal(refresh(stranger, pair["access_token"]), "unauthenticated")


@pytest.mark.parametrize("token", ["", "garbage", "a.b.c", "x" * 3000])
def test_a_refresh_token_that_nobody_gave_is_refused(stranger: httpx.Client, token: str) -> None:
    check_refusal(refresh(stranger, token), {"unauthenticated", "invalid"} if not token else "unauthenticated")


def test_a_refresh_gives_a_new_pair(stranger: httpx.Client, pair: Pair) -> None:
    reply = refresh(stranger, pair["refresh_token"])
    assert reply.status_code == 200, reply.text
    renewed = reply.json()
    assert set(renewed) == set(pair)
    assert renewed["refresh_token"] != pair["refresh_token"]
    assert renewed["access_token"] != pair["access_token"]
    assert may(stranger, renewed["access_token"])
    assert may(stranger, pair["access_token"])  # it ends by itself
    assert refresh(stranger, renewed["refresh_token"]).status_code == 200


def test_of_refreshes_at_the_same_moment_one_wins_and_nothing_is_revoked(stranger: httpx.Client, pair: Pair) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: refresh(stranger, pair["refresh_token"]), range(4)))
    won = [reply for reply in replies if reply.status_code == 200]
    assert len(won) == 1
    for reply in replies:
        if reply not in won:
            check_refusal(reply, "refresh_raced")
    assert may(stranger, won[0].json()["access_token"])
    assert refresh(stranger, won[0].json()["refresh_token"]).status_code == 200


def test_a_used_refresh_token_played_again_later_revokes_its_family(stranger: httpx.Client, pair: Pair) -> None:
    other = log_in(stranger).json()
    renewed = refresh(stranger, pair["refresh_token"]).json()
    deadline = time.monotonic() + 60
    while (replay := refresh(stranger, pair["refresh_token"])).status_code == 409:
        check_refusal(replay, "refresh_raced")
        assert time.monotonic() < deadline
        time.sleep(0.5)
    check_refusal(replay, "unauthenticated")
    check_refusal(refresh(stranger, renewed["refresh_token"]), "unauthenticated")
    assert refresh(stranger, other["refresh_token"]).status_code == 200  # another family


# ---- WebSocket


def check_welcome(frame: dict[str, Any]) -> None:
    assert frame["op"] == "welcome"
    assert isinstance(frame["session"], str)
    assert frame["session"]
    assert frame["heartbeat_ms"] == 10_000
    assert frame["max_frame"] == 1_114_112
    assert 0 < frame["expires_in"] <= 900


def check_works(socket: Socket) -> None:
    socket.settle_down()
    socket.ok("publish", queue="login-ws", messages=[{"content": 1}])


def test_a_header_logs_a_websocket_in(broker: BrokerProcess, token: str) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        check_welcome(socket.op("welcome"))
        check_works(socket)


def test_a_subprotocol_item_logs_a_websocket_in_and_is_not_echoed(broker: BrokerProcess, token: str) -> None:
    for offered in ([PROTOCOL, f"bearer.{token}"], [f"bearer.{token}", PROTOCOL]):
        with open_socket(broker.ws_url + "/ws", subprotocols=offered) as socket:
            assert socket.connection.subprotocol == PROTOCOL
            check_welcome(socket.op("welcome"))
            check_works(socket)


def test_a_hello_logs_a_websocket_in(broker: BrokerProcess, token: str) -> None:
    for subprotocols in (None, [PROTOCOL]):
        with open_socket(broker.ws_url + "/ws", subprotocols=subprotocols) as socket:
            assert socket.connection.subprotocol == (PROTOCOL if subprotocols else None)
            socket.send({"op": "hello", "id": 1, "token": token})
            welcome = socket.op("welcome")
            assert welcome["id"] == 1
            check_welcome(welcome)
            check_works(socket)


def test_a_hello_in_the_first_array_lets_the_rest_of_it_in(broker: BrokerProcess, token: str) -> None:
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send(
            {"op": "hello", "id": 1, "token": token},
            {"op": "publish", "id": 2, "queue": "login-ws", "messages": [{"content": 1}]},
        )
        assert socket.answer(1)["op"] == "welcome"
        assert socket.answer(2)["op"] == "ok"


def test_a_hello_after_the_welcome_is_ok(broker: BrokerProcess, token: str) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        socket.ok("hello", token=token)
        check_works(socket)


def test_the_subprotocol_is_there_without_any_other_auth_too(broker: BrokerProcess, token: str) -> None:
    with open_socket(broker.ws_url + "/ws", token=token, subprotocols=[PROTOCOL]) as socket:
        assert socket.connection.subprotocol == PROTOCOL
        check_welcome(socket.op("welcome"))


@pytest.mark.parametrize("path", ["/ws", "/queues/login-ws/ws"])
@pytest.mark.parametrize("bad", ["garbage", "a.b.c", "sbk_nope"])
def test_a_bad_token_is_refused_before_the_upgrade(broker: BrokerProcess, path: str, bad: str) -> None:
    for options in ({"token": bad}, {"subprotocols": [PROTOCOL, f"bearer.{bad}"]}):
        with pytest.raises(InvalidStatus) as refused, open_socket(broker.ws_url + path, **options):
            pass
        response = refused.value.response
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].lower().startswith("bearer")
        check_problem(json.loads(response.body), "unauthenticated")


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
def test_a_token_in_the_query_string_is_refused_before_the_upgrade(
    broker: BrokerProcess, token: str, name: str
) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        open_socket(f"{broker.ws_url}/ws?{name}={token}", token=token),
    ):
        pass
    assert refused.value.response.status_code == 400
    assert token.encode() not in refused.value.response.body


@pytest.mark.parametrize("bad", ["garbage", "a.b.c", ""])
def test_a_hello_with_a_bad_token_closes_with_4401(broker: BrokerProcess, bad: str) -> None:
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send({"op": "hello", "id": 1, "token": bad})
        assert socket.close_code() == 4401
        assert "welcome" not in socket.ops()


def test_nothing_is_done_for_who_has_not_said_hello(broker: BrokerProcess, api: httpx.Client) -> None:
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send({"op": "publish", "id": 1, "queue": "no-hello", "messages": [{"content": 1}]})
        try:
            assert socket.take(lambda frame: frame.get("id") == 1)["op"] == "error"
        except Closed:
            assert socket.close_code() in (4401, 4400)
    check_refusal(api.get("/queues/no-hello"), "not_found")


def test_who_does_not_say_hello_is_closed_with_4408_whatever_he_pings(broker: BrokerProcess) -> None:
    with (
        open_socket(broker.ws_url + "/ws") as silent,
        open_socket(broker.ws_url + "/queues/login-ws/ws") as other,
        open_socket(broker.ws_url + "/ws") as pinging,
        ThreadPoolExecutor(3) as pool,
    ):
        ends = [pool.submit(each.close_code, 60) for each in (silent, other, pinging)]
        while not ends[2].done():
            with suppress(ConnectionClosed):
                pinging.connection.ping()
            wait(ends[2:], timeout=0.5)
        assert [end.result() for end in ends] == [4408, 4408, 4408]
        assert silent.inbox == other.inbox == pinging.inbox == []


def test_a_refresh_on_the_websocket_takes_a_new_token(
    broker: BrokerProcess, stranger: httpx.Client, pair: Pair
) -> None:
    renewed = refresh(stranger, pair["refresh_token"]).json()
    with open_socket(broker.ws_url + "/ws", token=pair["access_token"]) as socket:
        socket.op("welcome")
        socket.ok("refresh", token=renewed["access_token"])
        check_works(socket)


def test_a_refresh_with_a_bad_token_is_refused(broker: BrokerProcess, token: str) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        socket.send({"op": "refresh", "id": 1, "token": "garbage"})
        try:
            frame = socket.answer(1)
            assert frame["op"] == "error"
            check_problem(frame["problem"], "unauthenticated")
        except Closed:
            assert socket.close_code() == 4401
