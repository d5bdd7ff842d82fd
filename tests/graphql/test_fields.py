"""Every query and mutation, seen from REST: they are the same calls."""

from __future__ import annotations

import base64

import httpx

from streambroker.transport.graphql.request import ROUTES
from streambroker.transport.graphql.schema import SCHEMA
from tests.graphql.asking import Graph
from tests.wire.doors import Queue, fresh_name

SETTLED = "{ messageId status queue attempt alreadyAcked alreadyNacked availableAt leaseExpiresAt }"


def test_every_root_field_is_a_call_of_rest() -> None:
    assert SCHEMA.query_type is not None
    assert SCHEMA.mutation_type is not None
    assert {*SCHEMA.query_type.fields, *SCHEMA.mutation_type.fields} == set(ROUTES)


def test_a_queue_is_created_looked_at_changed_and_deleted(graph: Graph, api: httpx.Client) -> None:
    name = fresh_name()
    create = """mutation($name: String!, $config: QueueConfigInput) {
        createQueue(name: $name, config: $config) { name paused config { leaseMs maxAttempts backoff { kind baseMs } } }
    }"""
    config = {"leaseMs": 5_000, "backoff": {"kind": "fixed", "baseMs": 7}}
    made = graph.ask(create, name=name, config=config)["createQueue"]
    assert made["config"] == {"leaseMs": 5_000, "maxAttempts": 5, "backoff": {"kind": "fixed", "baseMs": 7}}
    assert graph.ask(create, name=name, config=config)["createQueue"]["name"] == name
    assert graph.refusal(create, name=name, config={"leaseMs": 1})["code"] == "conflict"

    change = (
        "mutation($n: String!) { updateQueue(name: $n, config: {retentionMs: 9000000000}) { config { retentionMs } } }"
    )
    assert graph.ask(change, n=name)["updateQueue"] == {"config": {"retentionMs": 9_000_000_000}}

    look = """query($n: String!) { queue(name: $n) {
        name createdAt paused oldestPendingAgeMs consumers rates { published delivered settled }
        counts { pending delayed processing processed failed }
        config { leaseMs maxAttempts deadLetterQueue messageTtlMs maxMessages overflow durability }
    } }"""
    seen, rest = graph.ask(look, n=name)["queue"], api.get(f"/queues/{name}").json()
    assert (seen["createdAt"], seen["counts"]) == (rest["created_at"], rest["counts"])
    assert seen["config"]["durability"] == rest["config"]["durability"] == "fsync"

    assert graph.ask("mutation($n: String!) { deleteQueue(name: $n) }", n=name) == {"deleteQueue": True}
    assert api.get(f"/queues/{name}").status_code == 404


def test_queues_are_listed_by_pages(graph: Graph, api: httpx.Client) -> None:
    stem = fresh_name("listed")
    for number in range(3):
        assert api.post("/queues", json={"name": f"{stem}-{number}"}).status_code == 201
    page = "query($c: String, $l: Int!) { queues(limit: $l, cursor: $c) { items { name } nextCursor } }"
    names: list[str] = []
    cursor: str | None = stem
    while cursor is not None:
        answer = graph.ask(page, c=cursor, l=2)["queues"]
        names += [item["name"] for item in answer["items"]]
        cursor = answer["nextCursor"]
    assert [name for name in names if name.startswith(stem)] == [f"{stem}-{number}" for number in range(3)]


def test_a_paused_queue_delivers_nothing_until_it_is_resumed(graph: Graph, queue: Queue) -> None:
    queue.publish(1)
    assert graph.ask("mutation($q: String!) { pauseQueue(name: $q) { paused } }", q=queue.name)["pauseQueue"]["paused"]
    take = "mutation($q: String!) { consume(queue: $q) { messageId } }"
    assert graph.ask(take, q=queue.name)["consume"] is None
    graph.ask("mutation($q: String!) { resumeQueue(name: $q) { paused } }", q=queue.name)
    assert graph.ask(take, q=queue.name)["consume"] is not None


