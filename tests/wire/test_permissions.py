"""D12: who may do what, on every route and every op, over REST, WebSocket and GraphQL, by session and by API key.

What is expected is worked out here, from the contract, and not by asking the broker's own function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from streambroker.transport.graphql.schema import SCHEMA
from tests.graphql.talking import talk
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import fresh_name
from tests.wire.sockets import Closed, open_socket

ALL = ("publish", "consume", "manage", "view")
NOBODY = "nobody"
PASSWORD = "a password of the matrix"

# What each operation asks for on the queue it names; None: to be somebody is enough; "admin": to be one.
NEEDS: dict[str, str | None] = {
    "POST /queues/{queue}/messages": "publish",
    "POST /queues/{queue}/messages/batch": "publish",
    "POST /publish": "publish",
    "GET /queues/{queue}/messages/consume": "consume",
    "POST /queues/{queue}/messages/consume": "consume",
    "POST /consume": "consume",
    "POST /messages/{message_id}/ack": "consume",
    "POST /messages/{message_id}/nack": "consume",
    "POST /messages/{message_id}/extend": "consume",
    "GET /queues/{queue}/webhooks": "manage",
    "GET /queues/{queue}/webhooks/{webhook_id}": "manage",
    "PATCH /queues/{queue}/webhooks/{webhook_id}": "manage",
    "DELETE /queues/{queue}/webhooks/{webhook_id}": "manage",
    "POST /queues/{queue}/webhooks/{webhook_id}/test": "manage",
    "GET /queues/{queue}/webhooks/{webhook_id}/deliveries": "manage",
    "POST /queues/{queue}/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver": "manage",
    "GET /queues/{queue}/messages": "view",
    "GET /queues/{queue}": "view",
    "GET /messages/{message_id}": "view",
    "GET /messages/{message_id}/timeline": "view",
    "POST /messages/{message_id}/retry": "manage",
    "DELETE /messages/{message_id}": "manage",
    "POST /queues": "manage",
    "PATCH /queues/{queue}": "manage",
    "POST /queues/{queue}/purge": "manage",
    "POST /queues/{queue}/pause": "manage",
    "POST /queues/{queue}/resume": "manage",
    "POST /queues/{queue}/redrive": "manage",
    "DELETE /queues/{queue}": "manage",
    "GET /users": "admin",
    "GET /users/{username}": "admin",
    "GET /logs": "admin",
    "GET /logs/{filename}": "admin",
    "GET /queues": None,
    "GET /stats": None,
    "GET /consumers": None,
    "GET /users/me": None,
    "GET /api-keys": None,
    "POST /graphql": None,  # each of its fields: see below
    # Each item of these is judged on its own: see below.
    "POST /messages/ack": None,
    "POST /messages/nack": None,
    "POST /messages/extend": None,
}
# Figures of all queues: `view` on `*`, which no grant of the matrix is.
EVERYTHING = "everything"
NEEDS |= {"GET /metrics": EVERYTHING}
NEEDS |= {"GET /consumers": None, "DELETE /consumers/{consumer_id}": None, "GET /webhooks": None}
# What only a session may do, whatever its rights: a key cannot log itself out or make another one.
SESSION_ONLY = {"POST /logout", "POST /users/me/password", "POST /api-keys", "DELETE /api-keys/{key_id}"}
# What only the session of an admin may do: a key that leaked must not make itself a user that outlives it.
NEEDS |= dict.fromkeys(("POST /users", "PATCH /users/{username}", "DELETE /users/{username}"), "admin session")
WATCH = "GET /queues/{queue}/events"  # an answer without an end: see below
ELSEWHERE = {"DELETE /consumers/{consumer_id}", WATCH}  # takes somebody who consumes: test_consumers.py
ELSEWHERE |= {"POST /queues/{queue}/webhooks"}  # takes two grants: tests/webhooks/test_rights.py
PUBLIC = {"POST /login", "POST /refresh", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /asyncapi.json"}
BODIES: dict[str, Any] = {
    "POST /queues/{queue}/messages": {"content": 1},
    "POST /queues/{queue}/messages/batch": {"messages": [{"content": 1}]},
    "POST /publish": {"queue": "{queue}", "content": 1},
    "POST /consume": {"queues": ["{queue}"]},
    "POST /messages/{message_id}/extend": {"lease_ms": 1000},
    "POST /graphql": {"query": "query { __typename }"},
    "POST /messages/ack": {"items": [{"message_id": "{message_id}"}]},
    "POST /messages/nack": {"items": [{"message_id": "{message_id}"}]},
    "POST /messages/extend": {"items": [{"message_id": "{message_id}", "lease_ms": 1000}]},
    "POST /queues": {"name": "{queue}"},
    "PATCH /queues/{queue}": {"lease_ms": 30_000},
    "POST /users": {"username": "{username}", "password": PASSWORD, "role": "member", "grants": []},
    "PATCH /users/{username}": {"disabled": True},
}


@dataclass(frozen=True)
class Who:
    """A credential: of which kind, and what it may do on the queue of the test (None: it may not know of it)."""

    name: str
    actions: frozenset[str] | None
    admin: bool = False
    is_key: bool = False
    token: str = ""

    def expected(self, need: str | None) -> int | None:
        """The status with which it is refused what needs that, None where it is not."""
        if self.name == NOBODY:
            return 401
        if need == "admin session" and self.is_key:
            return 403
        if self.admin or need is None:
            return None
        if need in ("admin", "admin session", EVERYTHING):
            return 403
        if self.actions is None:
            return 404
        return None if need in self.actions else 403


# Users by their grants; keys by their user's grants and their own (None: none of its own).
SETS: list[tuple[str, ...]] = [(), *((action,) for action in ALL), ALL]
USERS = SETS
KEYS: list[tuple[Any, Any]] = [
    (ALL, None),
    (None, None),
    *((ALL, (action,)) for action in ALL),
    (("view",), ALL),  # a key that says more than its user may is worth no more
    (("publish", "view"), ("view", "consume")),
    (None, ALL),
    ("admin", None),
    ("admin", ("consume",)),
]
WHOS = [NOBODY, "admin", *(f"user {u}" for u in USERS), *(f"key {k}" for k in KEYS)]


def grants(pattern: str, actions: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """One grant of these actions; none at all where there is nothing to allow."""
    return [] if not actions else [{"queues": pattern, "actions": list(actions)}]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker of its own, for it gets more than one admin."""
    with BrokerProcess(tmp_path_factory.mktemp("matrix") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    with broker.client() as client:
        yield client


@pytest.fixture(scope="module")
def whos(broker: BrokerProcess, api: httpx.Client) -> dict[str, Who]:
    """Every credential of the matrix, on queues that begin with `m.`."""
    found = {NOBODY: Who(NOBODY, None), "admin": Who("admin", None, admin=True, token=broker.token())}
    numbers = itertools.count(1)

    def user(actions: Any) -> tuple[str, httpx.Client]:
        name = f"matrix-{next(numbers)}"
        made = {"username": name, "password": PASSWORD, "role": "member", "grants": grants("m.*", actions)}
        if actions == "admin":
            made |= {"role": "admin", "grants": []}
        assert api.post("/users", json=made).status_code == 201
        token = broker.token(name, PASSWORD)
        client = httpx.Client(base_url=broker.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        return token, client

    for actions in USERS:
        token, client = user(actions)
        client.close()
        found[f"user {actions}"] = Who(f"user {actions}", frozenset(actions) or None, token=token)
    for owner, own in KEYS:
        _, client = user(owner)
        with client:
            asked: dict[str, Any] = {"name": "of the matrix"}
            if own is not None:
                asked["grants"] = grants("m.*", own)
            made = client.post("/api-keys", json=asked)
            assert made.status_code == 201, made.text
        name = f"key {(owner, own)}"
        allowed: frozenset[str] | None
        if owner == "admin":
            allowed = None if own is None else frozenset(own)
        elif owner is None:
            allowed = None
        else:
            allowed = frozenset(owner) if own is None else frozenset(owner) & frozenset(own)
        found[name] = Who(name, allowed, owner == "admin" and own is None, True, made.json()["key"])
    return found


@pytest.fixture(scope="module")
def anonymous(broker: BrokerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=broker.url, trust_env=False, timeout=30) as client:
        yield client


@dataclass
class Place:
    """A queue with a message in it, and a user that nobody needs, who is made for the operations that name one."""

    api: httpx.Client
    queue: str
    message_id: str

    @cached_property
    def username(self) -> str:
        name = f"bystander-{fresh_name()}"
        made = {"username": name, "password": PASSWORD, "role": "member", "grants": []}
        assert self.api.post("/users", json=made).status_code == 201
        return name

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.filled(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.filled(part) for part in value]
        if isinstance(value, str) and value.startswith("{"):
            return getattr(self, value.strip("{}"))
        return value


def a_place(api: httpx.Client) -> Place:
    queue = f"m.{fresh_name()}"
    return Place(api, queue, api.post(f"/queues/{queue}/messages", json={"content": 1}).json()["message_id"])


@pytest.fixture
def place(api: httpx.Client) -> Place:
    return a_place(api)


def ask(client: httpx.Client, who: Who, operation: str, place: Place) -> httpx.Response:
    method, _, path = operation.partition(" ")
    unknown = dict.fromkeys(("filename", "consumer_id", "webhook_id", "delivery_id"), "x")
    path = "/".join([unknown.get(part.strip("{}")) or str(place.filled(part)) for part in path.split("/")])
    headers = {"Authorization": f"Bearer {who.token}"} if who.token else {}
    body = place.filled(BODIES.get(operation)) if operation in BODIES else None
    return client.request(method, path, json=body, headers=headers)


def test_every_operation_has_its_place_in_the_matrix(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    operations = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert operations == set(NEEDS) | SESSION_ONLY | ELSEWHERE | PUBLIC


@pytest.mark.parametrize("who", WHOS)
@pytest.mark.parametrize("operation", NEEDS)
def test_d12_over_rest(operation: str, who: str, whos: dict[str, Who], anonymous: httpx.Client, place: Place) -> None:
    answer = ask(anonymous, whos[who], operation, place)
    expected = whos[who].expected(NEEDS[operation])
    code = answer.json().get("code") if answer.content and answer.headers["content-type"].endswith("json") else None
    if expected is not None:
        assert (answer.status_code, code) == (
            expected,
            {401: "unauthenticated", 403: "forbidden", 404: "not_found"}[expected],
        )
    else:
        # What there is not (a log file, a consumer) may be missed; nothing else may look like a refusal.
        unknown = ("{filename}", "{consumer_id}", "{webhook_id}")
        missing = any(part in operation for part in unknown)
        assert answer.status_code not in ({401, 403} if missing else {401, 403, 404}), answer.text
        assert answer.status_code < 500


@pytest.mark.parametrize("who", WHOS)
def test_d12_over_events(who: str, whos: dict[str, Who], anonymous: httpx.Client, place: Place) -> None:
    token = whos[who].token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with anonymous.stream("GET", f"/queues/{place.queue}/events", headers=headers) as answer:
        assert answer.status_code == (whos[who].expected("view") or 200)


@pytest.mark.parametrize("who", WHOS)
@pytest.mark.parametrize("verdict", ["ack", "nack", "extend"])
def test_d12_over_rest_for_each_of_many(
    verdict: str, who: str, whos: dict[str, Who], anonymous: httpx.Client, place: Place
) -> None:
    answer = ask(anonymous, whos[who], f"POST /messages/{verdict}", place)
    if who == NOBODY:
        assert answer.status_code == 401
        return
    expected = {403: "forbidden", 404: "not_found", None: "not_processing"}[whos[who].expected("consume")]
    assert answer.json()["results"] == [{"message_id": place.message_id, "ok": False, "code": expected}]


@pytest.mark.parametrize("who", WHOS)
def test_d12_what_one_may_not_see_is_in_no_list(
    who: str, whos: dict[str, Who], anonymous: httpx.Client, place: Place
) -> None:
    answer = ask(anonymous, whos[who], "GET /queues", place)
    seen = whos[who].admin or "view" in (whos[who].actions or ())
    if who == NOBODY:
        assert answer.status_code == 401
        return
    names = set[str]()
    cursor: str | None = ""
    headers = {"Authorization": f"Bearer {whos[who].token}"}
    while cursor is not None:
        page = anonymous.get(
            "/queues", params={"limit": 500, "cursor": cursor} if cursor else {"limit": 500}, headers=headers
        )
        names |= {item["name"] for item in page.json()["items"]}
        cursor = page.json()["next_cursor"]
    assert (place.queue in names) is seen
    figures = anonymous.get("/stats", headers=headers).json()["queues"]
    assert (place.queue in figures) is seen


OPS: dict[str, tuple[str, Callable[[Place], dict[str, Any]]]] = {
    "publish": ("publish", lambda place: {"queue": place.queue, "messages": [{"content": 1}]}),
    "subscribe": ("consume", lambda place: {"queue": place.queue, "credit": 1}),
}


@pytest.mark.parametrize("login", ["header", "subprotocol", "hello"])
@pytest.mark.parametrize("who", [who for who in WHOS if who != NOBODY])
@pytest.mark.parametrize("op", OPS)
def test_d12_over_websocket(
    op: str, who: str, login: str, broker: BrokerProcess, whos: dict[str, Who], place: Place
) -> None:
    need, fields = OPS[op]
    token = whos[who].token
    options: dict[str, Any] = {}
    if login == "header":
        options["token"] = token
    elif login == "subprotocol":
        options["subprotocols"] = ["streambroker.v1+json", f"bearer.{token}"]
    with open_socket(broker.ws_url + "/ws", **options) as socket:
        if login == "hello":
            socket.send({"op": "hello", "token": token})
        socket.op("welcome")
        answer = socket.call(op, **fields(place))
    expected = whos[who].expected(need)
    if expected is None:
        assert answer["op"] == "ok", answer
    else:
        assert (answer["op"], answer["problem"]["status"]) == ("error", expected)


@pytest.mark.parametrize("who", WHOS)
def test_d12_by_the_path_of_a_websocket(who: str, broker: BrokerProcess, whos: dict[str, Who], place: Place) -> None:
    path = f"{broker.ws_url}/queues/{place.queue}/ws"
    if who == NOBODY:
        with pytest.raises(InvalidStatus) as refused, open_socket(path, token="nobody's"):
            pass
        assert refused.value.response.status_code == 401
        return
    expected = whos[who].expected("consume")
    with open_socket(path, token=whos[who].token) as socket:
        socket.op("welcome")
        if expected is None:
            assert [m["message_id"] for m in socket.deliveries(1)] == [place.message_id]
        else:
            with pytest.raises(Closed):
                socket.op("deliver")
            assert socket.connection.protocol.close_rcvd is not None
            assert socket.connection.protocol.close_rcvd.code == {403: 4403, 404: 4404}[expected]


def test_d12_a_session_of_another_user_cannot_settle_what_one_holds(
    broker: BrokerProcess, whos: dict[str, Who], anonymous: httpx.Client, place: Place
) -> None:
    one, other = whos[f"user {ALL}"], whos["user ('consume',)"]
    taken = ask(anonymous, one, "GET /queues/{queue}/messages/consume", place).json()
    assert taken["message_id"] == place.message_id
    refused = ask(anonymous, other, "POST /messages/{message_id}/ack", place)
    assert (refused.status_code, refused.json()["code"]) == (409, "lease_lost")
    assert ask(anonymous, one, "POST /messages/{message_id}/ack", place).status_code == 200


@pytest.mark.parametrize("operation", sorted(SESSION_ONLY))
def test_d12_what_only_a_session_may_do_no_key_may(
    operation: str, whos: dict[str, Who], anonymous: httpx.Client, place: Place
) -> None:
    bodies = {
        "POST /logout": None,
        "POST /users/me/password": {"current_password": PASSWORD, "new_password": PASSWORD + "!"},
        "POST /api-keys": {"name": "another"},
        "DELETE /api-keys/{key_id}": None,
    }
    for who in (w for w in whos.values() if w.is_key):
        method, _, path = operation.partition(" ")
        headers = {"Authorization": f"Bearer {who.token}"}
        answer = anonymous.request(method, path, json=bodies[operation], headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), who
    assert anonymous.request(*operation.split(" "), json=bodies[operation]).status_code == 401


# The columns of GraphQL: what each root field asks for on the queue it names.
FIELDS: dict[str, tuple[str | None, str]] = {
    "queues": (None, "queues { nextCursor }"),
    "queue": ("view", "queue(name: $q) { name }"),
    "message": ("view", "message(messageId: $m) { key }"),
    "messages": ("view", "messages(queue: $q) { nextCursor }"),
    "timeline": ("view", "timeline(messageId: $m) { items { at } }"),
    "stats": (None, "stats { pending }"),
    "createQueue": ("manage", "createQueue(name: $q) { name }"),
    "updateQueue": ("manage", "updateQueue(name: $q, config: {leaseMs: 30000}) { name }"),
    "deleteQueue": ("manage", "deleteQueue(name: $q)"),
    "purgeQueue": ("manage", "purgeQueue(name: $q)"),
    "pauseQueue": ("manage", "pauseQueue(name: $q) { name }"),
    "resumeQueue": ("manage", "resumeQueue(name: $q) { name }"),
    "redriveQueue": ("manage", "redriveQueue(name: $q)"),
    "publish": ("publish", "publish(queue: $q, content: 1) { messageId }"),
    "publishBatch": ("publish", "publishBatch(queue: $q, messages: [{content: 1}]) { messageIds }"),
    "consume": ("consume", "consume(queue: $q) { key }"),
    "consumeBatch": ("consume", "consumeBatch(queue: $q) { key }"),
    "ack": ("consume", "ack(messageId: $m) { status }"),
    "nack": ("consume", "nack(messageId: $m) { status }"),
    "extend": ("consume", "extend(messageId: $m, leaseMs: 1000) { status }"),
    "retry": ("manage", "retry(messageId: $m) { status }"),
    "deleteMessage": ("manage", "deleteMessage(messageId: $m)"),
    "events": ("view", "events(queue: $q) { at }"),
}


def test_every_field_of_graphql_has_its_place_in_the_matrix() -> None:
    roots = SCHEMA.query_type, SCHEMA.mutation_type, SCHEMA.subscription_type
    assert {name: root for root in roots if root is not None for name in root.fields}.keys() == FIELDS.keys()


def graphql_document(field: str, place: Place) -> dict[str, Any]:
    kinds = {"query": SCHEMA.query_type, "mutation": SCHEMA.mutation_type, "subscription": SCHEMA.subscription_type}
    kind = next(name for name, root in kinds.items() if root is not None and field in root.fields)
    asked = FIELDS[field][1]
    declared = [text for name, text in (("$q", "$q: String!"), ("$m", "$m: ID!")) if name in asked]
    variables = {"q": place.queue, "m": place.message_id}
    return {"query": f"{kind}{f'({declared[0]})' if declared else ''} {{ {asked} }}", "variables": variables}


@pytest.mark.parametrize("who", WHOS)
def test_d12_over_graphql(who: str, whos: dict[str, Who], anonymous: httpx.Client, api: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {whos[who].token}"} if whos[who].token else {}
    wrong = {}
    for field in FIELDS.keys() - {"events"}:
        answer = anonymous.post("/graphql", json=graphql_document(field, a_place(api)), headers=headers)
        if who == NOBODY:
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            continue
        expected = whos[who].expected(FIELDS[field][0])
        statuses = {error["extensions"]["status"] for error in answer.json().get("errors", ())}
        refused = {expected} if expected is not None else set[int]()
        if statuses & {401, 403, 404, 500} != refused or (refused and answer.json()["data"] != {field: None}):
            wrong[field] = answer.text
    assert wrong == {}


@pytest.mark.parametrize("who", [who for who in WHOS if who != NOBODY])
def test_d12_over_graphql_subscriptions(who: str, broker: BrokerProcess, whos: dict[str, Who], place: Place) -> None:
    with talk(broker.ws_url) as connection:
        connection.begin(whos[who].token)
        connection.say("subscribe", id="1", payload=graphql_document("events", place))
        expected = whos[who].expected("view")
        if expected is None:
            connection.settled()
        else:
            (error,) = connection.hear("error", "1")["payload"]
            assert error["extensions"]["status"] == expected
