"""`GET /metrics` (contract §6): who may read it, and that a real broker's figures are in it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import BrokerProcess
from tests.wire.doors import Queue, eventually, fresh_name
from tests.wire.people import client_of, grant, somebody
from tests.wire.problems import check_refusal
from tests.wire.sockets import Socket, open_socket

Metrics = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(client: httpx.Client) -> Metrics:
    """A look at the metrics, which may be a second old."""
    reply = client.get("/metrics")
    assert reply.status_code == 200, reply.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def value(client: httpx.Client, name: str, **labels: str) -> float:
    return read(client).get((f"streambroker_{name}", tuple(sorted(labels.items()))), 0)


def comes(client: httpx.Client, wanted: float, name: str, **labels: str) -> None:
    """Until the figure is what it should be; metrics are up to a second old."""
    eventually(lambda: value(client, name, **labels), lambda seen: seen == wanted)


# ---- who may


def test_metrics_are_text_for_prometheus(api: httpx.Client) -> None:
    reply = api.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.text.startswith("# HELP ")
    assert reply.text.endswith("\n")


def test_a_stranger_learns_nothing(stranger: httpx.Client) -> None:
    check_refusal(stranger.get("/metrics"), "unauthenticated")


@pytest.mark.parametrize(
    ("grants", "status"),
    [
        ([], 403),
        ([grant("orders.*", "view")], 403),
        ([grant("*", "publish", "consume", "manage")], 403),
        ([grant("*", "view")], 200),
    ],
)
def test_it_takes_the_right_to_view_all_queues(api: httpx.Client, grants: list[dict[str, object]], status: int) -> None:
    with somebody(api, grants=grants) as person:
        reply = person.client.get("/metrics")
        assert reply.status_code == status
        assert "streambroker_queues" in reply.text or status == 403


def test_an_api_key_with_the_grant_is_what_a_scraper_needs(api: httpx.Client) -> None:
    with somebody(api, grants=[grant("*", "view")]) as person, client_of(api, person.key()["key"]) as scraper:
        assert value(scraper, "build_info") == 0  # it has labels
        assert value(scraper, "queues") >= 0
    with somebody(api, grants=[grant("*", "view")]) as person:
        narrow = person.key(grants=[grant("orders.*", "view")])
        with client_of(api, narrow["key"]) as scraper:
            check_refusal(scraper.get("/metrics"), "forbidden")


def test_names_of_users_are_nowhere_in_it(api: httpx.Client) -> None:
    with somebody(api, grants=[grant("*", "view", "publish")]) as person:
        person.client.get("/stats")
        person.try_to_log_in("wrong")
        assert person.name not in api.get("/metrics").text


# ---- what is in it


def test_a_message_shows_in_the_figures_of_its_queue(api: httpx.Client, queue: Queue) -> None:
    queue.publish("one")
    queue.publish("two", delay_ms=600_000)
    comes(api, 2, "messages_published_total", queue=queue.name)
    comes(api, 2, "queue_messages", queue=queue.name, status="pending")
    assert value(api, "queue_delayed_messages", queue=queue.name) == 1
    eventually(lambda: value(api, "queue_oldest_ready_age_seconds", queue=queue.name), lambda age: age > 0)
    message = queue.consume()
    assert message is not None
    comes(api, 1, "queue_messages", queue=queue.name, status="processing")
    assert value(api, "queue_oldest_ready_age_seconds", queue=queue.name) == 0
    api.post(f"/messages/{message['message_id']}/ack", json={"lease": message["lease"]}).raise_for_status()
    comes(api, 1, "messages_settled_total", queue=queue.name, outcome="acked")
    assert value(api, "messages_delivered_total", queue=queue.name) == 1
    assert value(api, "messages_redelivered_total", queue=queue.name) == 0
    assert value(api, "publish_confirm_seconds_count") >= 2
    assert value(api, "delivery_latency_seconds_count") >= 1
    assert value(api, "group_commit_messages_count") >= 4
    assert value(api, "sync_duration_seconds_count") >= 4
    assert value(api, "store_wal_bytes") > 0


def test_a_deleted_queue_is_no_label_any_more(api: httpx.Client, queue: Queue) -> None:
    queue.publish()
    comes(api, 1, "messages_published_total", queue=queue.name)
    api.delete(queue.path).raise_for_status()
    eventually(lambda: queue.name not in api.get("/metrics").text)


def test_consumers_and_connections_are_counted_by_kind(
    api: httpx.Client, queue: Queue, connect: Callable[..., Socket]
) -> None:
    before = value(api, "connections", kind="websocket")
    socket = connect()
    socket.ok("subscribe", queue=queue.name)
    comes(api, 1, "queue_consumers", queue=queue.name)
    eventually(lambda: value(api, "connections", kind="websocket"), lambda seen: seen > before)
    assert value(api, "connections", kind="http") >= 1
    poll = threading.Thread(target=lambda: queue.consume(wait_ms=60_000))
    poll.start()
    try:
        comes(api, 2, "queue_consumers", queue=queue.name)
        assert value(api, "connections", kind="long_poll") >= 1
    finally:
        socket.ok("unsubscribe", sub=queue.name)
        queue.publish()
        poll.join()


def test_paths_are_told_by_their_template_and_those_that_there_are_not_together(api: httpx.Client) -> None:
    names = [fresh_name() for _ in range(20)]
    before = value(api, "http_requests_total", method="*", route="unknown", status="404")
    for name in names:
        assert api.get(f"/queues/{name}").status_code == 404
        assert api.get(f"/{name}").status_code == 404
    eventually(
        lambda: value(api, "http_requests_total", method="*", route="unknown", status="404"),
        lambda seen: seen >= before + 20,
    )
    text = api.get("/metrics").text
    assert 'route="/queues/{queue}",status="404"' in text
    assert [name for name in names if name in text] == []
    took = "http_request_duration_seconds_count"
    assert value(api, took, method="GET", route="/queues/{queue}", status="4xx") >= 20


def test_credentials_that_are_refused_are_counted_by_kind(
    api: httpx.Client, stranger: httpx.Client, broker: BrokerProcess
) -> None:
    kinds = ("none", "token", "api_key", "login", "refresh")
    before = {kind: value(api, "auth_failures_total", kind=kind) for kind in kinds}
    stranger.get("/stats")
    stranger.get("/stats", headers={"Authorization": "Bearer eyJ.no.token"})
    stranger.get("/stats", headers={"Authorization": f"Bearer sbk_{'x' * 43}"})
    stranger.post("/login", json={"username": "nobody", "password": "wrong"})
    stranger.post("/refresh", json={"refresh_token": "never given"})
    with open_socket(f"{broker.ws_url}/ws") as socket:
        socket.send({"op": "hello", "token": f"sbk_{'y' * 43}"})
        assert socket.close_code() == 4401
    for kind in kinds:
        wanted = before[kind] + (2.0 if kind == "api_key" else 1.0)
        eventually(partial(value, api, "auth_failures_total", kind=kind), wanted.__le__)


def test_what_a_rate_limit_refuses_is_counted(tmp_path: Path) -> None:
    limits = {"STREAMBROKER_RATE_LIMIT_DEFAULT": "off", "STREAMBROKER_RATE_LIMIT_MESSAGES": "2/hour"}
    with BrokerProcess(tmp_path / "data", env=limits) as broker, broker.client() as client:
        statuses = [client.post("/queues/q/messages", json={"content": 1}).status_code for _ in range(5)]
        assert statuses == [201, 201, 429, 429, 429]
        comes(client, 3, "rate_limited_total", kind="messages")
        assert value(client, "messages_published_total", queue="q") == 2


# ---- a port of its own


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_port_of_its_own_serves_metrics_without_a_token_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    with (
        BrokerProcess(tmp_path / "data", "--metrics-port", str(port)) as broker,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as scraper,
    ):
        assert value(scraper, "queues") == 0
        for path in ("/stats", "/healthz", "/queues", "/"):
            check_refusal(scraper.get(path), "not_found")
        check_refusal(scraper.post("/metrics"), "method_not_allowed")
        check_refusal(scraper.get("/metrics", headers={"Host": "evil.example"}), "malformed")
        assert broker.terminate() == 0


def test_without_the_setting_there_is_no_other_port(broker: BrokerProcess) -> None:
    tables = (Path(f"/proc/{broker.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
    listening = {line.split()[9] for table in tables for line in table.splitlines()[1:] if line.split()[3] == "0A"}
    own = {path.readlink().name for path in Path(f"/proc/{broker.pid}/fd").iterdir() if path.is_symlink()}
    assert len({inode for inode in listening if f"socket:[{inode}]" in own}) == 1


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = BrokerProcess(tmp_path / "data", "--metrics-port", str(taken.getsockname()[1]))
        with pytest.raises(RuntimeError):
            broker.start()
        assert broker.process is not None
        assert broker.process.returncode == 69
