"""Who is asking: fixed tokens, and sessions that are kept fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from streambroker.client import Client
from streambroker.client.errors import Forbidden, ProblemDocument, RefreshRaced, StreambrokerTimeout, Unauthenticated
from streambroker.client.models import Tokens
from streambroker.client.rest import Rest
from streambroker.client.tokens import FixedToken, Session
from tests.client.answers import Script, http, problem

OK = httpx.Response(200, json={})
REFUSED = problem("unauthenticated", 401)


class Broker:
    """Gives tokens ``a1``, ``a2``, … and counts how they were asked for. `refuse` is raised by the next refresh."""

    def __init__(self) -> None:
        self.logins = 0
        self.refreshes: list[str] = []
        self.refuse: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def _pair(self) -> Tokens:
        number = self.logins + len(self.refreshes)
        return Tokens(f"a{number}", f"r{number}", 900)

    async def login(self) -> Tokens:
        self.logins += 1
        return self._pair()

    async def refresh(self, token: str) -> Tokens:
        self.refreshes.append(token)
        await self.gate.wait()
        if self.refuse is not None:
            raise self.refuse
        return self._pair()


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def broker() -> Broker:
    return Broker()


def session(broker: Broker, clock: Callable[[], float]) -> Session:
    return Session(broker.login, broker.refresh, clock)


async def test_a_session_logs_in_once_and_is_used_again(broker: Broker, clock: Clock) -> None:
    tokens = session(broker, clock)
    assert [await tokens.token() for _ in range(3)] == ["a1"] * 3
    assert broker.logins == 1


async def test_a_token_is_renewed_before_its_end(broker: Broker, clock: Clock) -> None:
    tokens = session(broker, clock)
    await tokens.token()
    clock.now = 869
    assert await tokens.token() == "a1"
    clock.now = 871
    assert await tokens.token() == "a2"
    assert (broker.logins, broker.refreshes) == (1, ["r1"])


async def test_many_that_ask_at_once_make_one_refresh(broker: Broker, clock: Clock) -> None:
    tokens = session(broker, clock)
    await tokens.token()
    assert await asyncio.gather(*(tokens.renew("a1") for _ in range(5))) == ["a2"] * 5
    assert broker.refreshes == ["r1"]


async def test_a_token_that_somebody_else_has_renewed_is_not_renewed_again(broker: Broker, clock: Clock) -> None:
    tokens = session(broker, clock)
    await tokens.token()
    await tokens.renew("a1")
    assert await tokens.renew("a1") == "a2"
    assert broker.refreshes == ["r1"]


async def test_a_refresh_outlives_whoever_asked_for_it(broker: Broker, clock: Clock) -> None:
    tokens = session(broker, clock)
    await tokens.token()
    broker.gate.clear()
    asking = asyncio.create_task(tokens.renew("a1"))
    while not broker.refreshes:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    broker.gate.set()
    assert await tokens.renew("a1") == "a2"
    assert broker.refreshes == ["r1"]  # the used one was not played again


@pytest.mark.parametrize("refusal", [Unauthenticated, RefreshRaced])
async def test_a_refresh_that_fails_is_a_login(
    broker: Broker, clock: Clock, refusal: Callable[[ProblemDocument], Exception]
) -> None:
    tokens = session(broker, clock)
    await tokens.token()
    broker.refuse = refusal(ProblemDocument())
    assert await tokens.renew("a1") == "a3"
    assert broker.logins == 2


async def test_a_fixed_token_cannot_be_renewed() -> None:
    tokens = FixedToken("key")
    assert await tokens.token() == "key"
    assert await tokens.renew("key") is None


async def test_a_refused_token_is_renewed_once_and_the_call_made_again(broker: Broker, clock: Clock) -> None:
    script = Script(REFUSED, OK)
    await http(script, session(broker, clock)).call("POST", "/x")
    assert [request.headers["authorization"] for request in script.requests] == ["Bearer a1", "Bearer a2"]


async def test_a_token_that_is_refused_twice_is_an_error(broker: Broker, clock: Clock) -> None:
    script = Script(REFUSED)
    with pytest.raises(Unauthenticated):
        await http(script, session(broker, clock)).call("POST", "/x")
    assert len(script.requests) == 2


async def test_a_key_that_is_refused_is_an_error_at_once() -> None:
    script = Script(REFUSED)
    with pytest.raises(Unauthenticated):
        await http(script, FixedToken("key")).call("GET", "/x")
    assert len(script.requests) == 1


async def test_what_may_not_be_done_is_not_tried_again(broker: Broker, clock: Clock) -> None:
    script = Script(problem("forbidden", 403))
    with pytest.raises(Forbidden):
        await http(script, session(broker, clock)).call("GET", "/x")
    assert len(script.requests) == 1


async def test_public_calls_show_no_token() -> None:
    script = Script(OK)
    await http(script, FixedToken("key")).call("GET", "/readyz", public=True)
    assert "authorization" not in script.requests[0].headers


@pytest.mark.parametrize(
    "arguments",
    [{"username": "ann"}, {"password": "secret"}, {"token": "t", "username": "ann", "password": "secret"}],
)
def test_arguments_that_contradict_each_other_are_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"password|token"):
        Rest("http://127.0.0.1:1", environment={}, **arguments)  # type: ignore[arg-type]


async def test_url_and_token_come_from_the_environment_where_none_are_given() -> None:
    environment = {"STREAMBROKER_URL": "http://127.0.0.1:9/broker/", "STREAMBROKER_TOKEN": "key"}
    async with Rest(environment=environment) as client:
        assert client.http.url == "http://127.0.0.1:9/broker"
        assert await client.tokens.token() == "key"


def test_a_pair_does_not_show_its_tokens() -> None:
    assert "secret" not in repr(Tokens("secret-a", "secret-r", 900))


def test_white_space_around_a_token_is_taken_off() -> None:
    assert asyncio.run(FixedToken(" sbk_key\r\n").token()) == "sbk_key"


@pytest.mark.parametrize("secret", ["sbk_se\r\ncret", "sbk_clé", "\x00"])
def test_what_no_token_can_be_is_refused_and_not_told(secret: str) -> None:
    with pytest.raises(ValueError, match="characters that no token has") as refused:
        Client("http://127.0.0.1:1", token=secret)
    assert secret not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://127.0.0.1:x", "nonsense", "ftp://127.0.0.1"])
def test_what_is_no_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a broker") as refused:
        Client(url)
    assert url in str(refused.value)


def test_a_client_says_that_it_is_for_one_event_loop() -> None:
    async def use(client: Client) -> None:
        with pytest.raises(StreambrokerTimeout):
            await client.publish("q", 1, timeout=0.01)  # nobody is there

    client = Client("http://127.0.0.1:1", token="key")
    asyncio.run(use(client))
    with pytest.raises(RuntimeError, match="one event loop"):
        asyncio.run(client.publish("q", 1))
