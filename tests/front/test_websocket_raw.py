"""WebSocket frames as bytes, against a real broker: compressed, cut into fragments, floods, and what is no frame."""

from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.front.conftest import complaints, resident_kib
from tests.front.raw import Raw, frame, handshake, websocket
from tests.harness import BrokerProcess

MAX_FRAME = 1024 * 1024 + 64 * 1024
GROWTH_KIB = 64 * 1024
GIVEN_UP_S = 20
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def close_code(raw: Raw) -> int:
    """The code of the close frame."""
    while True:
        opcode, payload = raw.frame()
        if opcode == CLOSE:
            return int.from_bytes(payload[:2])


def test_a_compressed_bomb_is_not_opened(unharmed: BrokerProcess) -> None:
    before = resident_kib(unharmed)
    compress = zlib.compressobj(9, wbits=-15)
    bomb = compress.compress(b" " * 16_000_000) + compress.flush(zlib.Z_SYNC_FLUSH)
    for _ in range(12):
        with Raw(unharmed) as raw:
            raw.send(handshake(unharmed, b"Sec-WebSocket-Extensions: permessage-deflate"))
            answer = raw.answer()
            assert answer.status == 101
            assert "sec-websocket-extensions" not in answer.headers
            raw.frame()
            raw.send(frame(bomb[:-4], rsv=4))
            assert close_code(raw) == 1002
    assert resident_kib(unharmed) - before < 8 * 1024


def test_the_largest_frame_is_taken_and_one_byte_more_is_not(unharmed: BrokerProcess) -> None:
    message = b'{"op":"ping"}'
    with websocket(unharmed) as raw:
        raw.send(frame(message + b" " * (MAX_FRAME - len(message))))
        assert json.loads(raw.frame()[1]) == {"op": "pong"}
        raw.send(frame(message + b" " * (MAX_FRAME + 1 - len(message))))
        assert close_code(raw) == 4413


def test_who_goes_on_sending_too_much_is_told_why_and_not_reset(unharmed: BrokerProcess) -> None:
    with websocket(unharmed) as raw:
        assert raw.send(frame(b"x" * 3_000_000)), "the connection was reset in the middle of the frame"
        assert close_code(raw) == 4413


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_fragments_count_together(unharmed: BrokerProcess, size: int) -> None:
    before = resident_kib(unharmed)
    with websocket(unharmed) as raw:
        sent = raw.send(frame(b" " * size, fin=False))
        for _ in range(MAX_FRAME // size + 1):
            sent = sent and raw.send(frame(b" " * size, CONTINUATION, fin=False))
        assert close_code(raw) == 4413
    assert resident_kib(unharmed) - before < GROWTH_KIB


def test_a_message_may_come_in_fragments_with_pings_between_them(unharmed: BrokerProcess) -> None:
    with websocket(unharmed) as raw:
        for part in (b'{"op":', b'"pi', b"", b'ng"'):
            raw.send(frame(part, TEXT if part == b'{"op":' else CONTINUATION, fin=False))
            raw.send(frame(b"between", PING))
            assert raw.frame() == (PONG, b"between")
        raw.send(frame(b"}", CONTINUATION))
        assert json.loads(raw.frame()[1]) == {"op": "pong"}


def test_a_flood_of_pings_is_ended_and_others_do_not_feel_it(unharmed: BrokerProcess) -> None:
    before, longest, stop = resident_kib(unharmed), 0.0, threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with websocket(unharmed) as raw:
                while raw.send(frame(b"", PING) * 10_000):
                    pass
                assert close_code(raw) == 4429

    flooding = threading.Thread(target=flood, daemon=True)
    flooding.start()
    with websocket(unharmed) as other:
        for _ in range(200):
            start = time.monotonic()
            other.send(frame(b'{"op":"ping"}'))
            assert json.loads(other.frame()[1]) == {"op": "pong"}
            longest = max(longest, time.monotonic() - start)
    stop.set()
    flooding.join(30)
    assert not flooding.is_alive()
    assert longest < GIVEN_UP_S
    assert resident_kib(unharmed) - before < GROWTH_KIB


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(b"{}", mask=None), 1002),
        (frame(b"{}", rsv=1), 1002),
        (frame(b"{}", 5), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"", PING, fin=False), 1002),
        (frame(b"{}", CONTINUATION), 1002),
        (frame(b"{}", fin=False) + frame(b"{}"), 1002),
        (frame(b"\x03", CLOSE), 1002),
        (frame(struct.pack("!H", 1006), CLOSE), 1002),
        (frame(b"\xff"), 1007),
        (frame(struct.pack("!H", 1000) + b"\xff", CLOSE), 1007),
        (frame(b"\xff", BINARY), 4400),
        (frame(b"not JSON"), 4400),
        (b"\x81\xff" + struct.pack("!Q", 2**63 - 1) + bytes(4), 4413),
        (b"\x81\xff" + struct.pack("!Q", 2**64 - 1) + bytes(4), 4413),
        (frame(struct.pack("!H", 3_000) + b"bye", CLOSE), 3_000),
    ],
)
def test_what_is_no_frame_closes_the_connection_with_the_right_code(
    unharmed: BrokerProcess, wrong: bytes, code: int
) -> None:
    with websocket(unharmed) as raw:
        raw.send(wrong)
        assert close_code(raw) == code


