"""What HTTP itself asks of a server: HEAD, answers without a body, the upgrade's headers, and escapes in a URL."""

from __future__ import annotations

import base64
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import JSON, Messages, Queue, body, fresh_name, instant
from tests.wire.problems import check_refusal
from tests.wire.sockets import open_socket

MIB = 1024 * 1024


def raw(broker: BrokerProcess, token: str, *requests: str) -> bytes:
    """All that the broker sends for these requests on one connection, the last of which asks it to close."""
    url = httpx.URL(broker.url)
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        for number, line in enumerate(requests, 1):
            last = "Connection: close\r\n" if number == len(requests) else ""
            head = f"{line} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
            connection.sendall(head.encode())
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


# -- HEAD


@pytest.mark.parametrize("path", ["/healthz", "/queues", "/stats", "/openapi.json", "/no/such/path", "/queues/none"])
def test_head_is_answered_like_get_without_the_body(broker: BrokerProcess, token: str, path: str) -> None:
    head, rest = raw(broker, token, f"HEAD {path}").split(b"\r\n\r\n", 1)
    assert rest == b""
    got, _ = raw(broker, token, f"GET {path}").split(b"\r\n\r\n", 1)
    assert head.split(b"\r\n")[0] == got.split(b"\r\n")[0]

    def names(text: bytes) -> set[bytes]:
        return {line.split(b":")[0].lower() for line in text.split(b"\r\n")[1:]}

    assert names(head) == names(got)


def test_a_connection_goes_on_after_head(broker: BrokerProcess, token: str, queue: Queue) -> None:
    queue.publish()
    received = raw(
        broker, token, "HEAD /queues", "GET /healthz", f"HEAD {queue.path}", "HEAD /no/such/path", "GET /readyz"
    )
    assert received.count(b"HTTP/1.1 ") == 5
    assert received.count(b'{"status":"alive"}') == 1
    assert received.endswith(b'{"status":"ready"}')


def test_head_on_consume_is_not_allowed_and_takes_no_message(api: httpx.Client, queue: Queue) -> None:
    queue.publish()
    reply = api.head(queue.path + "/messages/consume")
    assert reply.status_code == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "POST"}
    assert reply.content == b""
    assert queue.counts()["pending"] == 1
    assert queue.take()["attempt"] == 1


def test_head_still_asks_who_you_are(stranger: httpx.Client, queue: Queue) -> None:
    for path in ("/queues", queue.path + "/messages/consume"):
        reply = stranger.head(path)
        assert reply.status_code == 401
        assert reply.content == b""


# -- answers without a body, and the upgrade


def test_an_answer_without_content_says_nothing_of_content(api: httpx.Client, queue: Queue) -> None:
    queue.publish()
    reply = api.delete(queue.path)
    assert reply.status_code == 204
    assert reply.content == b""
    assert reply.headers["x-request-id"]
    for header in ("content-type", "content-length", "transfer-encoding"):
        assert header not in reply.headers
    assert api.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/ws", "/v1/ws", "/queues/{}/ws"])
def test_an_upgrade_echoes_the_request_id_or_makes_one(broker: BrokerProcess, token: str, path: str) -> None:
    url = broker.ws_url + path.format(fresh_name())
    with open_socket(url, token=token) as made:
        assert made.connection.response is not None
        assert made.connection.response.headers["x-request-id"]
    url = broker.url + path.format(fresh_name())
    headers = {
        "Authorization": f"Bearer {token}",
        "X-Request-ID": "my-upgrade.42",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode(),
    }
    with httpx.stream("GET", url, headers=headers, trust_env=False, timeout=60) as upgraded:
        assert upgraded.status_code == 101
        assert upgraded.headers["x-request-id"] == "my-upgrade.42"


# -- the query


@pytest.mark.parametrize("name", ["token", "%74oken", "to%6Ben", "access%5Ftoken", "api%5fkey", "%61ccess_token"])
@pytest.mark.parametrize("form", ["?{}=x", "?a=1&{}=x", "?{}="])
def test_a_token_in_the_query_is_refused_however_it_is_spelled(api: httpx.Client, name: str, form: str) -> None:
    for path in ("/healthz", "/queues", "/no/such/path"):
        # What httpx would make of the escapes is not what is tested here.
        target = (path + form.format(name)).encode()
        reply = api.send(api.build_request("GET", api.base_url.copy_with(raw_path=target)))
        check_refusal(reply, "malformed")


def test_a_value_that_only_looks_like_a_token_parameter_is_no_reason_to_refuse(queue: Queue) -> None:
    queue.publish("a&token=b")
    queue.publish("other")
    assert [message["content"] for message in queue.browse(contains="a&token=b")] == ["a&token=b"]


# -- sizes


