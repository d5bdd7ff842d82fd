"""A plain WebSocket client for tests: it sends what it is told and keeps every frame that came, in order."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.wire import conformance
from tests.wire.rawjson import member

PROTOCOL = "streambroker.v1+json"
PATIENCE = 30.0

Frame = dict[str, Any]


class Closed(AssertionError):
    """The server closed while the test still waited for a frame."""


class Socket:
    """One connection. ``inbox`` holds the frames that nobody asked for yet, ``texts`` the WebSocket messages as sent.

    Every wait has a deadline (``PATIENCE``) that only a broken broker reaches.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.inbox: list[Frame] = []
        self.texts: list[str] = []
        self._ids = itertools.count(1)
        self._path = connection.request.path if connection.request is not None else ""

    # ---- sending

    def send(self, *frames: Frame) -> None:
        """One frame as an object, several as one array."""
        self.connection.send(json.dumps(frames[0] if len(frames) == 1 else frames))

    def send_raw(self, data: str | bytes) -> None:
        """``str`` as a text frame, ``bytes`` as a binary frame."""
        self.connection.send(data)

    def call(self, op: str, **fields: Any) -> Frame:
        """Send one op with a fresh id and return the frame that answers it (``ok``, ``error``, …)."""
        id_ = next(self._ids)
        self.send({"op": op, "id": id_, **fields})
        frame = self.take(lambda f: f.get("id") == id_ or (f["op"] == "error" and f.get("id") is None))
        assert frame.get("id") == id_, f"an error that does not say which op it is about: {frame}"
        return frame

    def ok(self, op: str, **fields: Any) -> Frame:
        reply = self.call(op, **fields)
        assert reply["op"] == "ok", reply
        return reply

    def error(self, op: str, **fields: Any) -> Frame:
        """The problem with which the broker refuses this op."""
        reply = self.call(op, **fields)
        assert reply["op"] == "error", reply
        problem: Frame = reply["problem"]
        return problem

    # ---- receiving

    def answer(self, id_: Any) -> Frame:
        return self.take(lambda frame: frame.get("id") == id_)

    def op(self, name: str, timeout: float = PATIENCE) -> Frame:
        return self.take(lambda frame: frame["op"] == name, timeout)

    def take(self, wanted: Callable[[Frame], bool], timeout: float = PATIENCE) -> Frame:
        """The first frame that is ``wanted``, out of those that came and those that will."""
        deadline = time.monotonic() + timeout
        while True:
            for index, frame in enumerate(self.inbox):
                if wanted(frame):
                    return self.inbox.pop(index)
            self._receive(deadline)

    def deliveries(self, count: int, sub: str | None = None) -> list[Frame]:
        """The next ``count`` messages that are delivered (to one subscription), however they are framed."""
        messages: list[Frame] = []
        while len(messages) < count:
            frame = self.take(lambda frame: frame["op"] == "deliver" and sub in (None, frame["sub"]))
            messages += frame["messages"]
        assert len(messages) == count, messages
        return messages

    def settle_down(self) -> None:
        """A round trip: what the server sent before its answer to this ping is in ``inbox`` now."""
        self.send({"op": "ping"})
        self.op("pong")

    def ops(self) -> list[str]:
        return [frame["op"] for frame in self.inbox]

    def _receive(self, deadline: float) -> None:
        try:
            data = self.connection.recv(timeout=max(0.0, deadline - time.monotonic()), decode=True)
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
            raise Closed(f"closed with {code}; frames not asked for: {self.inbox}") from None
        except TimeoutError:
            raise AssertionError(f"nothing came in time; frames not asked for: {self.inbox}") from None
        assert isinstance(data, str)
        self.texts.append(data)
        self._take_in(data)

    def _take_in(self, text: str) -> None:
        """The frames of a WebSocket message, as described where somebody watches."""
        try:
            decoded = json.loads(text)
        except (RecursionError, ValueError):  # a ValueError for an integer of more than 4,300 digits
            self.inbox += _glimpsed(text)
            return
        frames = decoded if isinstance(decoded, list) else [decoded]
        if conformance.described is not None and "/dashboard/" not in self._path:
            for frame in frames:
                conformance.described.check_frame(frame)
        self.inbox += frames

    # ---- the end

    def close_code(self, timeout: float = PATIENCE) -> int | None:
        """Read until the server closes; its close code (``None``: the connection ended without a close frame)."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                data = self.connection.recv(timeout=max(0.0, deadline - time.monotonic()), decode=True)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
            except TimeoutError:
                raise AssertionError(f"the server did not close; frames not asked for: {self.inbox}") from None
            assert isinstance(data, str)
            self._take_in(data)

    def close(self, code: int = 1000) -> None:
        self.connection.close(code)

    def drop(self) -> None:
        """End the TCP connection as a crashed process would: no close frame."""
        raw = self.connection.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)


def _glimpsed(text: str) -> list[Frame]:
    """Of a frame that the json module can not take, only its ``op`` and id."""
    path: tuple[str | int, ...] = (0,) if text.startswith("[") else ()
    ids = json.loads(member(text, *path, "messages", 0, "message_id"))
    return [{"op": json.loads(member(text, *path, "op")), "sub": "", "messages": [{"message_id": ids}]}]


@contextmanager
def open_socket(
    url: str,
    *,
    token: str | None = None,
    authorization: str | None = None,
    subprotocols: list[str] | None = None,
    **options: Any,
) -> Iterator[Socket]:
    """Connect, without waiting for ``welcome``. ``token`` goes into the ``Authorization`` header."""
    headers = {}
    if token is not None:
        authorization = f"Bearer {token}"
    if authorization is not None:
        headers["Authorization"] = authorization
    with connect(
        url,
        additional_headers=headers,
        subprotocols=subprotocols,  # type: ignore[arg-type]
        compression=None,
        proxy=None,
        max_size=None,
        max_queue=None,
        ping_interval=None,
        close_timeout=2,
        **options,
    ) as connection:
        yield Socket(connection)