# --- anything ------------------------------------------------------------------------------------------------------

PAYLOADS = [
    b"",
    b"{}",
    b'{"op":"ping"}',
    b'[{"op":"ping"},{"op":"ping"}]',
    b'{"op":"publish","id":1,"queue":"fuzz","messages":[{"content":1}]}',
    b'{"op":"subscribe","id":2,"queue":"fuzz","credit":10}',
    b'{"op":"ack","id":3,"ids":["x"]}',
    b'{"op":"publish","queue":"\xff"}',
    b'{"op":"hello"}',
    b"[" * 3_000,
    b"\xed\xa0\x80",
    b"x" * 70_000,
    struct.pack("!H", 1000),
    struct.pack("!H", 1005) + b"why",
    struct.pack("!H", 4_999) + "ä".encode(),
]
FRAMES = st.builds(
    frame,
    st.sampled_from(PAYLOADS) | st.binary(max_size=200),
    st.sampled_from([TEXT] * 6 + [BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11, 15]),
    fin=st.sampled_from([True] * 5 + [False]),
    rsv=st.sampled_from([0] * 12 + [1, 2, 4, 7]),
    mask=st.sampled_from([bytes(4), b"\x12\x34\x56\x78"] * 8 + [None]),
)
HEADS = st.builds(
    lambda first, length, wide: (
        bytes([first, 0x80 | (127 if wide else 126)])
        + (struct.pack("!Q", length) if wide else struct.pack("!H", length & 0xFFFF))
    ),
    st.integers(0, 255),
    st.sampled_from([0, 125, 126, 65_535, 65_536, MAX_FRAME, MAX_FRAME + 1, 2**31, 2**63, 2**64 - 1]),
    st.booleans(),
)
GOODBYE = frame(b'{"op":"ping"}') + frame(struct.pack("!H", 1000), CLOSE)


def test_no_frames_hang_or_harm_the_broker(unharmed: BrokerProcess) -> None:
    broker, before = unharmed, resident_kib(unharmed)
    codes: Counter[int] = Counter()

    @settings(
        max_examples=600,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(FRAMES | FRAMES | FRAMES | HEADS, min_size=1, max_size=8), st.integers(0, 400))
    def one(parts: list[bytes], cut: int) -> None:
        data = b"".join(parts)
        with websocket(broker) as raw:
            if raw.send(data[:cut]) and raw.send(data[cut:]):
                raw.send(GOODBYE)
            raw.socket.settimeout(0.1)
            try:
                said = raw.frames()
            except TimeoutError:  # it waits for the rest of a frame
                raw.socket.settimeout(GIVEN_UP_S)
                raw.socket.shutdown(1)
                said = raw.frames()
            for opcode, payload in said:
                assert opcode in (TEXT, PONG, PING, CLOSE)
                if opcode == CLOSE and payload:
                    codes[int.from_bytes(payload[:2])] += 1

    one()
    assert codes[1011] == codes[4500] == 0
    assert {1000, 1002, 1007, 4400, 4413} <= codes.keys()  # what is sent gets beyond the parser, too
    assert resident_kib(broker) - before < GROWTH_KIB
    assert complaints(broker) == []