def test_base64_content_of_exactly_the_largest_size_is_taken(api: httpx.Client, queue: Queue) -> None:
    content = bytes(range(256)) * (MIB // 256)
    text = base64.b64encode(content).decode()
    for path, more in ((queue.path + "/messages", {}), ("/publish", {"queue": queue.name})):
        reply = api.post(path, content=body({"content_base64": text, **more}), headers=JSON)
        assert reply.status_code == 201, reply.text
        assert base64.b64decode(queue.take()["content_base64"]) == content
    longer = base64.b64encode(content + b"x").decode()
    check_refusal(queue.post("/messages", {"content_base64": longer}), "too_large")


# -- single answers


def test_a_nack_says_when_the_message_is_tried_again_also_when_its_life_ends_before(
    queue: Queue, messages: Messages
) -> None:
    queue.publish(ttl_ms=60_000)
    message = queue.take()
    answer = messages.nack(message, requeue=True, delay_ms=3_600_000)
    assert answer["status"] == "pending"
    seen = messages.get(message["message_id"])
    assert answer["available_at"] == seen["available_at"]
    assert instant(answer["available_at"]) > instant(seen["expires_at"]) + 3_000


def test_a_redrive_from_the_queue_itself_is_refused(queue: Queue) -> None:
    message_id = queue.publish()
    check_refusal(queue.post("/redrive", {"from": queue.name}), "invalid", pointer="/from")
    assert queue.take()["message_id"] == message_id


def test_a_parked_poll_of_a_queue_that_is_deleted_is_answered_at_once(api: httpx.Client, queue: Queue) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, many = pool.submit(queue.consume, 30_000), pool.submit(queue.take_many, 5, 30_000)
        queue.await_consumers(2)
        assert api.delete(queue.path).status_code == 204
        assert one.result(timeout=20) is None
        assert many.result(timeout=20) == []


def test_two_who_create_a_queue_with_different_configs_do_not_both_make_it(api: httpx.Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            name = fresh_name("race")

            def create(lease_ms: int, name: str = name) -> httpx.Response:
                return api.post("/queues", content=body({"name": name, "lease_ms": lease_ms}), headers=JSON)

            replies = list(pool.map(create, (1_001, 1_002, 1_003, 1_004)))
            assert sorted(reply.status_code for reply in replies) == [201, 409, 409, 409]
            (made,) = [reply.json() for reply in replies if reply.status_code == 201]
            assert api.get(f"/queues/{name}").json()["config"] == made["config"]


def test_a_queue_created_beside_a_publish_has_its_config_or_the_creation_is_refused(api: httpx.Client) -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            queue = Queue(api, fresh_name("race"))
            publish = pool.submit(queue.publish)
            create = pool.submit(
                api.post, "/queues", content=body({"name": queue.name, "lease_ms": 1_234}), headers=JSON
            )
            publish.result()
            reply = create.result()
            assert reply.status_code in (201, 409)
            assert queue.info()["config"]["lease_ms"] == (1_234 if reply.status_code == 201 else 30_000)
            assert queue.counts()["pending"] == 1


def test_changes_at_the_same_time_are_all_kept(api: httpx.Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            queue = Queue(api, lease_ms=5)

            def patch(member: str, queue: Queue = queue) -> httpx.Response:
                return api.patch(queue.path, content=body({member: 77}), headers=JSON)

            asked = [pool.submit(patch, member) for member in ("lease_ms", "max_attempts", "retention_ms")]
            asked.append(pool.submit(queue.post, "/pause"))
            assert all(reply.result().status_code == 200 for reply in asked)
            info = queue.info()
            config = info["config"]
            assert (config["lease_ms"], config["max_attempts"], config["retention_ms"]) == (77, 77, 77)
            assert info["paused"] is True


# -- the description


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def test_the_description_says_that_consume_and_browse_answer_with_objects(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    paths = document["paths"]

    def answer(method: str, path: str) -> dict[str, Any]:
        schema: dict[str, Any] = paths[path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        return schema

    def check_message(schema: dict[str, Any]) -> None:
        message = resolved(document, schema)
        assert message["type"] == "object"
        assert {"message_id", "queue", "status", "content", "attempt"} <= set(message["properties"])
        assert {"message_id", "queue", "status", "content", "attempt"} <= set(message["required"])

    many = "/queues/{queue}/messages"
    one = answer("get", f"{many}/consume")["anyOf"]
    assert {"type": "null"} in one
    (message,) = [schema for schema in one if schema != {"type": "null"}]
    check_message(message)
    check_message(answer("get", "/messages/{message_id}"))
    for method, path, member in (
        ("post", f"{many}/consume", "messages"),
        ("post", "/consume", "messages"),
        ("get", many, "items"),
    ):
        page = resolved(document, answer(method, path))
        assert page["type"] == "object"
        assert page["properties"][member]["type"] == "array"
        check_message(page["properties"][member]["items"])
    assert "next_cursor" in resolved(document, answer("get", many))["required"]
