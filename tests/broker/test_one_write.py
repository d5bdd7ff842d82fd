"""The head of a response goes out with its body, in one write."""

from __future__ import annotations

import asyncio

import pytest

from streambroker.transport.server.onewrite import OneWrite

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize("body", [b"body", b"", b"HTTP/1.1 is what this body is about"])
def test_head_and_body_are_one_write_also_when_the_body_is_empty(body: bytes) -> None:
    wire = Wire()
    one = OneWrite(wire)
    one.write(HEAD)
    assert wire.written == []
    one.write(body)
    assert wire.written == [HEAD + body]


def test_an_interim_response_goes_out_at_once_and_is_no_head() -> None:
    wire = Wire()
    one = OneWrite(wire)
    one.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    one.write(HEAD)
    one.write(b"body")
    assert wire.written[1:] == [HEAD + b"body"]


def test_more_of_a_body_goes_out_as_it_comes() -> None:
    wire = Wire()
    one = OneWrite(wire)
    for data in (HEAD, b"a", b"b", b"c"):
        one.write(data)
    assert wire.written == [HEAD + b"a", b"b", b"c"]


def test_more_of_a_body_goes_out_as_it_comes_also_when_it_looks_like_a_head() -> None:
    wire = Wire()
    one = OneWrite(wire)
    for data in (HEAD, b"a", b"HTTP/1.1 200 OK is how an answer begins"):
        one.write(data)
    assert wire.written == [HEAD + b"a", b"HTTP/1.1 200 OK is how an answer begins"]


def test_everything_else_is_the_transports() -> None:
    wire = Wire()
    one = OneWrite(wire)
    assert not one.is_closing()
    one.close()
    assert wire.closed
    assert one.is_closing()