def test_a_message_is_published_with_all_its_options(graph: Graph, queue: Queue, api: httpx.Client) -> None:
    publish = """mutation($q: String!, $o: PublishOptions) {
        publish(queue: $q, content: {hello: "world"}, options: $o) { messageId status duplicate durability }
    }"""
    options = {
        "priority": 7,
        "ttlMs": 60_000,
        "key": "k",
        "dedupId": "d",
        "correlationId": "c",
        "replyTo": "r",
        "maxAttempts": 2,
        "headers": {"a": 1, "b": None},
        "delayMs": 30_000,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    made = graph.ask(publish, q=queue.name, o=options)["publish"]
    assert (made["status"], made["duplicate"], made["durability"]) == ("pending", False, "fsync")
    assert graph.ask(publish, q=queue.name, o=options)["publish"] == {**made, "duplicate": True}
    rest = api.get(f"/messages/{made['messageId']}").json()
    names = {"priority": 7, "key": "k", "dedup_id": "d", "correlation_id": "c", "reply_to": "r", "max_attempts": 2}
    assert {name: rest[name] for name in names} == names
    assert (rest["headers"], rest["traceparent"]) == ({"a": 1, "b": None}, options["traceparent"])
    look = "query($m: ID!) { message(messageId: $m) { priority key dedupId headers availableAt expiresAt createdAt } }"
    seen = graph.ask(look, m=made["messageId"])["message"]
    assert seen == {
        "priority": 7,
        "key": "k",
        "dedupId": "d",
        "headers": {"a": 1, "b": None},
        "availableAt": rest["available_at"],
        "expiresAt": rest["expires_at"],
        "createdAt": rest["created_at"],
    }


def test_bytes_are_published_and_shown_in_base64(graph: Graph, queue: Queue) -> None:
    raw = base64.b64encode(bytes(range(256))).decode()
    publish = """mutation($q: String!, $b: String!) {
        publish(queue: $q, options: {contentBase64: $b, contentType: "image/png"}) { messageId }
    }"""
    made = graph.ask(publish, q=queue.name, b=raw)["publish"]["messageId"]
    look = "query($m: ID!) { message(messageId: $m) { content contentText contentBase64 contentType } }"
    expected = {"content": None, "contentText": None, "contentBase64": raw, "contentType": "image/png"}
    assert graph.ask(look, m=made)["message"] == expected
    assert queue.take()["content_base64"] == raw


def test_a_batch_is_all_or_nothing(graph: Graph, queue: Queue) -> None:
    batch = """mutation($q: String!, $m: [MessageInput!]!) {
        publishBatch(queue: $q, messages: $m) { messageIds duplicates durability }
    }"""
    some = [{"content": 1}, {"content": None, "dedupId": "x"}, {"content": "c", "dedupId": "x2", "priority": 9}]
    answer = graph.ask(batch, q=queue.name, m=some)["publishBatch"]
    assert (len(answer["messageIds"]), answer["duplicates"]) == (3, [])
    assert graph.ask(batch, q=queue.name, m=some[1:])["publishBatch"]["duplicates"] == [0, 1]
    error = graph.refusal(batch, q=queue.name, m=[{"content": 1}, {"content": 2, "priority": 10}])
    assert (error["code"], error["errors"][0]["pointer"]) == ("invalid", "/messages/1/priority")
    assert [message["content"] for message in queue.take_many(10)] == ["c", 1, None]


def test_a_message_is_consumed_extended_and_acked(graph: Graph, queue: Queue) -> None:
    number = queue.publish({"n": 1})
    take = """mutation($q: String!) {
        consume(queue: $q, waitMs: 5000, leaseMs: 60000) { messageId content status attempt lease leaseExpiresAt }
    }"""
    message = graph.ask(take, q=queue.name)["consume"]
    assert (message["messageId"], message["content"], message["status"]) == (number, {"n": 1}, "processing")
    extend = f"mutation($m: ID!, $l: String) {{ extend(messageId: $m, leaseMs: 3000000000, lease: $l) {SETTLED} }}"
    assert graph.refusal(extend, m=number, l=message["lease"])["code"] == "invalid"  # beyond seven days
    extend = extend.replace("3000000000", "600000")
    assert graph.ask(extend, m=number, l=message["lease"])["extend"]["leaseExpiresAt"] > message["leaseExpiresAt"]
    ack = f"mutation($m: ID!, $l: String) {{ ack(messageId: $m, lease: $l) {SETTLED} }}"
    first = graph.ask(ack, m=number, l=message["lease"])["ack"]
    assert (first["status"], first["alreadyAcked"], first["attempt"]) == ("processed", False, 1)
    assert graph.ask(ack, m=number, l=message["lease"])["ack"]["alreadyAcked"]


def test_a_message_is_nacked_with_a_delay_and_then_for_good_and_retried(graph: Graph, queue: Queue) -> None:
    number = queue.publish("x")
    first = queue.take()
    nack = f"""mutation($m: ID!, $r: Boolean!, $d: Long, $l: String) {{
        nack(messageId: $m, requeue: $r, delayMs: $d, reason: "because", lease: $l) {SETTLED}
    }}"""
    again = graph.ask(nack, m=number, r=True, d=60_000, l=first["lease"])["nack"]
    assert (again["status"], again["availableAt"] is not None) == ("pending", True)
    other = queue.publish("y")
    taken = queue.take()
    assert graph.ask(nack, m=other, r=False, d=None, l=taken["lease"])["nack"]["status"] == "failed"
    look = (
        "query($m: ID!) { message(messageId: $m) { status error } timeline(messageId: $m) { items { event error } } }"
    )
    seen = graph.ask(look, m=other)
    assert seen["message"] == {"status": "failed", "error": "because"}
    assert [item["event"] for item in seen["timeline"]["items"]][:2] == ["published", "delivered"]
    retry = f"mutation($m: ID!) {{ retry(messageId: $m) {SETTLED} }}"
    assert graph.ask(retry, m=other)["retry"]["status"] == "pending"
    assert graph.refusal(retry, m=other)["code"] == "conflict"


def test_nack_does_not_requeue_unless_it_is_said(graph: Graph, queue: Queue) -> None:
    number = queue.publish("x")
    lease = queue.take()["lease"]
    nack = "mutation($m: ID!, $l: String) { nack(messageId: $m, lease: $l) { status } }"
    assert graph.ask(nack, m=number, l=lease)["nack"]["status"] == "failed"


def test_failed_messages_are_redriven_and_the_rest_is_purged(graph: Graph, queue: Queue) -> None:
    queue.publish_many(1, 2, 3)
    for message in queue.take_many(3):
        queue.api.post(f"/messages/{message['message_id']}/nack", json={"lease": message["lease"]})
    redrive = "mutation($q: String!) { redriveQueue(name: $q, limit: 2) }"
    assert graph.ask(redrive, q=queue.name)["redriveQueue"] == 2
    purge = "mutation($q: String!, $s: Purgeable!) { purgeQueue(name: $q, status: $s) }"
    assert graph.ask(purge, q=queue.name, s="failed")["purgeQueue"] == 1
    assert graph.ask("mutation($q: String!) { purgeQueue(name: $q) }", q=queue.name)["purgeQueue"] == 2


def test_dead_letters_come_home(graph: Graph, api: httpx.Client) -> None:
    graves = fresh_name("graves")
    queue = Queue(api, dead_letter_queue=graves)
    number = queue.publish("x")
    api.post(f"/messages/{number}/nack", json={"lease": queue.take()["lease"], "reason": "no"})
    look = "query($m: ID!) { message(messageId: $m) { queue deadLetter { queue reason error attempts } } }"
    note = {"queue": queue.name, "reason": "rejected", "error": "no", "attempts": 1}
    assert graph.ask(look, m=number)["message"] == {"queue": graves, "deadLetter": note}
    redrive = "mutation($q: String!, $f: String!) { redriveQueue(name: $q, from: $f) }"
    assert graph.ask(redrive, q=queue.name, f=graves)["redriveQueue"] == 1


def test_several_messages_are_consumed_at_once_and_one_is_deleted(graph: Graph, queue: Queue) -> None:
    ids = queue.publish_many(1, 2, 3)
    take = "mutation($q: String!) { consumeBatch(queue: $q, max: 2, waitMs: 1000) { messageId content lease } }"
    taken = graph.ask(take, q=queue.name)["consumeBatch"]
    assert [(message["messageId"], message["content"]) for message in taken] == [(ids[0], 1), (ids[1], 2)]
    delete = "mutation($m: ID!) { deleteMessage(messageId: $m) }"
    assert graph.ask(delete, m=ids[2]) == {"deleteMessage": True}
    assert graph.refusal(delete, m=ids[2])["code"] == "not_found"


def test_messages_are_browsed_by_status_key_and_content(graph: Graph, queue: Queue) -> None:
    queue.publish("apple", key="a")
    queue.publish("pear", key="b")
    queue.publish("plum", key="b")
    browse = """query($q: String!, $s: MessageStatus, $k: String, $c: String, $l: Int! = 50, $p: String) {
        messages(queue: $q, status: $s, key: $k, contains: $c, limit: $l, cursor: $p) { items { content } nextCursor }
    }"""

    def seen(**options: object) -> list[str]:
        page = graph.ask(browse, q=queue.name, **options)["messages"]
        return [item["content"] for item in page["items"]]

    assert seen(k="b") == ["pear", "plum"]
    assert seen(c="pl") == ["apple", "plum"]
    assert seen(s="failed") == []
    page = graph.ask(browse, q=queue.name, l=2)["messages"]
    assert seen(l=2, p=page["nextCursor"]) == ["plum"]


def test_stats_are_those_of_rest(graph: Graph, queue: Queue) -> None:
    queue.publish_many(1, 2)
    figures = graph.ask("""{ stats {
        pending processing failed processed totalRequests processCpuPercent processMemoryMb uptimeSeconds
        requestsByRoute requestsByStatus connections { websocket longPoll sse graphql } queues { name pending }
    } }""")["stats"]
    assert {"name": queue.name, "pending": 2} in figures["queues"]
    assert figures["requestsByRoute"]["POST /graphql"] >= 1


def test_one_error_leaves_the_other_answers(graph: Graph, queue: Queue) -> None:
    query = 'mutation($q: String!) { publish(queue: $q, content: 1) { messageId } ack(messageId: "nope") { status } }'
    document = graph.reply(query, q=queue.name)
    assert document["data"]["ack"] is None
    assert document["data"]["publish"]["messageId"]
    (error,) = document["errors"]
    assert (error["path"], error["extensions"]["code"], error["extensions"]["status"]) == (["ack"], "not_found", 404)


def test_only_the_first_message_of_a_request_is_waited_for(graph: Graph, queue: Queue) -> None:
    """Waiting a minute for the second one would be a time-out of the test's client, and would cost the first one."""
    queue.publish("only")
    take = (
        "mutation($q: String!) { a: consume(queue: $q) { content } b: consume(queue: $q, waitMs: 60000) { content } }"
    )
    assert graph.ask(take, q=queue.name) == {"a": {"content": "only"}, "b": None}
