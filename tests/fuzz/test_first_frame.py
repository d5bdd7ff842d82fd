"""Random conversations on a WebSocket: before the hello, in it, and after it.

To whatever a client says the broker answers with frames of its protocol, or closes with a code that says what was wrong
with it. It never fails at it: no 4500, no 1011, no connection that just ends, nothing in the log.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.fuzz.conversation import ANSWERS, QUEUE, RAW_TEXTS, RIGHT, nearly_right, sayings
from tests.fuzz.effort import tries
from tests.fuzz.insides import check_text
from tests.harness import BrokerProcess
from tests.wire.problems import STATUS, check_problem
from tests.wire.sockets import Closed, Socket, open_socket

pytestmark = pytest.mark.system

BAD_FRAME, UNAUTHENTICATED, TOO_BIG = 4400, 4401, 4413
MAX_FRAME = 1_114_112

conversations = st.lists(sayings, min_size=1, max_size=6)


def said(saying: str | bytes) -> str | bytes:
    """As it can be sent: a text frame is UTF-8, which has no half surrogate pairs."""
    return saying.encode("utf-8", "replace").decode() if isinstance(saying, str) else saying


def talk(socket: Socket, sayings: list[str | bytes]) -> int | None:
    """Say all that; the code with which the broker closed, None where it goes on listening.

    All answers are in the socket's inbox then.
    """
    try:
        for saying in sayings:
            socket.send_raw(said(saying))
        # A publish is answered once it is stored, and so after everything that was said before it.
        last = uuid.uuid4().hex
        socket.send({"op": "publish", "id": last, "queue": f"{QUEUE}-end", "messages": [{"content": None}]})
        assert socket.answer(last)["op"] == "ok"
    except (Closed, ConnectionClosed):
        code = socket.close_code()
        assert code is not None, f"the connection just ended after {sayings!r}"
        return code
    return None


def check_answers(socket: Socket, asked: list[str | bytes]) -> None:
    """Every answer is a frame of the protocol; an error is a whole problem, and none tells of the broker's insides."""
    for frame in socket.inbox:
        assert isinstance(frame, dict), frame
        assert frame["op"] in ANSWERS, frame
        if frame["op"] == "error":
            check_problem(frame["problem"], set(STATUS))
            check_text(json.dumps(frame, ensure_ascii=False), str(asked))


@tries(400)
@given(conversations)
def test_any_conversation_is_answered_or_closed_with_a_reason(
    broker: BrokerProcess, token: str, sayings: list[str | bytes]
) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        assert talk(socket, sayings) in {None, BAD_FRAME, TOO_BIG}, sayings
        check_answers(socket, sayings)


@tries(400)
@given(st.lists(nearly_right(), min_size=1, max_size=8))
def test_an_object_is_never_a_bad_frame(broker: BrokerProcess, token: str, given: list[Any]) -> None:
    """Contract §5: an unknown op or a bad field is an error frame; only what is no JSON object closes."""
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        frames = [{**frame, "id": f"fuzz-{index}"} for index, frame in enumerate(given)]
        assert talk(socket, [json.dumps(frame) for frame in frames]) is None
        answered = {frame.get("id") for frame in socket.inbox}
        assert {frame["id"] for frame in frames if frame.get("op") != "ping"} <= answered
        check_answers(socket, [json.dumps(frames)])


@tries(400)
@given(conversations)
def test_who_has_not_said_hello_hears_nothing_but_a_close(broker: BrokerProcess, sayings: list[str | bytes]) -> None:
    with open_socket(broker.ws_url + "/ws") as socket:
        assert talk(socket, sayings) in {BAD_FRAME, UNAUTHENTICATED, TOO_BIG}, sayings
        assert socket.inbox == []


@tries(200)
@given(conversations)
def test_what_comes_with_a_good_hello_is_answered_as_after_it(
    broker: BrokerProcess, token: str, sayings: list[str | bytes]
) -> None:
    hello = json.dumps({"op": "hello", "id": "h", "token": token})
    texts = [saying for saying in sayings if isinstance(saying, str)]
    first = f"[{','.join([hello, *texts])}]"
    with open_socket(broker.ws_url + "/ws") as socket:
        code = talk(socket, [first, *sayings])
        assert code in {None, BAD_FRAME, UNAUTHENTICATED, TOO_BIG}, first
        assert code is not None or "welcome" in socket.ops() or socket.inbox == []
        check_answers(socket, [first, *sayings])


@pytest.mark.parametrize("index", range(len(RAW_TEXTS)))
def test_json_at_its_edges_is_answered_or_closed_with_a_reason(broker: BrokerProcess, token: str, index: int) -> None:
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        assert talk(socket, [RAW_TEXTS[index]]) in {None, BAD_FRAME}
        check_answers(socket, [RAW_TEXTS[index]])
    with open_socket(broker.ws_url + "/ws") as socket:
        assert talk(socket, [RAW_TEXTS[index]]) in {BAD_FRAME, UNAUTHENTICATED, TOO_BIG}


@pytest.mark.parametrize("kind", [str, bytes])
def test_a_frame_too_big_for_a_hello_is_4413(broker: BrokerProcess, kind: type) -> None:
    text = '{"op":"hello"}'.ljust(MAX_FRAME + 1)
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send_raw(text if kind is str else text.encode())
        assert socket.close_code() == TOO_BIG


@tries(100)
@given(st.lists(st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,30}", fullmatch=True), min_size=1, max_size=5))
def test_any_subprotocols_are_chosen_from_or_refused(broker: BrokerProcess, token: str, offered: list[str]) -> None:
    refusal = None
    try:
        with open_socket(broker.ws_url + "/ws", token=token, subprotocols=offered) as socket:
            socket.op("welcome")
            assert socket.connection.subprotocol in {None, *offered}
    except InvalidStatus as refused:
        refusal = refused.response
    if refusal is not None:
        assert refusal.status_code in {400, 401}
        check_text(refusal.body.decode(), str(offered))


def test_every_right_frame_is_right(broker: BrokerProcess, token: str) -> None:
    """What the random frames are made from: were these wrong, the tests above would only ever see refusals."""
    with open_socket(broker.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        for frame in RIGHT:
            if "token" in frame:
                frame = {**frame, "token": token}
            if frame["op"] == "unsubscribe":
                continue
            if frame["op"] == "ping":
                socket.settle_down()
            else:
                socket.ok(**frame)
        socket.ok("unsubscribe", sub="s")
