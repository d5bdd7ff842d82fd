"""How connections end: every close code that a client can bring about, and the deadlines (contract §5, §7.14)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import JSON, Queue, body, eventually
from tests.wire.problems import check_problem, check_refusal
from tests.wire.sockets import Closed, Socket, open_socket

Connect = Callable[..., Socket]


@pytest.mark.parametrize(
    "frame",
    [
        "",
        " ",
        "{",
        "hello",
        '{"op":"ping"} {"op":"ping"}',
        "{'op':'ping'}",
        '{"op": NaN}',
        "5",
        "null",
        "true",
        '"ping"',
        "[1]",
        "[null]",
        '[{"op":"ping"}, 1]',
        '[[{"op":"ping"}]]',
        b"\xff\xfe",
        b'{"op":"ping", "id":"\xff"}',
        b"\x00",
        b"",
    ],
    ids=ascii,
)
def test_what_is_no_frame_closes_with_4400(ws: Socket, frame: str | bytes) -> None:
    ws.send_raw(frame)
    assert ws.close_code() == 4400


@pytest.mark.parametrize("frame", ["{", "5", b"\xff"])
def test_what_is_no_frame_closes_with_4400_before_the_hello_too(broker: BrokerProcess, frame: str | bytes) -> None:
    with open_socket(broker.ws_url + "/ws") as socket:
        socket.send_raw(frame)
        assert socket.close_code() == 4400


@pytest.mark.parametrize("size", [1_114_113, 3_000_000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_frame_that_is_too_big_closes_with_4413(ws: Socket, size: int, kind: type) -> None:
    frame = '{"op":"ping","x":"' + "x" * (size - 20) + '"}'
    assert len(frame) == size
    with suppress(ConnectionClosed):  # the broker need not wait for the end of it
        ws.send_raw(frame if kind is str else frame.encode())
    assert ws.close_code() == 4413


def test_a_big_frame_in_many_fragments_closes_with_4413(ws: Socket) -> None:
    with suppress(ConnectionClosed):
        ws.connection.send("x" * 65536 for _ in range(40))
    assert ws.close_code() == 4413


def test_the_biggest_frame_is_taken(ws: Socket) -> None:
    frame = '{"op":"ping"}'
    ws.send_raw(frame + " " * (1_114_112 - len(frame)))
    ws.op("pong")


def test_a_bad_frame_gives_back_what_was_held(connect: Connect, queue: Queue) -> None:
    message_id = queue.publish()
    ws = connect()
    ws.ok("subscribe", queue=queue.name)
    ws.deliveries(1)
    ws.send_raw("{")
    assert ws.close_code() == 4400
    assert queue.take()["message_id"] == message_id


def refusal(url: str, token: str) -> int | None:
    """The status with which the upgrade is refused, or the code with which the connection is closed."""
    try:
        with open_socket(url, token=token) as opened:
            return opened.close_code()
    except InvalidStatus as refused:
        status: int = refused.response.status_code
        return status


@pytest.mark.parametrize("path", ["/no/such/socket", "/ws/more", "/queues/q"])
def test_a_socket_that_is_not_there_is_refused(broker: BrokerProcess, token: str, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused, open_socket(broker.ws_url + path, token=token):
        pass
    assert refused.value.response.status_code in (400, 403, 404, 405, 426)


@pytest.mark.parametrize("path", ["-bad/ws", "a%20b/ws", "fine/ws?credit=0", "fine/ws?credit=abc", "fine/ws?credit="])
def test_a_bad_queue_socket_is_refused_or_closed(broker: BrokerProcess, token: str, path: str) -> None:
    """Before the upgrade or after it: the contract does not say which."""
    assert refusal(f"{broker.ws_url}/queues/{path}", token) in (400, 404, 422, 4400, 4404, 1008)


# ---- deadlines: these wait for the broker's own clock, all at the same time


class Silent:
    """A connection that answers no ping and reads only when told: sans-I/O, so that nothing is automatic."""

    def __init__(self, broker: BrokerProcess, token: str) -> None:
        uri = parse_uri(broker.ws_url + "/ws")
        self.socket = socket.create_connection((uri.host, uri.port), timeout=100)
        self.protocol = ClientProtocol(uri)
        request = self.protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        self.protocol.send_request(request)
        self.flush()
        while self.protocol.state.name == "CONNECTING":
            self.protocol.receive_data(self.socket.recv(65536))

    def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)

    def send(self, text: str) -> None:
        self.protocol.send_text(text.encode())
        self.flush()

    def read_until_the_end(self) -> int | None:
        """Read without ever sending anything, a pong least of all; the close code, or ``None`` for a bare end."""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                    return int.from_bytes(event.data[:2], "big")


def test_peers_that_do_not_answer_or_do_not_read_are_cut_off_and_others_do_not_feel_it(
    broker: BrokerProcess, token: str, api: httpx.Client
) -> None:
    """One test for both, because each of them takes the broker two heartbeats."""
    frail, backlog, other = Queue(api, max_attempts=1), Queue(api, max_attempts=0), Queue(api)
    frail_id = frail.publish()
    for _ in range(24):
        backlog.publish("x" * 1_000_000)
    mute, stuck = Silent(broker, token), Silent(broker, token)
    mute.send(f'{{"op":"subscribe","queue":"{frail.name}"}}')
    stuck.send(f'{{"op":"subscribe","queue":"{backlog.name}","credit":1000}}')
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(mute.read_until_the_end)
        eventually(frail.counts, lambda counts: counts["processing"] == 1)
        eventually(backlog.counts, lambda counts: counts["processing"] > 0)
        for n in range(5):
            other.publish(n)
            assert other.take()["content"] == n
        failed = eventually(lambda: frail.browse(status="failed"), timeout=60)
        assert failed[0]["message_id"] == frail_id  # a lost connection counts a failure
        assert end.result(timeout=60) == 4509
    eventually(backlog.counts, lambda counts: counts["processing"] == 0, timeout=60)
    assert backlog.counts()["pending"] == 24
    mute.socket.close()
    stuck.socket.close()


# ---- a broker with other settings


def settings(**more: str) -> dict[str, str]:
    return {**NO_LIMITS, **{f"STREAMBROKER_{name.upper()}": value for name, value in more.items()}}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """Queues are made by hand."""
    with BrokerProcess(tmp_path_factory.mktemp("strict") / "data", env=settings(auto_create_queues="off")) as running:
        yield running


@pytest.fixture
def strict_token(strict: BrokerProcess) -> str:
    return strict.token()


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A token lives for five seconds."""
    with BrokerProcess(tmp_path_factory.mktemp("brief") / "data", env=settings(access_token_ms="5000")) as running:
        yield running


