"""What a WebSocket client may send and for how long it may let wait; what it must put up with, and what it must not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Any

import pytest

from streambroker.transport.server.bounds import PORTION
from streambroker.transport.server.websocket import MAX_CONTROLS, WebSocketProtocol
from tests.transport.server.world import MAX_FRAME, SHORT, Client, World, frame, serving, upgrade

PATIENT = replace(SHORT, head=10, body=10)
PING, PONG, CLOSE, CONTINUATION = 9, 10, 8, 0


def socket_of(world: World) -> WebSocketProtocol:
    """The server's end of the one WebSocket."""
    (one,) = (protocol for protocol in world.protocols if isinstance(protocol, WebSocketProtocol))
    return one


async def alive(client: Client) -> None:
    """The connection takes a message and answers it."""
    client.send(frame(b"x" * 77))
    while (await client.frame())[1] != b"77":
        pass


async def test_a_healthy_client_stays_while_the_application_is_busy_for_many_heartbeats() -> None:
    async with serving(heartbeat_ms=300) as world:
        client, witness = await world.client(), await world.client()
        await client.opened("/late")
        client.send(frame(b"first") + frame(b"second"))
        await world.until(lambda: socket_of(world).read_paused)
        protocol = socket_of(world)
        await witness.opened()
        for _ in range(6):  # six heartbeats, of which two are what a silent client has
            opcode, payload = await witness.frame()
            assert opcode == PING
            witness.send(frame(payload, PONG))
        assert protocol.read_paused
        world.app.go.set()
        answers: list[bytes] = []
        while len(answers) < 2:
            opcode, payload = await client.frame()
            if opcode == PING:
                client.send(frame(payload, PONG))
            else:
                answers.append(payload)
        assert answers == [b"5", b"6"]


async def test_a_client_that_does_not_answer_pings_is_closed_with_4509() -> None:
    async with serving(heartbeat_ms=50) as world:
        client = await world.client()
        await client.opened()
        assert await client.close_code() == 4509
        assert await client.rest() == b""
        async with asyncio.timeout(40):
            await world.app.left.wait()


async def test_a_frame_that_is_too_big_is_closed_with_4413_before_it_comes() -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"x" * (MAX_FRAME + 1))[:20])
        assert await client.close_code() == 4413


@pytest.mark.parametrize("size", [1, 125, 10_000])
async def test_fragments_that_are_too_big_together_are_closed_with_4413(size: int) -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"x" * size, fin=False))
        closing = asyncio.create_task(client.close_code())
        try:
            for _ in range(MAX_FRAME // size // 100 + 2):
                await client.send_all(frame(b"x" * size, CONTINUATION, fin=False) * 100)
        except (OSError, RuntimeError):  # the latter is uvloop's, for a transport that is closed
            pass
        assert await closing == 4413


async def test_fragments_take_no_more_memory_than_they_hold() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        await client.send_all(frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * 50_000)
        await client.send_all(frame(b"x", CONTINUATION, fin=False) * 50_000)
        await world.until(lambda: len(socket_of(world)._fragments) == 50_000)
        assert len(socket_of(world).frames) <= 1
        client.send(frame(b"y", CONTINUATION))
        assert (await client.frame())[1] == b"50001"
        assert world.app.bodies == [b"x" * 50_000 + b"y"]


async def test_a_message_in_fragments_must_come_to_its_end() -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"x", fin=False))
        closing = asyncio.create_task(client.close_code())
        while not closing.done():
            with contextlib.suppress(RuntimeError):  # uvloop's, for a transport that is closed
                client.send(frame(b"y", CONTINUATION, fin=False))
            await asyncio.sleep(0.02)
        assert await closing == 4400


async def test_pings_between_fragments_are_answered() -> None:
    async with serving(deadlines=PATIENT) as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"ab", fin=False) + frame(b"?", PING) + frame(b"cd", CONTINUATION))
        assert await client.frame() == (PONG, b"?")
        assert (await client.frame())[1] == b"4"
        assert world.app.bodies == [b"abcd"]


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_flood_of_pings_or_pongs_is_closed_with_4429(opcode: int) -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"", opcode) * (MAX_CONTROLS + 1))
        assert await client.close_code() == 4429


