"""What those may hold on whose connections nobody has been recognized: few places of one address, little memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from streambroker.transport.server.bounds import MAX_UNKNOWN, PORTION, REFUSED_AT_ONCE
from streambroker.transport.server.strangers import Stranger, Strangers
from tests.transport.server.world import SHORT, Answer, Client, World, frame, request, serving, upgrade

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
TOKEN = b"Authorization: Bearer x"
PATIENT = replace(SHORT, head=30, body=30, refused=30)
STRICT = replace(PATIENT, refused=0.8)
CONTINUATION = 0


async def known(client: Client) -> Answer:
    client.send(request("/known", b"", TOKEN))
    return await client.answer()


def strangers(world: World) -> int:
    return int(world.front.config.strangers.count(HERE))


async def filled(world: World, count: int) -> list[Client]:
    """As many connections that say nothing."""
    clients = [await world.client() for _ in range(count)]
    await world.until(lambda: strangers(world) == count)
    return clients


def is_refused(answer: Answer, status: int, code: str) -> bool:
    assert (answer.status, answer.problem["code"]) == (status, code)
    assert int(answer.headers["retry-after"]) >= 1
    return answer.headers["connection"] == "close"


# --- places --------------------------------------------------------------------------------------------------------


async def test_d16_an_outsider_on_one_address_does_not_hold_every_place() -> None:
    async with serving(most_connections=8, most_of_address=2, deadlines=PATIENT) as world:
        silent = [await world.client() for _ in range(12)]
        for _ in range(3):
            other = await world.client(address=ELSEWHERE)
            assert (await known(other)).status == 200
        assert strangers(world) == 4
        for surplus in silent[4:]:
            surplus.send(request())
            assert is_refused(await surplus.answer(), 429, "rate_limited")


async def test_whoever_is_recognized_does_not_count() -> None:
    async with serving(most_of_address=2, deadlines=STRICT) as world:
        clients = [await world.client() for _ in range(6)]
        for client in clients:
            assert (await known(client)).status == 200
        assert strangers(world) == 0
        for client in clients:
            client.send(request("/again"))
            assert (await client.answer()).headers.get("connection") != "close"


async def test_a_burst_of_clients_that_all_log_in_gets_in() -> None:
    async with serving(most_of_address=4, most_connections=2_000, deadlines=PATIENT) as world:
        clients = await asyncio.gather(*(world.client() for _ in range(600)))
        for number, client in enumerate(clients):
            client.send(upgrade("/ws", TOKEN) if number % 2 else request("/x", b"", TOKEN))
        statuses = [(await client.answer()).status for client in clients]
        assert statuses == [200, 101] * 300
        assert strangers(world) == 0


async def test_a_silent_connection_beyond_the_bound_is_refused_soon_and_those_within_it_stay() -> None:
    async with serving(most_of_address=2, deadlines=STRICT) as world:
        within = await filled(world, 2)
        beyond = await world.client()
        assert is_refused(await beyond.answer(), 429, "rate_limited")
        assert await beyond.rest() == b""
        for client in within:
            client.send(request())
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("said", [b"POST / HTTP/1.1\r\nHost: ", request("/x", b"1234")[:-1]])
async def test_half_a_request_beyond_the_bound_is_refused_soon(said: bytes) -> None:
    async with serving(most_of_address=1, deadlines=STRICT) as world:
        await filled(world, 1)
        beyond = await world.client()
        beyond.send(said)
        assert is_refused(await beyond.answer(), 429, "rate_limited")
        assert await beyond.rest() == b""


async def test_what_a_stranger_beyond_the_bound_asks_is_answered_once() -> None:
    async with serving(most_of_address=1, deadlines=PATIENT) as world:
        await filled(world, 1)
        for path in ("/x", "/whole"):
            beyond = await world.client()
            beyond.send(request(path) + request("/next"))
            answer = await beyond.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await beyond.rest() == b""
        assert "/next" not in world.app.seen


@pytest.mark.parametrize("path", ["/x", "/whole"])
async def test_one_beyond_the_bound_that_logs_in_stays_and_one_that_wants_to_go_goes(path: str) -> None:
    async with serving(most_of_address=1, deadlines=STRICT) as world:
        await filled(world, 1)
        client, leaving = await world.client(), await world.client()
        for _ in range(2):
            client.send(request(path, b"", TOKEN))
            assert "connection" not in (await client.answer()).headers
        leaving.send(request(path, b"", TOKEN, b"Connection: close"))
        assert (await leaving.answer()).headers["connection"] == "close"
        assert await leaving.rest() == b""


async def test_places_are_given_back_and_addresses_forgotten() -> None:
    async with serving(most_of_address=3, deadlines=PATIENT) as world:
        clients = await filled(world, 2)
        socket = await world.client()
        await socket.opened()
        assert strangers(world) == 3
        for client in [*clients, socket]:
            client.writer.transport.abort()
        await world.until(lambda: not world.protocols)
        assert world.front.config.strangers._of == {}


async def test_proxies_are_not_counted_and_not_hurried() -> None:
    deadlines = replace(SHORT, head=30, idle_unknown=0.1)
    async with serving(most_of_address=1, deadlines=deadlines, trusted=HERE.__eq__) as world:
        proxies = [await world.client() for _ in range(5)]
        hurried = await world.client(address=ELSEWHERE)
        for client in [*proxies, hurried]:
            client.send(request())
            assert (await client.answer()).status == 200
        assert await hurried.rest() == b""
        for client in proxies:
            client.send(request())
            assert (await client.answer()).status == 200


async def test_nobody_is_a_stranger_to_an_application_that_recognizes_nobody() -> None:
    async with serving(deadlines=replace(SHORT, idle_unknown=0.01)) as world:
        client = await world.client()
        client.send(request())
        assert (await client.answer()).status == 200
        await client.opened()
        client.send(frame(b"x" * 50_000))
        assert (await client.frame())[1] == b"50000"


async def test_a_stranger_is_idle_for_a_short_time_only() -> None:
    async with serving(most_of_address=10, deadlines=replace(SHORT, idle=30, idle_unknown=0.6)) as world:
        stranger, later, client = await world.client(), await world.client(), await world.client()
        for each in (stranger, later):
            each.send(request())
            assert (await each.answer()).status == 200
        for each in (later, client):
            assert (await known(each)).status == 200
        assert await stranger.rest() == b""
        witness = await world.client()
        witness.send(request())
        await witness.answer()
        assert await witness.rest() == b""  # twice as long
        for each in (later, client):
            assert (await known(each)).status == 200


def test_the_addresses_of_one_network_count_together_and_never_for_more_than_their_share() -> None:
    crowd = Strangers(1_000, 3, lambda address: False)
    found = [crowd.enter(f"2001:db8::{number}") for number in range(5)]
    assert [one is not None for one in found] == [True, True, True, False, False]
    assert not any(one.on_trial for one in found if one is not None)
    assert crowd.enter("2001:db8:0:1::1") is not None
    for one in found:
        if one is not None:
            one.recognize()
            one.leave()
    assert crowd.count("2001:db8::9") == 0


def test_where_any_number_is_allowed_nobody_is_on_trial() -> None:
    crowd = Strangers(0, 1, lambda address: False)
    assert [stranger.on_trial for stranger in map(crowd.enter, [HERE] * 9) if isinstance(stranger, Stranger)] == (
        [False] * 9
    )


# --- upgrades ------------------------------------------------------------------------------------------------------


async def test_an_upgrade_that_the_server_refuses_is_told_when_to_come_back() -> None:
    async with serving(most_connections=4, most_of_address=1, deadlines=STRICT) as world:
        await filled(world, 2)
        beyond_its_share = await world.client()
        beyond_its_share.send(upgrade())
        assert is_refused(await beyond_its_share.answer(), 429, "rate_limited")
        others = [await world.client(address=ELSEWHERE) for _ in range(2)]
        assert [(await known(other)).status for other in others] == [200, 200]
        one_too_many = await world.client(address=ELSEWHERE)
        one_too_many.send(upgrade("/ws", TOKEN))
        assert is_refused(await one_too_many.answer(), 503, "overloaded")
        assert "/ws" not in world.app.seen


async def test_upgrades_are_told_so_also_when_very_many_come() -> None:
    async with serving(most_connections=1, deadlines=PATIENT) as world:
        silent = [await world.client() for _ in range(1 + REFUSED_AT_ONCE)]
        await world.until(lambda: world.watch.surplus == REFUSED_AT_ONCE)
        for _ in range(5):
            client = await world.client()
            client.send(upgrade())
            assert is_refused(await client.answer(), 503, "overloaded")
        assert len(world.protocols) == len(silent)


async def test_a_websocket_beyond_the_bound_stays_only_where_somebody_is_recognized_at_once() -> None:
    async with serving(most_of_address=1, deadlines=STRICT) as world:
        await filled(world, 1)
        by_header, by_hello, silent = [await world.client() for _ in range(3)]
        await by_header.opened("/ws", TOKEN)
        await by_hello.opened()
        by_hello.send(frame(b"hello"))
        assert (await by_hello.frame())[1] == b"5"
        await silent.opened()
        assert await silent.close_code() == 4429
        for client in (by_header, by_hello):
            client.send(frame(b"x" * 20_000))
            assert (await client.frame())[1] == b"20000"


async def test_a_websocket_beyond_the_bound_that_the_application_lets_wait_is_not_closed() -> None:
    async with serving(most_of_address=1, deadlines=STRICT) as world:
        await filled(world, 1)
        client, witness = await world.client(), await world.client()
        client.send(upgrade("/door"))
        assert is_refused(await witness.answer(), 429, "rate_limited")
        world.app.go.set()
        assert (await client.answer()).status == 101
        client.send(frame(b"hello"))
        assert (await client.frame())[1] == b"5"


# --- memory --------------------------------------------------------------------------------------------------------


async def told_or_cut(client: Client, data: bytes) -> None:
    """Send in pieces, as far as the server lets."""
    try:
        for at in range(0, len(data), PORTION):
            await client.send_all(data[at : at + PORTION])
    except (OSError, RuntimeError):  # the latter is uvloop's, for a transport that is closed
        pass


@pytest.mark.parametrize(
    "long",
    [
        frame(b"x" * 90_000)[:-1],
        frame(b"x" * 90_000),
        frame(b"x" * 3_000, fin=False) + frame(b"x" * 3_000, CONTINUATION, fin=False) * 20,
        frame(b"x", fin=False) + frame(b"x" * 90_000, CONTINUATION)[:-1],
    ],
)
async def test_a_long_message_before_the_hello_is_closed_with_4413(long: bytes) -> None:
    async with serving(most_of_address=5, deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        closing = asyncio.create_task(client.close_code())
        await told_or_cut(client, long)
        assert await closing == 4413
        assert world.app.bodies in ([], [b"closed with 4413"])


async def test_no_more_of_it_is_held_than_that() -> None:
    async with serving(most_of_address=5, deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        (protocol,) = world.protocols
        await told_or_cut(client, frame(b"x" * 90_000)[: MAX_UNKNOWN - PORTION])
        await world.until(lambda: protocol._unended > MAX_UNKNOWN - 2 * PORTION)
        client.send(b"x" * 2 * PORTION)
        assert await client.close_code() == 4413


async def test_a_hello_may_be_as_long_as_that_and_what_comes_with_it_longer() -> None:
    for hello in (b"hello", b"hello" + b" " * (MAX_UNKNOWN - PORTION)):
        async with serving(most_of_address=5, deadlines=PATIENT) as world:
            client = await world.client()
            await client.opened()
            client.send(frame(hello) + frame(b"x" * 90_000) + frame(b"y" * 80_000))
            assert [(await client.frame())[1] for _ in range(3)] == [b"%d" % len(hello), b"90000", b"80000"]


async def test_one_that_was_sent_away_cannot_fill_the_memory_either() -> None:
    async with serving(most_of_address=5, deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"out"))
        assert await client.close_code() == 4401
        await told_or_cut(client, frame(b"x" * 90_000)[:-1])
        assert await client.rest() == b""
        await world.until(lambda: not world.protocols)


@pytest.mark.parametrize("early", [frame(b"x" * 90_000)[:-1], frame(b"x", 3), frame(b"", 9) * 1_001])
async def test_what_comes_before_the_upgrade_is_answered_does_no_harm(
    early: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(most_of_address=5, deadlines=PATIENT) as world:
        client = await world.client()
        client.send(upgrade("/door"))
        await world.until(lambda: world.app.seen)
        await told_or_cut(client, early)
        assert await client.rest() == b""
        world.app.go.set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