@pytest.fixture
def brief_token(brief: BrokerProcess) -> str:
    """One that has just been given."""
    brief._token = ""
    return brief.token()


def test_without_auto_create_an_unknown_queue_is_not_found(strict: BrokerProcess, strict_token: str) -> None:
    headers = {"Authorization": f"Bearer {strict_token}"}
    with httpx.Client(base_url=strict.url, headers=headers, trust_env=False) as api:
        for method, path, content in [
            ("POST", "/queues/unknown/messages", b'{"content": 1}'),
            ("POST", "/queues/unknown/messages", b'{"content": 1, "priority": 77}'),
            ("POST", "/queues/unknown/messages/batch", b'{"messages": [{"content": 1}]}'),
            ("POST", "/publish", b'{"queue": "unknown", "content": 1}'),
            ("GET", "/queues/unknown/messages/consume", None),
            ("POST", "/queues/unknown/messages/consume", b'{"max": 1}'),
            ("POST", "/consume", b'{"queues": ["unknown"], "max": 1, "wait_ms": 0}'),
        ]:
            check_refusal(api.request(method, path, content=content, headers=JSON), "not_found")
        check_refusal(api.post("/queues/not%20a%20name/messages", content=b'{"content": 1}', headers=JSON), "invalid")
        assert api.post("/queues", content=b'{"name": "known"}', headers=JSON).status_code == 201
        assert api.post("/queues/known/messages", content=b'{"content": 1}', headers=JSON).status_code == 201
        assert [item["name"] for item in api.get("/queues").json()["items"]] == ["known"]


def test_without_auto_create_a_socket_of_an_unknown_queue_closes_with_4404(
    strict: BrokerProcess, strict_token: str
) -> None:
    assert refusal(strict.ws_url + "/queues/unknown/ws", strict_token) in (404, 4404)
    with open_socket(strict.ws_url + "/queues/unknown/ws") as opened:
        opened.send({"op": "hello", "token": strict_token})
        assert opened.close_code() == 4404


