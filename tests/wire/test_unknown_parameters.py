"""A query parameter that a call does not have is refused, on every path alike; and 405 names every method there is."""

from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.harness import BrokerProcess
from tests.wire.doors import Messages, Queue
from tests.wire.problems import check_refusal


@pytest.fixture
def queue(api: httpx.Client) -> Queue:
    """A queue that there is."""
    return Queue(api, lease_ms=30_000)


PLAIN = ["/queues/{queue}", "/stats", "/users/me", "/openapi.json", "/metrics"]


@pytest.mark.parametrize("template", PLAIN)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_path_without_parameters_refuses_each_one(
    api: httpx.Client, queue: Queue, template: str, method: str
) -> None:
    reply = api.request(method, template.format(queue=queue.name), params={"whatever": "1"})
    assert reply.status_code == 422
    if method == "GET":
        check_refusal(reply, "invalid", pointer="/whatever")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_is_answered_whatever_is_added_to_it(api: httpx.Client, path: str) -> None:
    assert api.get(path, params={"now": "1"}).status_code == 200


def test_a_call_that_changes_something_is_not_begun(api: httpx.Client, queue: Queue) -> None:
    check_refusal(api.post(f"{queue.path}/pause", params={"now": "1"}), "invalid", pointer="/now")
    assert not api.get(queue.path).json()["paused"]
    check_refusal(api.post(f"{queue.path}/messages?now=1", json={"content": 1}), "invalid", pointer="/now")
    check_refusal(api.delete(queue.path, params={"now": "1"}), "invalid", pointer="/now")
    assert queue.counts()["pending"] == 0


def test_ack_has_no_parameters_and_nack_has(api: httpx.Client, queue: Queue, messages: Messages) -> None:
    message_id = queue.publish(1)
    queue.take()
    check_refusal(api.post(f"/messages/{message_id}/ack?requeue=true"), "invalid", pointer="/requeue")
    assert api.post(f"/messages/{message_id}/nack?requeue=true").json()["status"] == "pending"


def test_who_may_not_see_it_hears_of_that_first(api: httpx.Client) -> None:
    check_refusal(api.get("/queues/not-there?whatever=1"), "not_found")
    check_refusal(httpx.get(api.base_url.join("/queues?whatever=1"), trust_env=False), "unauthenticated")


@pytest.mark.parametrize("mark", ["?", "?&"])
def test_a_question_mark_alone_is_no_parameter(api: httpx.Client, queue: Queue, mark: str) -> None:
    assert api.get(queue.path + mark).status_code == 200
    assert api.post(f"{queue.path}/pause{mark}").status_code == 200
    assert api.get(queue.path).json()["paused"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/queues", "GET, HEAD, POST"),
        ("/queues/{queue}", "DELETE, GET, HEAD, PATCH"),
        ("/queues/{queue}/messages/consume", "GET, POST"),
        ("/stats", "GET, HEAD"),
        ("/publish", "POST"),
    ],
)
def test_405_names_head_wherever_a_path_takes_it(api: httpx.Client, queue: Queue, path: str, allowed: str) -> None:
    """RFC 9110, section 10.2.1; a consume by GET takes messages, and so HEAD is not among its methods."""
    path = path.format(queue=queue.name)
    assert api.put(path).headers["allow"] == allowed
    assert (api.head(path).status_code == 200) is ("HEAD" in allowed)


def test_a_websocket_refuses_each_one_before_the_upgrade(broker: BrokerProcess) -> None:
    headers = {"Authorization": f"Bearer {broker.token()}"}
    with pytest.raises(InvalidStatus) as refused, connect(f"{broker.ws_url}/ws?credit=1", additional_headers=headers):
        pass
    assert refused.value.response.status_code == 422
