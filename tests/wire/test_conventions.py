"""What holds for every path: /v1, request ids, times, lists, probes, stats, the API description (contract §1, §6)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.harness import BrokerProcess
from tests.wire.doors import JSON, Messages, Queue, body, fresh_name, instant
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket

PATHS = {
    "/login": {"post"},
    "/refresh": {"post"},
    "/queues": {"get", "post"},
    "/queues/{}": {"get", "patch", "delete"},
    "/queues/{}/purge": {"post"},
    "/queues/{}/pause": {"post"},
    "/queues/{}/resume": {"post"},
    "/queues/{}/redrive": {"post"},
    "/queues/{}/messages": {"get", "post"},
    "/queues/{}/messages/batch": {"post"},
    "/queues/{}/messages/consume": {"get", "post"},
    "/consume": {"post"},
    "/publish": {"post"},
    "/messages/{}": {"get", "delete"},
    "/messages/{}/ack": {"post"},
    "/messages/{}/nack": {"post"},
    "/messages/{}/extend": {"post"},
    "/messages/ack": {"post"},
    "/messages/nack": {"post"},
    "/messages/extend": {"post"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/stats": {"get"},
}


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_message_goes_its_whole_way_with_and_without_v1(api: httpx.Client, prefix: str) -> None:
    name = fresh_name("prefix")
    assert api.post(f"{prefix}/queues", content=body({"name": name}), headers=JSON).status_code == 201
    published = api.post(f"{prefix}/queues/{name}/messages", content=b'{"content": "x"}', headers=JSON)
    assert published.status_code == 201
    message_id = published.json()["message_id"]
    message = api.get(f"{prefix}/queues/{name}/messages/consume", params={"wait_ms": 1000}).json()
    assert message["message_id"] == message_id
    settled = api.post(f"{prefix}/messages/{message_id}/ack", content=body({"lease": message["lease"]}), headers=JSON)
    assert settled.json()["status"] == "processed"
    assert api.get(f"{prefix}/messages/{message_id}").json()["status"] == "processed"
    for path in ("/queues", "/stats", "/healthz", "/readyz", f"/queues/{name}", f"/queues/{name}/messages"):
        assert api.get(prefix + path).status_code == 200, path
    assert api.delete(f"{prefix}/queues/{name}").is_success


def test_the_websocket_is_there_under_v1_too(connect: Callable[..., Socket], queue: Queue) -> None:
    connect("/v1/ws").ok("subscribe", queue=queue.name)
    connect(f"/v1/queues/{queue.name}/ws")
    queue.await_consumers(2)


@pytest.mark.parametrize("path", ["/queues", "/queues/no-such-queue", "/no/such/path", "/healthz"])
def test_a_request_id_is_echoed(api: httpx.Client, path: str) -> None:
    reply = api.get(path, headers={"X-Request-ID": "my-request.42"})
    assert reply.headers["x-request-id"] == "my-request.42"


@pytest.mark.parametrize("path", ["/queues", "/no/such/path", "/healthz"])
def test_a_request_id_is_made_when_none_is_given(api: httpx.Client, path: str) -> None:
    first, second = (api.get(path).headers["x-request-id"] for _ in range(2))
    assert first
    assert second
    assert first != second


def test_a_request_id_can_not_carry_anything_into_the_reply(api: httpx.Client) -> None:
    reply = api.get("/healthz", headers={"X-Request-ID": "x" * 4000 + "\t<script>"})
    assert "<script>" not in reply.headers["x-request-id"]
    assert len(reply.headers["x-request-id"]) < 4000


def test_a_problem_says_where_it_happened_without_the_query(api: httpx.Client) -> None:
    problem = check_refusal(api.get("/queues/no-such-queue", params={"x": "secret"}), "not_found")
    assert "no-such-queue" in problem["instance"] or problem["instance"].startswith("urn:")
    assert "secret" not in problem["instance"]


def test_times_are_utc_with_milliseconds_and_ids_are_ordered_by_time(queue: Queue, messages: Messages) -> None:
    ids = [queue.publish(n) for n in range(20)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 20
    message = queue.take()
    for field in ("created_at", "updated_at", "available_at", "lease_expires_at"):
        instant(message[field])
    instant(queue.info()["created_at"])


def pages(api: httpx.Client, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    seen, cursor = [], None
    while True:
        reply = api.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
        assert reply.status_code == 200, reply.text
        page = reply.json()
        assert set(page) == {"items", "next_cursor"}
        seen.append(page["items"])
        cursor = page["next_cursor"]
        assert cursor is None or isinstance(cursor, str)
        if cursor is None:
            return seen


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 500])
def test_a_list_of_messages_is_read_page_by_page(api: httpx.Client, limit: int) -> None:
    queue = Queue(api)
    ids = queue.publish_many(*range(7))
    seen = pages(api, queue.path + "/messages", limit=limit)
    assert all(len(page) <= limit for page in seen)
    assert all(len(page) == limit for page in seen[:-1])
    assert [message["message_id"] for page in seen for message in page] == ids


def test_a_page_has_fifty_items_unless_told(api: httpx.Client, queue: Queue) -> None:
    queue.publish_many(*range(120))
    assert [len(page) for page in pages(api, queue.path + "/messages")] == [50, 50, 20]


def test_pages_do_not_skip_what_was_there_and_repeat_only_what_moved(
    api: httpx.Client, queue: Queue, messages: Messages
) -> None:
    ids = queue.publish_many(*range(20))
    page = api.get(queue.path + "/messages", params={"limit": 5}).json()
    seen = [message["message_id"] for message in page["items"]]
    moved = [messages.ack(message)["message_id"] for message in queue.take_many(8)]
    queue.publish_many(*range(5))
    while page["next_cursor"]:
        page = api.get(queue.path + "/messages", params={"limit": 5, "cursor": page["next_cursor"]}).json()
        seen += [message["message_id"] for message in page["items"]]
    still = [message_id for message_id in seen if message_id not in moved]
    assert len(still) == len(set(still))
    assert set(ids) <= set(seen)


def test_the_list_of_queues_is_read_page_by_page(api: httpx.Client) -> None:
    made = {Queue(api, lease_ms=1000).name for _ in range(7)}
    seen = pages(api, "/queues", limit=3)
    assert all(len(page) <= 3 for page in seen)
    names = [queue["name"] for page in seen for queue in page]
    assert len(names) == len(set(names))
    assert made <= set(names)


def test_a_traceparent_travels_with_the_message(api: httpx.Client, queue: Queue, ws: Socket) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    queue.post("/messages", {"content": 1}, headers={"traceparent": trace})
    queue.api.post(
        queue.path + "/messages", content=b"raw", headers={"Content-Type": "text/plain", "traceparent": trace}
    )
    queue.post("/messages/batch", {"messages": [{"content": 2}]}, headers={"traceparent": trace})
    queue.publish(3)
    assert [message["traceparent"] for message in queue.browse()] == [trace, trace, trace, None]
    assert queue.take()["traceparent"] == trace
    ws.ok("subscribe", queue=queue.name)
    assert [message["traceparent"] for message in ws.deliveries(3)] == [trace, trace, None]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_needs_no_token(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code == 200


def test_stats_count_what_happened(api: httpx.Client, queue: Queue, messages: Messages, ws: Socket) -> None:
    queue.publish_many(1, 2, 3, 4)
    first, second, _ = queue.take_many(3)
    messages.ack(first)
    messages.nack(second)
    stats = api.get("/stats").json()
    assert {"pending", "processing", "failed", "processed", "total_requests", "uptime_seconds"} <= set(stats)
    assert stats["queues"][queue.name] == {"pending": 1, "processing": 1, "processed": 1, "failed": 1}
    for status in ("pending", "processing", "processed", "failed"):
        assert stats[status] >= 1
    assert stats["total_requests"] >= 4
    assert stats["process_memory_mb"] > 1
    assert isinstance(stats["process_cpu_percent"], int | float)
    assert stats["uptime_seconds"] >= 0
    assert set(stats["connections"]) == {"websocket", "long_poll", "sse", "graphql"}
    assert stats["connections"]["websocket"] >= 1
    assert stats["requests_by_status"]["200"] >= 1
    assert any(re.fullmatch(r"POST /queues/\{\w+\}/messages/batch", route) for route in stats["requests_by_route"])
    assert not any(queue.name in route for route in stats["requests_by_route"])
    later = api.get("/stats").json()
    assert later["total_requests"] > stats["total_requests"]


def test_the_api_description_is_valid_and_names_every_path(api: httpx.Client) -> None:
    from openapi_spec_validator import validate

    reply = api.get("/openapi.json")
    assert reply.status_code == 200
    assert reply.headers["content-type"].split(";")[0] in {"application/json", "application/vnd.oai.openapi+json"}
    document = reply.json()
    assert document["openapi"].startswith("3.1")
    validate(document)
    described = {re.sub(r"\{\w+\}", "{}", path): set(item) for path, item in document["paths"].items()}
    for path, methods in PATHS.items():
        assert path in described, path
        assert methods <= described[path], path


def test_no_reply_tells_what_the_server_is_made_of(broker: BrokerProcess, api: httpx.Client) -> None:
    for path in ("/healthz", "/queues", "/no/such/path"):
        reply = api.get(path)
        assert "uvicorn" not in str(reply.headers).lower()
        assert str(broker.data_dir) not in reply.text