@pytest.mark.parametrize(("op", "fields"), [("subscribe", {}), ("publish", {"messages": [{"content": 1}]})])
def test_without_auto_create_an_op_on_an_unknown_queue_is_not_found(
    strict: BrokerProcess, strict_token: str, op: str, fields: dict[str, Any]
) -> None:
    with open_socket(strict.ws_url + "/ws", token=strict_token) as opened:
        opened.op("welcome")
        try:
            check_problem(opened.error(op, queue="unknown", **fields), "not_found")
        except Closed:
            assert opened.close_code() == 4404


def test_a_token_that_ends_ends_its_socket_with_4450_after_a_warning(brief: BrokerProcess, brief_token: str) -> None:
    with ExitStack() as stack:
        by_header = stack.enter_context(open_socket(brief.ws_url + "/ws", token=brief_token))
        by_hello = stack.enter_context(open_socket(brief.ws_url + "/ws"))
        by_hello.send({"op": "hello", "id": 1, "token": brief_token})
        for opened in (by_header, by_hello):
            assert 0 <= opened.op("welcome")["expires_in"] <= 5
        for opened in (by_header, by_hello):
            assert opened.close_code(60) == 4450
            warnings = [frame for frame in opened.inbox if frame["op"] == "expiring"]
            assert len(warnings) == 1
            assert 0 <= warnings[0]["expires_in"] <= 60


def test_a_token_that_ended_lets_nobody_in(brief: BrokerProcess, brief_token: str) -> None:
    def status() -> int:
        reply = httpx.get(f"{brief.url}/queues", headers={"Authorization": f"Bearer {brief_token}"}, trust_env=False)
        if reply.status_code != 200:
            check_refusal(reply, "unauthenticated")
        return reply.status_code

    assert status() == 200
    eventually(status, lambda seen: seen == 401)
    with pytest.raises(InvalidStatus) as refused, open_socket(brief.ws_url + "/ws", token=brief_token):
        pass
    assert refused.value.response.status_code == 401


def test_a_refresh_keeps_a_socket_open(brief: BrokerProcess, brief_token: str) -> None:
    url = brief.ws_url + "/ws"
    with open_socket(url, token=brief_token) as old, open_socket(url, token=brief_token) as kept:
        old.op("welcome")
        kept.op("welcome")
        with ThreadPoolExecutor(1) as pool:
            end = pool.submit(old.close_code, 60)
            while not end.done():
                brief._token = ""
                kept.ok("refresh", token=brief.token())
                wait([end], timeout=0.5)
            assert end.result() == 4450
        kept.settle_down()


# ---- a broker that stops


def test_a_broker_that_drains_says_so_and_lets_its_consumers_finish(tmp_path_factory: pytest.TempPathFactory) -> None:
    env = settings(drain_timeout_ms="6000")
    with BrokerProcess(tmp_path_factory.mktemp("drains") / "data", env=env) as broker, ExitStack() as stack:
        api = stack.enter_context(broker.client())
        pool = stack.enter_context(ThreadPoolExecutor(3))
        busy, empty = Queue(api, "busy"), Queue(api, "empty")
        first, second = busy.publish_many(1, 2)
        ws = stack.enter_context(open_socket(broker.ws_url + "/ws", token=broker.token()))
        ws.op("welcome")
        ws.ok("subscribe", queue="busy")
        assert len(ws.deliveries(2)) == 2
        poll: Future[Any] = pool.submit(empty.consume, 30_000)
        many = pool.submit(empty.take_many, 5, 30_000)
        empty.await_consumers(2)

        stopped = pool.submit(broker.terminate)
        draining = ws.op("draining")
        assert draining["deadline_ms"] <= 6000
        assert poll.result(timeout=60) is None
        assert many.result(timeout=60) == []
        assert ws.ok("ack", ids=[first])["results"][0]["ok"]
        check_problem(ws.error("publish", queue="busy", messages=[{"content": 3}]), "draining")
        try:
            reply = api.post("/queues/busy/messages", content=body({"content": 3}), headers=JSON)
            check_refusal(reply, "draining")
            assert api.get("/readyz").status_code == 503
        except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
            pass  # a listener that is closed already has answered too
        assert ws.close_code(60) == 4503
        assert stopped.result(timeout=60) == 0

        broker.start()
        with broker.client() as again:
            assert [m["message_id"] for m in Queue(again, "busy").take_many(10, wait_ms=40_000)] == [second]


def test_the_broker_of_this_session_has_met_no_unhandled_error(broker: BrokerProcess) -> None:
    assert not [line for line in broker.output if "Traceback" in line or "Task exception" in line], broker.output
