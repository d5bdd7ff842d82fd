"""Queues, messages, users and keys from the command line, against a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest

from streambroker.cli import connection
from streambroker.cli.exits import Exit
from tests.cli.ops import Command
from tests.harness import PASSWORD, BrokerProcess


def lines(text: str) -> list[list[str]]:
    """Tab-separated cells of each line."""
    return [line.split("\t") for line in text.splitlines()]


def fields(text: str) -> dict[str, str]:
    """Names and values of what `fields` printed."""
    return dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)


def failed(api: httpx.Client, queue: str, content: Any = 1) -> str:
    """The id of a message that has failed."""
    api.post(f"/queues/{queue}/messages", json={"content": content}).raise_for_status()
    message = api.get(f"/queues/{queue}/messages/consume").json()
    api.post(f"/messages/{message['message_id']}/nack", json={"reason": "boom"}).raise_for_status()
    message_id: str = message["message_id"]
    return message_id


# ---- queues


def test_a_queue_from_its_creation_to_its_end(run: Command, queue: str) -> None:
    made = run(
        "queue", "create", queue, "--lease", "10s", "--max-attempts", 3, "--backoff", "fixed",
        "--backoff-base", "250ms",
        "--no-backoff-jitter", "--message-ttl", "2h", "--overflow", "drop_oldest", "--json",
    )  # fmt: skip
    config = made.document["config"]
    assert (config["lease_ms"], config["max_attempts"], config["message_ttl_ms"]) == (10_000, 3, 7_200_000)
    assert config["backoff"] == {"kind": "fixed", "base_ms": 250, "factor": 2, "max_ms": 300_000, "jitter": False}
    assert config["overflow"] == "drop_oldest"
    other = run("queue", "create", queue)
    assert other.code == Exit.REFUSED
    told = f"the queue {queue} exists with another configuration; `streambroker queue set {queue}` changes it"
    assert other.err == f"streambroker: {told}\n"
    assert queue in [row[0] for row in lines(run("queue", "list").out)]
    assert run("queue", "pause", queue).code == 0
    assert "(paused)" in run("queue", "show", queue).out
    assert run("queue", "resume", queue).code == 0
    assert run("queue", "delete", queue, "--yes").code == 0
    gone = run("queue", "show", queue)
    assert (gone.code, gone.out) == (Exit.REFUSED, "")
    assert "`streambroker queue list`" in gone.err


def test_set_changes_what_is_named_and_nothing_else(run: Command, queue: str) -> None:
    run("queue", "create", queue, "--backoff-base", "5s", "--dead-letter-queue", f"{queue}.dead")
    assert run("queue", "set", queue, "--backoff-max", "1m", "--retention", "1d").code == 0
    config = run("queue", "show", queue, "--json").document["config"]
    assert (config["backoff"]["base_ms"], config["backoff"]["max_ms"]) == (5_000, 60_000)
    assert (config["dead_letter_queue"], config["retention_ms"]) == (f"{queue}.dead", 86_400_000)
    run("queue", "set", queue, "--dead-letter-queue", "")
    assert run("queue", "show", queue, "--json").document["config"]["dead_letter_queue"] is None


def test_set_without_anything_is_wrong_usage(run: Command, queue: str) -> None:
    assert run("queue", "set", queue).code == Exit.USAGE


def test_purge_tells_how_many_it_deleted(run: Command, api: httpx.Client, queue: str) -> None:
    failed(api, queue)
    api.post(f"/queues/{queue}/messages/batch", json={"messages": [{"content": n} for n in range(3)]})
    assert run("queue", "purge", queue, "-y").out == "3 messages deleted\n"
    assert run("queue", "purge", queue, "--status", "failed", "-y", "--json").document["purged"] == 1


@pytest.mark.parametrize("command", ["purge", "delete"])
def test_what_destroys_asks_and_without_a_terminal_does_nothing(
    run: Command, api: httpx.Client, queue: str, command: str
) -> None:
    api.post(f"/queues/{queue}/messages", json={"content": 1})
    ended = run("queue", command, queue)
    assert ended.code == Exit.USAGE
    assert "--yes" in ended.err
    assert api.get(f"/queues/{queue}").json()["counts"]["pending"] == 1


def test_redrive_makes_failed_messages_ready(run: Command, api: httpx.Client, queue: str) -> None:
    failed(api, queue)
    assert run("queue", "redrive", queue).out == f"1 messages are ready again in {queue}\n"
    assert api.get(f"/queues/{queue}").json()["counts"]["pending"] == 1


# ---- messages


def test_a_message_is_shown_with_what_happened_to_it(run: Command, api: httpx.Client, queue: str) -> None:
    message_id = failed(api, queue, {"order": 1})
    shown = run("message", "show", message_id)
    assert fields(shown.out)["status"].strip() == "failed"
    assert fields(shown.out)["error"].strip() == "boom"
    assert [row[1] for row in lines(shown.out) if len(row) == 5] == ["EVENT", "published", "delivered", "failed"]
    document = run("message", "show", message_id, "--json").document
    assert document["message"]["content"] == {"order": 1}
    assert [moment["event"] for moment in document["timeline"]] == ["published", "delivered", "failed"]
    assert document["message"]["created_at"] == api.get(f"/messages/{message_id}").json()["created_at"]
    assert run("message", "show", message_id, "--body").out == '{"order": 1}'.replace(" ", "")


def test_search_finds_by_status_key_and_content(run: Command, api: httpx.Client, queue: str) -> None:
    message_id = failed(api, queue, "needle")
    other = api.post(f"/queues/{queue}/messages", json={"content": "hay", "key": "k"}).json()["message_id"]
    assert [row[0] for row in lines(run("message", "search", queue).out)] == ["ID", other, message_id]
    for options, expected in (
        (["--status", "failed"], message_id),
        (["--key", "k"], other),
        (["--contains", "needle"], message_id),
        (["--limit", "1"], other),
    ):
        found = run("message", "search", queue, *options, "--json").out.splitlines()
        assert [json.loads(line)["message_id"] for line in found] == [expected]


def test_a_failed_message_is_tried_again_and_a_waiting_one_is_not(run: Command, api: httpx.Client, queue: str) -> None:
    message_id = failed(api, queue)
    assert run("message", "retry", message_id).code == 0
    again = run("message", "retry", message_id)
    assert again.code == Exit.REFUSED
    assert "pending" in again.err


def test_a_message_is_deleted(run: Command, api: httpx.Client, queue: str) -> None:
    message_id = failed(api, queue)
    assert run("message", "delete", message_id, "--yes").code == 0
    assert api.get(f"/messages/{message_id}").status_code == 404


def test_what_a_message_says_cannot_steer_a_terminal(run: Command, api: httpx.Client, queue: str) -> None:
    api.post(f"/queues/{queue}/messages", json={"content": 1, "key": "\x1b[31mred\x07"}).raise_for_status()
    out = run("message", "search", queue).out
    assert "\x1b" not in out
    assert "\\x1b[31mred\\x07" in out


# ---- users, keys, tokens


def test_a_user_from_its_creation_to_its_end(admin: Command, queue: str) -> None:
    name = f"ann-{queue}"
    made = admin("user", "create", name, "--grant", f"{queue}*:publish,view", "--generate", "--json").document
    assert made["grants"] == [{"queues": f"{queue}*", "actions": ["publish", "view"]}]
    assert len(made["password"]) >= 20
    assert name in [row[0] for row in lines(admin("user", "list").out)]
    changed = admin("user", "set", name, "--disable", "--grant", "a:all", "--json").document
    assert changed["disabled"]
    assert changed["grants"][0]["actions"] == ["publish", "consume", "manage", "view"]
    assert admin("user", "set", name, "--no-grants", "--enable", "--json").document["grants"] == []
    assert admin("user", "delete", name, "-y").code == 0
    assert admin("user", "show", name).code == Exit.REFUSED


def test_a_password_is_not_asked_for_where_nobody_can_answer(admin: Command, queue: str) -> None:
    ended = admin("user", "create", f"bob-{queue}")
    assert ended.code == Exit.USAGE
    assert "--password-stdin" in ended.err


def test_a_key_is_printed_alone_and_works(admin: Command, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = admin("key", "create", "ci", "--grant", f"{queue}:publish", "--expires", "30d")
    key = made.out.strip()
    assert key.startswith("sbk_")
    key_id = next(row[0] for row in lines(admin("key", "list").out) if row[1] == "ci")
    assert admin("publish", queue, "1", "--token", key).code == 0
    assert admin("queue", "show", queue, "--token", key).code == Exit.NOT_ALLOWED
    assert admin("key", "delete", key_id, "-y").code == 0
    assert admin("publish", queue, "1", "--token", key).code == Exit.NOT_ALLOWED


def test_a_token_is_printed_alone_and_works(admin: Command, server: BrokerProcess) -> None:
    token = admin("token").out.strip()
    me = httpx.get(f"{server.url}/users/me", headers={"Authorization": f"Bearer {token}"}, trust_env=False).json()
    assert (me["username"], me["credential"]["kind"]) == ("admin", "session")


def test_a_session_of_a_command_ends_with_it(
    admin: Command, server: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    from streambroker.client import rest

    given: list[str] = []
    login = rest.login

    async def noted(*args: Any, **options: Any) -> Any:
        pair = await login(*args, **options)
        given.append(pair.access_token)
        return pair

    monkeypatch.setattr(rest, "login", noted)
    assert admin("queue", "list").code == 0
    headers = {"Authorization": f"Bearer {given[0]}"}
    assert httpx.get(f"{server.url}/users/me", headers=headers, trust_env=False).status_code == 401


def test_who_is_asking_is_said_by_options_before_the_environment(
    run: Command, server: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "by the API key" in run("user", "show").err
    monkeypatch.setenv("STREAMBROKER_PASSWORD", PASSWORD)
    assert run("user", "show", "--username", "admin").err == "you are admin\n"
    assert run("user", "show", "--username", "admin", "--token", "x").code == Exit.USAGE


# ---- when it does not work


def test_a_login_that_takes_long_says_how_to_do_without(admin: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for within_s, told in ((3_600, False), (0, True)):
        monkeypatch.setattr(connection, "_SLOW_LOGIN_S", within_s)
        said = admin("queue", "list")
        assert (said.code, "streambroker key create" in said.err) == (0, told)


def test_without_a_login_it_says_how(nobody: Command) -> None:
    ended = nobody("queue", "list")
    assert ended.code == Exit.NOT_ALLOWED
    assert ended.err.count("\n") == 1
    assert "--username" in ended.err


def test_a_broker_that_is_not_there_is_said_in_a_line(run: Command) -> None:
    for command in (["queue", "list"], ["consume", "q"], ["publish", "q", "1"], ["tail", "q"]):
        ended = run(*command, "--url", "http://127.0.0.1:1", "--timeout", "3")
        assert (ended.code, ended.err.count("\n")) == (Exit.UNAVAILABLE, 1), command
        assert "--url" in ended.err


@pytest.fixture
def another_server() -> Iterator[str]:
    """The URL of a server that is no streambroker."""
    page = b"<html><h1>Not Found</h1></html>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_that_is_no_streambrokers_is_as_good_as_none(run: Command, another_server: str) -> None:
    for command in (["queue", "list"], ["queue", "show", "q"], ["consume", "q"], ["publish", "q", "1"], ["tail", "q"]):
        ended = run(*command, "--url", another_server)
        assert (ended.code, ended.err.count("\n")) == (Exit.UNAVAILABLE, 1), command
        assert "answered 404" in ended.err and "is that the URL of a streambroker?" in ended.err
    told = run("doctor", "--url", another_server)
    assert told.code == 1 and "cannot be reached" in told.out and "not as a streambroker does" in told.out


def test_a_name_that_no_queue_may_have_is_told_in_words(run: Command) -> None:
    for command in (["queue", "create", "a b"], ["queue", "show", "a b"], ["publish", "a b", "1"], ["consume", "a b"]):
        ended = run(*command)
        assert ended.code == Exit.USAGE
        assert "a queue's name is 1 to 128 of A-Z a-z 0-9 . _ - and begins with a letter or digit" in ended.err, command


def test_an_error_is_a_document_where_json_is_asked_for(run: Command, queue: str) -> None:
    ended = run("queue", "show", queue, "--json")
    error = json.loads(ended.err)
    assert (error["code"], error["status"], error["exit_code"]) == ("not_found", 404, ended.code)
    assert error["request_id"]
    assert ended.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["queue", "show", "a b"], ["queue", "create", "q", "--lease", "soon"], ["publish", "q", "1", "--rate", "0"],
        ["user", "create", "x", "--grant", "no-actions"], ["queue", "list", "--url", "nonsense"],
        ["publish", "q", "1", "2", "--dedup-id", "d"], ["consume", "q", "--exec", "true", "--ack", "manual"],
        ["message", "search", "q", "--status", "unknown"], ["publish", "q", "1", "--at", "yesterday"], ["nonsense"],
    ],
)  # fmt: skip
def test_wrong_usage_is_64_in_a_line_or_two(run: Command, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.code == Exit.USAGE
    assert ended.err.startswith("streambroker: ")
    assert ended.err.count("\n") <= 2


@pytest.mark.parametrize("command", ["retry", "delete"])
def test_what_is_refused_of_one_message_does_not_stop_the_others(
    run: Command, api: httpx.Client, queue: str, command: str
) -> None:
    ids = [failed(api, queue), "1234567890", failed(api, queue)]
    ended = run("message", command, *ids, "--json", *(["--yes"] if command == "delete" else []))
    assert ended.code == Exit.REFUSED
    assert [json.loads(line)["message_id"] for line in ended.out.splitlines()] == [ids[0], ids[2]]
    refusal = json.loads(ended.err)
    assert (refusal["code"], refusal["message_id"], refusal["exit_code"]) == ("not_found", ids[1], 1)
