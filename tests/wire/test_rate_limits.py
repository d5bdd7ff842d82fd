"""How often one may ask: per user, else per address, over every door (D8, D9, D23).

Limits here are per day, so that the day's end, once a day, is the only moment at which a count could change by itself;
even then the day before still counts.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.harness import PASSWORD, BrokerProcess
from tests.redis_server import RedisServer
from tests.wire.doors import fresh_name
from tests.wire.problems import check_problem
from tests.wire.sockets import open_socket

DEFAULT, MESSAGES, LOGINS = 60, 50, 5
EVERYTHING = [{"queues": "*", "actions": ["publish", "consume", "manage", "view"]}]

User = Callable[[], httpx.Client]


def limits(default: str = "off", login: str = "off", messages: str = "off") -> dict[str, str]:
    return {
        "STREAMBROKER_RATE_LIMIT_DEFAULT": default,
        "STREAMBROKER_RATE_LIMIT_LOGIN": login,
        "STREAMBROKER_RATE_LIMIT_MESSAGES": messages,
    }


def caller(broker: BrokerProcess, address: str = "127.0.0.1", token: str | None = None) -> httpx.Client:
    """A client that calls from `address`; on Linux all of 127.0.0.0/8 is this machine."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=broker.url, transport=transport, headers=headers, timeout=30)


def log_in(broker: BrokerProcess, address: str, username: str, password: str) -> httpx.Response:
    with caller(broker, address) as client:
        return client.post("/login", json={"username": username, "password": password})


