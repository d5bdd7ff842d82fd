"""``publish``, ``consume`` and ``tail`` against a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from streambroker.cli.exits import Exit
from tests.cli.ops import Command, Started, browsed, counts, published


def eventually(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Wait for what another process does."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.02)


# ---- publish


def test_arguments_are_json_where_they_are_json_and_text_elsewhere(run: Command, api: httpx.Client, queue: str) -> None:
    ended = run("publish", queue, '{"n": 12345678901234567890123}', "hello world", "1.50")
    assert ended.code == 0
    ids = [message["message_id"] for message in browsed(api, queue)]
    assert ended.out.split() == ids
    assert "3 messages published" in ended.err
    bodies = [run("message", "show", message_id, "--body").out for message_id in ids]
    assert bodies == ['{"n": 12345678901234567890123}', '"hello world"', "1.50"]


def test_every_option_goes_with_the_message(run: Command, api: httpx.Client, queue: str) -> None:
    run(
        "publish", queue, "x", "--priority", 7, "--delay", "1h", "--ttl", "2h", "--key", "k", "--dedup-id", "d",
        "-H", "a=b=c", "-H", "e=", "--correlation-id", "c", "--reply-to", "r", "--max-attempts", 9,
        "--traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip
    (message,) = browsed(api, queue)
    assert (message["priority"], message["key"], message["dedup_id"]) == (7, "k", "d")
    assert message["headers"] == {"a": "b=c", "e": ""}
    assert (message["correlation_id"], message["reply_to"], message["max_attempts"]) == ("c", "r", 9)
    assert message["traceparent"].startswith("00-0af7")
    assert message["available_at"] > message["created_at"]
    again = run("publish", queue, "x", "--dedup-id", "d", "--json").document
    assert again == {"message_id": message["message_id"], "duplicate": True, "durability": "fsync"}


@pytest.mark.parametrize(
    ("kind", "expected"), [("text", '"{\\"a\\":1}"'), ("json", '{"a":1}'), ("raw", '{"a":1}'), ("auto", '{"a":1}')]
)
def test_the_kind_of_content_can_be_said(run: Command, queue: str, kind: str, expected: str) -> None:
    message_id = run("publish", queue, '{"a":1}', "--as", kind).out.strip()
    assert run("message", "show", message_id, "--body").out == expected
    media_type = run("message", "show", message_id, "--json").document["message"]["content_type"]
    assert media_type == ("application/octet-stream" if kind == "raw" else "application/json")


def test_what_is_not_json_is_refused_where_json_was_promised(run: Command, queue: str) -> None:
    ended = run("publish", queue, "{", "--as", "json")
    assert ended.code == Exit.USAGE
    assert "is not JSON" in ended.err


def test_files_are_messages_of_their_type(run: Command, api: httpx.Client, queue: str, tmp_path: Path) -> None:
    picture, page = tmp_path / "a.png", tmp_path / "b.json"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    page.write_text('{\n "a": 1\n}\n')
    run("publish", queue, "--file", picture, "--file", page)
    first, second = browsed(api, queue)
    assert first["content_type"] == "image/png"
    assert second["content"] == {"a": 1}
    assert run("consume", queue, "--count", 1, "--json").document["content_base64"] == first["content_base64"]


def test_each_line_of_a_file_is_a_message_where_that_is_asked_for(
    run: Command, api: httpx.Client, queue: str, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"a": 1}\n\ntext\r\n3')
    assert run("publish", queue, "-f", lines, "--lines").code == 0
    assert [message["content"] for message in browsed(api, queue)] == [{"a": 1}, "text", 3]


def test_a_file_that_is_not_there_is_66_and_what_was_published_stays(
    run: Command, api: httpx.Client, queue: str, tmp_path: Path
) -> None:
    assert run("publish", queue, "first", "-f", tmp_path / "none").code == Exit.UNREADABLE


def test_a_refused_publish_stops_and_says_how_many_there_were(run: Command, api: httpx.Client, queue: str) -> None:
    run("queue", "create", queue, "--max-messages", 2)
    ended = run("publish", queue, *map(str, range(5)))
    assert ended.code == Exit.NOT_NOW
    assert "messages published" in ended.err
    assert "queue set --max-messages" in ended.err
    assert counts(api, queue)["pending"] <= 2


def test_count_repeats_and_rate_paces(run: Command, api: httpx.Client, queue: str) -> None:
    begun = time.monotonic()
    ended = run("publish", queue, "a", "b", "--count", 3, "--rate", "25/s")
    assert time.monotonic() - begun >= 5 / 25
    assert len(ended.out.split()) == 6
    assert [message["content"] for message in browsed(api, queue)] == ["a", "b"] * 3


def test_stdin_is_published_line_by_line_as_it_comes(start: Started, api: httpx.Client, queue: str) -> None:
    api.post("/queues", json={"name": queue}).raise_for_status()
    process = start("publish", queue)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b'{"n": 1}\n')
    process.stdin.flush()
    assert process.stdout.readline().strip()  # before the next line is there
    assert counts(api, queue)["pending"] == 1
    _, err = process.communicate(b"two\nthree\n", timeout=30)
    assert process.returncode == 0
    assert b"3 messages published" in err
    assert [message["content"] for message in browsed(api, queue)] == [{"n": 1}, "two", "three"]


def test_many_lines_are_all_published_in_their_order(start: Started, api: httpx.Client, queue: str) -> None:
    process = start("publish", queue, "-", "--quiet")
    out, _ = process.communicate(b"".join(b"%d\n" % number for number in range(3_000)), timeout=60)
    assert (process.returncode, out) == (0, b"")
    assert counts(api, queue)["pending"] == 3_000
    assert [message["content"] for message in browsed(api, queue)] == list(range(500))


def test_ctrl_c_ends_a_publish_that_waits_for_its_next_line(start: Started, api: httpx.Client, queue: str) -> None:
    process = start("publish", queue)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"1\n")
    process.stdin.flush()
    assert process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == Exit.INTERRUPTED
    assert process.stderr is not None
    assert process.stderr.read().count(b"\n") == 1  # the summary, and nobody's traceback


# ---- consume


def test_it_prints_and_acks_as_many_as_were_asked_for(run: Command, api: httpx.Client, queue: str) -> None:
    published(api, queue, {"a": 1}, "text", [1, 2], "left")
    ended = run("consume", queue, "--count", 3)
    assert ended.out == '{"a":1}\n"text"\n[1,2]\n'
    assert "3 messages" in ended.err
    assert counts(api, queue) == {"pending": 1, "delayed": 0, "processing": 0, "processed": 3, "failed": 0}
    assert [message["attempt"] for message in browsed(api, queue) if message["content"] == "left"] == [0]


def test_wait_zero_takes_what_is_there(run: Command, api: httpx.Client, queue: str) -> None:
    published(api, queue, *range(250))
    assert run("consume", queue, "--wait", 0).out.split() == [str(number) for number in range(250)]
    assert run("consume", queue, "--wait", "50ms").out == ""
    assert counts(api, queue)["processed"] == 250


def test_json_is_the_whole_message_on_a_line(run: Command, api: httpx.Client, queue: str) -> None:
    (message_id,) = published(api, queue, {"a": 1}, key="k", headers={"h": 1})
    message = run("consume", queue, "--count", 1, "--json").document
    assert (message["message_id"], message["content"], message["key"]) == (message_id, {"a": 1}, "k")
    assert (message["headers"], message["attempt"], message["status"]) == ({"h": 1}, 1, "processing")


def test_raw_is_the_content_and_nothing_else(start: Started, api: httpx.Client, queue: str) -> None:
    content = bytes(range(256))
    headers = {"content-type": "application/octet-stream"}
    api.post(f"/queues/{queue}/messages", content=content, headers=headers).raise_for_status()
    out, _ = start("consume", queue, "--count", 1, "--raw").communicate(timeout=30)
    assert out == content


def test_it_goes_on_until_it_is_stopped_and_ends_well(start: Started, api: httpx.Client, queue: str) -> None:
    process = start("consume", queue)
    assert process.stdout is not None and process.stderr is not None
    published(api, queue, 1)
    assert process.stdout.readline() == b"1\n"
    published(api, queue, 2)
    assert process.stdout.readline() == b"2\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == f"2 messages of {queue}\n".encode()
    assert counts(api, queue)["processed"] == 2


def test_what_nobody_reads_is_not_acked(start: Started, api: httpx.Client, queue: str) -> None:
    published(api, queue, *("x" * 1_000 for _ in range(400)))
    process = start("consume", queue)
    assert process.stdout is not None
    process.stdout.read(1_000)
    process.stdout.close()
    process.wait(20)
    eventually(lambda: counts(api, queue)["processing"] == 0)
    assert counts(api, queue)["pending"] > 0
    assert counts(api, queue)["failed"] == 0


def test_by_hand_each_gets_its_verdict(start: Started, api: httpx.Client, queue: str) -> None:
    published(api, queue, "acked", "nacked", "rejected", "left")
    process = start("consume", queue, "--ack", "manual", "--retry-delay", "1h")
    out, err = process.communicate(b"a\nwhat\nnack\nr\nq\n", timeout=30)
    assert process.returncode == 0
    assert out == b'"acked"\n"nacked"\n"rejected"\n"left"\n'
    assert b"say a, n, r or q" in err
    statuses = {message["content"]: (message["status"], message["error"]) for message in browsed(api, queue)}
    assert statuses == {
        "acked": ("processed", None),
        "nacked": ("pending", "nacked by hand"),
        "rejected": ("failed", "rejected by hand"),
        "left": ("pending", None),
    }


# ---- consume --exec


def test_a_command_gets_the_message_and_its_exit_status_decides(
    run: Command, api: httpx.Client, queue: str, tmp_path: Path
) -> None:
    published(api, queue, "good", key="k1", headers={"h": "ü"}, correlation_id="c1")
    published(api, queue, "bad", key="k2")
    seen = tmp_path / "seen"
    script = tmp_path / "work.sh"
    script.write_text(
        f'cat >> {seen}\necho " $MESSAGE_QUEUE $MESSAGE_ATTEMPT $MESSAGE_KEY $MESSAGE_HEADERS '
        f'$MESSAGE_CORRELATION_ID" >> {seen}\n'
        '[ "$MESSAGE_KEY" = k1 ] && exit 0\necho first >&2; echo "it broke" >&2; exit 3\n'
    )
    ended = run("consume", queue, "--exec", f"sh {script}", "--count", 2, "--retry-delay", "1h")
    assert ended.code == 0
    assert "2 messages" in ended.err and "1 of them nacked" in ended.err
    assert seen.read_text() == f'"good" {queue} 1 k1 {{"h":"ü"}} c1\n"bad" {queue} 1 k2  \n'
    messages = {message["content"]: message for message in browsed(api, queue)}
    assert messages["good"]["status"] == "processed"
    assert messages["bad"]["status"] == "pending"
    assert messages["bad"]["error"] == "exit status 3: it broke"


def test_commands_run_side_by_side_and_are_told_as_documents(run: Command, api: httpx.Client, queue: str) -> None:
    ids = published(api, queue, *range(6))
    ended = run("consume", queue, "--exec", "echo out; cat > /dev/null", "--concurrency", 3, "--wait", "1s", "--json")
    told = [json.loads(line) for line in ended.out.splitlines()]
    assert sorted(one["message_id"] for one in told) == ids
    assert all(one["acked"] and one["exit_status"] == 0 for one in told)
    assert counts(api, queue)["processed"] == 6


def test_a_command_that_runs_when_one_stops_comes_to_its_end(
    start: Started, api: httpx.Client, queue: str, tmp_path: Path
) -> None:
    published(api, queue, "first", "second")
    begun, go = tmp_path / "begun", tmp_path / "go"
    process = start("consume", queue, "--exec", f"touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done")
    eventually(begun.exists)
    process.send_signal(signal.SIGTERM)
    go.touch()
    assert process.wait(20) == 0
    assert counts(api, queue)["processed"] >= 1
    assert counts(api, queue)["processing"] == counts(api, queue)["failed"] == 0


def test_a_second_signal_ends_the_command_too(start: Started, api: httpx.Client, queue: str, tmp_path: Path) -> None:
    published(api, queue, "first")
    pid = tmp_path / "pid"
    process = start("consume", queue, "--exec", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")
    eventually(pid.exists)
    process.send_signal(signal.SIGINT)
    ended = False
    while not ended:  # the second one counts once the first has been seen
        process.send_signal(signal.SIGINT)
        try:
            ended = process.wait(0.2) == Exit.INTERRUPTED
        except subprocess.TimeoutExpired:
            continue
    eventually(lambda: not Path(f"/proc/{int(pid.read_text())}").exists())
    eventually(lambda: counts(api, queue)["pending"] == 1)


# ---- tail


def test_tail_tells_what_happens(start: Started, api: httpx.Client, queue: str) -> None:
    api.post("/queues", json={"name": queue}).raise_for_status()
    before = api.get("/stats").json()["connections"]["sse"]
    process = start("tail", queue, "--json", "--count", 2)
    eventually(lambda: api.get("/stats").json()["connections"]["sse"] > before)
    (message_id,) = published(api, queue, 1)
    message = api.get(f"/queues/{queue}/messages/consume").json()
    api.post(f"/messages/{message_id}/ack", json={"lease": message["lease"]}).raise_for_status()
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event["event"], event["message_id"]) for event in events] == [
        ("new_message", message_id),
        ("message_processed", message_id),
    ]


def test_tail_ends_well_at_ctrl_c(start: Started, api: httpx.Client, queue: str) -> None:
    api.post("/queues", json={"name": queue}).raise_for_status()
    before = api.get("/stats").json()["connections"]["sse"]
    process = start("tail", queue)
    eventually(lambda: api.get("/stats").json()["connections"]["sse"] > before)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