async def test_as_many_pings_as_are_allowed_are_answered() -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(frame(b"p", PING) * MAX_CONTROLS)
        for _ in range(MAX_CONTROLS):
            assert await client.frame() == (PONG, b"p")
        await alive(client)


async def test_the_pongs_of_a_client_that_does_not_read_do_not_pile_up() -> None:
    async with serving(heartbeat_ms=1_000) as world:
        client = await world.client(limit=1_000)
        await client.opened()
        protocol = socket_of(world)
        protocol.transport.set_write_buffer_limits(high=1_000)
        protocol.transport.write(frame(b"x" * 20_000_000, masked=False))  # more than the operating system takes
        assert not protocol.writable.is_set()
        unread = protocol.transport.get_write_buffer_size()
        client.send(frame(b"p" * 100, PING) * (MAX_CONTROLS - 1) + frame(b"end"))
        await world.until(lambda: world.app.bodies)
        assert protocol.transport.get_write_buffer_size() <= unread + 20


async def test_many_small_frames_of_one_client_do_not_keep_others_waiting() -> None:
    async with serving() as world:
        flood, other = await world.client(), await world.client()
        await flood.opened()
        await other.opened()
        count = 40_000
        await flood.send_all(frame(b"") * count)
        await world.until(lambda: len(world.app.bodies) > 10)
        await alive(other)
        assert world.app.bodies.count(b"") < count
        for _ in range(count):
            assert (await flood.frame())[1] == b"0"


async def test_frames_stay_in_order_however_they_are_cut() -> None:
    messages = [b"m%d " % number * (number % 700) for number in range(400)]
    data = b"".join(frame(message) for message in messages)
    async with serving() as world:
        client = await world.client()
        await client.opened()
        sizes = [1, 3 * PORTION, PORTION, 17, 100_000]
        at = 0
        while at < len(data):
            size = sizes[at % len(sizes)]
            await client.send_all(data[at : at + size])
            at += size
        for message in messages:
            assert (await client.frame())[1] == b"%d" % len(message)
        assert world.app.bodies == messages


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(b"x", rsv=4), 1002),  # compressed, which was not agreed on
        (frame(b"x", 3), 1002),
        (frame(b"x", 11), 1002),
        (frame(b"x", masked=False), 1002),
        (frame(b"x", CONTINUATION), 1002),
        (frame(b"a", fin=False) + frame(b"b"), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x", PING, fin=False), 1002),
        (frame(b"\x03", CLOSE), 1002),
        (frame((1005).to_bytes(2), CLOSE), 1002),
        (frame((999).to_bytes(2), CLOSE), 1002),
        (frame((1000).to_bytes(2) + b"\xff", CLOSE), 1007),
        (b"\x81\xff\x80" + bytes(7), 4413),
        (frame(b"\xff\xfe"), 1007),
        (frame(b"\xed\xa0\x80"), 1007),
        (frame(b"\xc3", fin=False) + frame(b"\x28", CONTINUATION), 1007),
    ],
)
async def test_what_is_no_frame_closes_the_connection_and_nothing_else(
    wrong: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(wrong + frame(b"after"))
        assert await client.close_code() == code
        assert await client.rest() == b""
        async with asyncio.timeout(40):
            await world.app.left.wait()
        assert b"after" not in world.app.bodies
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("begun", [b"", frame(b"half", fin=False)])
async def test_a_client_may_close_at_any_time(begun: bytes) -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        client.send(begun + frame((1000).to_bytes(2), CLOSE))
        assert await client.close_code() == 1000
        assert await client.rest() == b""
        await world.until(lambda: world.app.bodies == [b"closed with 1000"])


async def test_compression_is_not_agreed_on() -> None:
    async with serving() as world:
        client = await world.client()
        client.send(upgrade("/ws", b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"))
        answer = await client.answer()
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers


async def test_what_is_sent_to_a_peer_that_was_cut_off_is_no_fault_of_the_application() -> None:
    async with serving() as world:
        client = await world.client()
        await client.opened()
        sends: list[Any] = []

        async def goes_on() -> None:
            protocol = socket_of(world)
            client.send(frame(b"x", 3))
            await world.until(lambda: protocol.close_sent)
            for _ in range(3):
                try:
                    await protocol.send({"type": "websocket.send", "text": "x"})
                except OSError as error:
                    sends.append(error)

        await goes_on()
        assert len(sends) == 3