def check_refused(reply: httpx.Response, policy: str, limit: int) -> None:
    """A 429 that says when to come back, in each of the ways that there are."""
    assert reply.status_code == 429
    problem = reply.json()
    check_problem(problem, "rate_limited")
    assert problem["retryable"] is True
    seconds = int(reply.headers["retry-after"])
    assert seconds == max(1, -(-problem["retry_after_ms"] // 1_000))
    assert reply.headers["ratelimit-policy"] == f'"{policy}";q={limit};w=86400'
    assert re.fullmatch(rf'"{policy}";r=0;t=\d+', reply.headers["ratelimit"])


# --- users


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    env = limits(default=f"{DEFAULT}/day", messages=f"{MESSAGES}/day")
    with BrokerProcess(tmp_path_factory.mktemp("limited") / "data", env=env) as running:
        yield running


@pytest.fixture
def user(limited: BrokerProcess) -> Iterator[User]:
    """Makes users that nobody else is, logged in."""
    clients = []
    with limited.client() as admin:

        def make() -> httpx.Client:
            name = fresh_name("user")
            account = {"username": name, "password": PASSWORD, "role": "member", "grants": EVERYTHING}
            admin.post("/users", json=account).raise_for_status()
            token = log_in(limited, "127.0.0.1", name, PASSWORD).json()["access_token"]
            clients.append(caller(limited, token=token))
            return clients[-1]

        yield make
    for client in clients:
        client.close()


def test_requests_beyond_the_limit_are_429_and_say_when_to_come_back(user: User) -> None:
    client = user()
    assert Counter(client.get("/queues").status_code for _ in range(DEFAULT)) == {200: DEFAULT}
    check_refused(client.get("/queues"), "default", DEFAULT)


def test_every_answer_tells_what_is_left(user: User) -> None:
    client = user()
    left = []
    for path in ("/queues", "/users/me", "/messages/nonsense", "/stats", "/queues"):
        reply = client.get(path)
        assert reply.headers["ratelimit-policy"] == f'"default";q={DEFAULT};w=86400'
        found = re.fullmatch(r'"default";r=(\d+);t=\d+', reply.headers["ratelimit"])
        assert found is not None
        left.append(int(found[1]))
    assert left == [DEFAULT - 1 - number for number in range(5)]


def test_one_user_takes_nothing_from_another(user: User) -> None:
    greedy, other = user(), user()
    assert [greedy.get("/queues").status_code for _ in range(DEFAULT + 1)][-1] == 429
    assert other.get("/queues").status_code == 200


def test_messages_have_a_limit_of_their_own(user: User) -> None:
    client, queue = user(), fresh_name()
    for _ in range(MESSAGES):
        assert client.post(f"/queues/{queue}/messages", json={"content": 1}).status_code == 201
    check_refused(client.post(f"/queues/{queue}/messages", json={"content": 1}), "messages", MESSAGES)
    check_refused(client.get(f"/queues/{queue}/messages/consume"), "messages", MESSAGES)
    assert client.get(f"/queues/{queue}").json()["counts"]["pending"] == MESSAGES


def test_rest_and_websocket_share_the_limit_and_what_is_refused_is_not_stored(
    limited: BrokerProcess, user: User
) -> None:
    client, queue = user(), fresh_name()
    for _ in range(MESSAGES - 10):
        client.post(f"/queues/{queue}/messages", json={"content": "rest"}).raise_for_status()
    token = client.headers["authorization"].removeprefix("Bearer ")
    with open_socket(limited.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        answers = [socket.call("publish", queue=queue, messages=[{"content": "ws"}]) for _ in range(15)]
        # An array that does not fit as a whole is let in as far as it goes, and each frame is answered.
        socket.send(*({"op": "publish", "id": f"x{n}", "queue": queue, "messages": [{"content": 1}]} for n in range(3)))
        answers += [socket.answer(f"x{n}") for n in range(3)]
    assert Counter(answer["op"] for answer in answers) == {"ok": 10, "error": 8}
    for answer in answers[10:]:
        check_problem(answer["problem"], "rate_limited")
        assert answer["problem"]["retry_after_ms"] > 0
    assert client.get(f"/queues/{queue}").json()["counts"]["pending"] == MESSAGES


def test_an_array_of_frames_is_let_in_as_far_as_the_limit_goes(limited: BrokerProcess, user: User) -> None:
    client, queue = user(), fresh_name()
    token = client.headers["authorization"].removeprefix("Bearer ")
    with open_socket(limited.ws_url + "/ws", token=token) as socket:
        socket.op("welcome")
        publish = {"op": "publish", "queue": queue, "messages": [{"content": 1}]}
        socket.send(*({**publish, "id": number} for number in range(MESSAGES + 10)))
        answers = [socket.answer(number) for number in range(MESSAGES + 10)]
    assert Counter(answer["op"] for answer in answers) == {"ok": MESSAGES, "error": 10}
    assert client.get(f"/queues/{queue}").json()["counts"]["pending"] == MESSAGES


def test_a_new_token_brings_no_new_limit(limited: BrokerProcess, user: User) -> None:
    client = user()
    name = client.get("/users/me").json()["username"]
    for _ in range(DEFAULT):
        client.get("/queues")
    token = log_in(limited, "127.0.0.1", name, PASSWORD).json()["access_token"]
    with caller(limited, "127.0.0.99", token) as again:
        check_refused(again.get("/queues"), "default", DEFAULT)


# --- addresses


def test_strangers_count_by_their_address_whatever_they_say_they_forward(limited: BrokerProcess) -> None:
    with caller(limited, "127.0.0.3") as client:
        replies = [
            client.get("/queues", headers={"X-Forwarded-For": f"6.6.6.{n}", "Forwarded": f"for=6.6.6.{n}"})
            for n in range(DEFAULT + 1)
        ]
    assert Counter(reply.status_code for reply in replies) == {401: DEFAULT, 429: 1}
    check_refused(replies[-1], "default", DEFAULT)
    with caller(limited, "127.0.0.4") as client:
        assert client.get("/queues").status_code == 401


def test_bad_tokens_and_paths_that_are_not_there_count_too(limited: BrokerProcess) -> None:
    with caller(limited, "127.0.0.5", token="nonsense") as client:
        statuses = [client.get(path).status_code for _ in range(DEFAULT // 2) for path in ("/queues", "/nowhere")]
        assert set(statuses) == {401}
        assert client.get("/queues").status_code == 429
        assert client.get("/nowhere").status_code == 429


def test_a_user_is_not_held_back_by_strangers_at_the_same_address(limited: BrokerProcess, user: User) -> None:
    token = user().headers["authorization"].removeprefix("Bearer ")
    with caller(limited, "127.0.0.6") as stranger:
        assert [stranger.get("/queues").status_code for _ in range(DEFAULT + 1)][-1] == 429
    with caller(limited, "127.0.0.6", token) as known:
        assert known.get("/queues").status_code == 200


def test_whether_the_broker_is_well_may_be_asked_as_often_as_one_likes(limited: BrokerProcess) -> None:
    with caller(limited, "127.0.0.7") as client:
        for path in ("/healthz", "/readyz"):
            replies = [client.get(path) for _ in range(DEFAULT + 20)]
            assert {reply.status_code for reply in replies} == {200}
            assert "ratelimit" not in replies[-1].headers


# --- logins


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("guarded") / "data", env=limits(login=f"{LOGINS}/day")) as running:
        yield running


@pytest.mark.parametrize(("address", "username"), [("127.0.0.11", "admin"), ("127.0.0.12", "nobody")])
def test_after_too_many_bad_logins_an_address_waits_also_with_the_right_password(
    guarded: BrokerProcess, address: str, username: str
) -> None:
    replies = [log_in(guarded, address, username, f"wrong {number}") for number in range(LOGINS)]
    assert [reply.status_code for reply in replies] == [401] * LOGINS
    check_refused(log_in(guarded, address, username, "wrong again"), "login", LOGINS)
    check_refused(log_in(guarded, address, "admin", PASSWORD), "login", LOGINS)


def test_no_number_of_bad_logins_from_elsewhere_locks_a_user_out(guarded: BrokerProcess) -> None:
    for attacker in range(21, 31):
        for number in range(LOGINS + 1):
            assert log_in(guarded, f"127.0.0.{attacker}", "admin", f"wrong {number}").status_code in (401, 429)
    assert log_in(guarded, "127.0.0.40", "admin", PASSWORD).status_code == 200


def test_a_restart_keeps_what_the_guard_counted(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data", env=limits(login=f"{LOGINS}/day"))
    with broker:
        for number in range(LOGINS):
            log_in(broker, "127.0.0.51", "admin", f"wrong {number}")
        broker.terminate()
        broker.start()
        # Fewer than the limit of logins, which began anew: only the guard can refuse one of them, and it does however
        # slow this machine is, for its delay doubles.
        again = [log_in(broker, "127.0.0.51", "admin", "wrong").status_code for _ in range(LOGINS - 1)]
        assert 429 in again


# --- brokers that share a Redis


def test_brokers_share_a_limit_through_redis_and_go_on_without_it(tmp_path: Path) -> None:
    # On a machine that is so busy that Redis answers too late, brokers count by themselves at once: another try.
    assert any(shared_and_gone_on(tmp_path / str(number)) for number in range(5))


def shared_and_gone_on(directory: Path) -> bool:
    """Whether two brokers did so; False where Redis was too slow for one of them."""
    directory.mkdir()
    server = RedisServer(directory)
    server.start()
    env = {**limits(default="10/day"), "STREAMBROKER_RATE_LIMIT_STORAGE": server.url}
    try:
        with BrokerProcess(directory / "one", env=env) as one, BrokerProcess(directory / "other", env=env) as other:
            with one.client() as here, other.client() as there:
                counted = [client.get("/queues").status_code for client in [here] * 6 + [there] * 5]
                if without_redis(one) or without_redis(other):
                    return False
                assert counted == [200] * 10 + [429]
                server.stop()
                with caller(one, "127.0.0.61") as stranger:
                    assert [stranger.get("/queues").status_code for _ in range(11)] == [401] * 10 + [429]
            assert one.terminate() == 0
            assert without_redis(one)
    finally:
        server.stop()
    return True


def without_redis(broker: BrokerProcess) -> bool:
    return any("Redis fails" in line for line in list(broker.output))


# --- a flood of logins


def test_two_hundred_logins_at_once_are_refused_and_not_piled_up(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data", env=limits()) as broker:
        before = resident_mib(broker.pid)
        replies, alive = asyncio.run(flood(broker.url, 200))
        grown = resident_mib(broker.pid, peak=True) - before
    counted = Counter(reply.status_code for reply in replies)
    assert set(counted) == {200, 429}
    assert {reply.status_code for reply in alive} == {200}
    for reply in replies:
        if reply.status_code == 429:
            check_problem(reply.json(), "rate_limited")
            assert int(reply.headers["retry-after"]) >= 1
    assert grown < 100


async def flood(url: str, count: int) -> tuple[list[httpx.Response], list[httpx.Response]]:
    """The answers to logins sent all at once, and to questions for the broker's health meanwhile."""
    credentials = {"username": "admin", "password": PASSWORD}
    pool = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=pool, trust_env=False) as client:
        logins = asyncio.gather(*(client.post("/login", json=credentials) for _ in range(count)))
        alive = []
        while not logins.done():
            alive.append(await client.get("/healthz"))
        return await logins, alive


def resident_mib(pid: int, peak: bool = False) -> float:
    with closing(Path(f"/proc/{pid}/status").open()) as status:
        [line] = [line for line in status if line.startswith("VmHWM:" if peak else "VmRSS:")]
    return int(line.split()[1]) / 1024
