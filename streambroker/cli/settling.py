"""What `consume` does with a message: print it, ask about it, or run a command for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from streambroker.cli.output import Output, plain

if TYPE_CHECKING:
    from streambroker.client import Message

_VERDICTS = frozenset({"a", "ack", "n", "nack", "r", "reject"})
_REASON = 1_000
"""Most characters of a command's last line on stderr that are told as the reason of a nack."""


Worked = Callable[[], Awaitable[None]]


class Work(Protocol):
    """What is done with each message. `failed` counts those that were nacked, `lost` those that somebody else got."""

    failed: int
    lost: int

    async def do(self, message: Message, worked: Worked) -> bool:
        """Do it, await `worked`, and settle the message; False where no more are wanted. Raises the client's errors."""
        ...

    async def finish(self) -> None:
        """Wait until what was settled is confirmed."""
        ...

    def hurry(self) -> None:
        """Stop what is under way at once."""
        ...


class Settling:
    """The half of a `Work` that settles: confirmations are awaited in the background, so that output is not slowed."""

    def __init__(self) -> None:
        self.failed = 0
        self.lost = 0
        self._pending: set[asyncio.Future[None]] = set()

    def settle(self, told: asyncio.Future[None]) -> None:
        """Remember a settle until it is confirmed."""
        self._pending.add(told)
        told.add_done_callback(self._settled)

    def _settled(self, told: asyncio.Future[None]) -> None:
        self._pending.discard(told)
        if not told.cancelled() and (error := told.exception()) is not None:
            self.lost += 1
            sys.stderr.write(f"streambroker: {plain(str(error))}\n")

    async def finish(self) -> None:
        """See `Work`."""
        if self._pending:
            await asyncio.wait(self._pending)

    def hurry(self) -> None:
        """See `Work`."""


class Printed(Settling):
    """Acks a message once it is printed. See `Work`."""

    def __init__(self, out: Output, raw: bool) -> None:
        super().__init__()
        self._out = out
        self._raw = raw

    async def do(self, message: Message, worked: Worked) -> bool:
        """See `Work`."""
        show(self._out, message, self._raw)
        await worked()
        self.settle(message.ack())
        return True


class Asked(Settling):
    """Asks what is to become of a message: a line of stdin for each. See `Work`."""

    def __init__(self, out: Output, raw: bool, delay_ms: int | None, answers: AsyncIterator[str]) -> None:
        super().__init__()
        self._out = out
        self._raw = raw
        self._delay_ms = delay_ms
        self._answers = answers

    async def do(self, message: Message, worked: Worked) -> bool:
        """See `Work`."""
        show(self._out, message, self._raw)
        while True:
            answer = (await self._answer(message)).strip().lower()
            if answer in _VERDICTS:
                await worked()
            match answer:
                case "a" | "ack":
                    self.settle(message.ack())
                case "n" | "nack":
                    self.failed += 1
                    self.settle(message.nack(requeue=True, delay_ms=self._delay_ms, reason="nacked by hand"))
                case "r" | "reject":
                    self.failed += 1
                    self.settle(message.nack(requeue=False, reason="rejected by hand"))
                case "q" | "quit":
                    return False
                case _:
                    sys.stderr.write("say a, n, r or q\n")
                    continue
            return True

    async def _answer(self, message: Message) -> str:
        if not sys.stdin.isatty():
            return await anext(self._answers, "q")
        sys.stderr.write(f"{message.message_id}: (a)ck, (n)ack and retry, (r)eject, (q)uit? ")
        sys.stderr.flush()
        answer = await anext(self._answers, None)
        if answer is None:
            sys.stderr.write("\n")  # Ctrl-C or Ctrl-D: what comes next begins a line
        return answer or "q"


class Executed(Settling):
    """Runs a command for each message, in the shell: the content is its stdin, the rest is in its environment.

    Exit status 0 acks, any other nacks with requeue; the reason is the status and the last line on its stderr. The
    command is in a session of its own, so that Ctrl-C lets it come to its end. See `Work`.
    """

    def __init__(self, command: str, out: Output, delay_ms: int | None) -> None:
        super().__init__()
        self._command = command
        self._out = out
        self._delay_ms = delay_ms
        self._running: set[asyncio.subprocess.Process] = set()

    async def do(self, message: Message, worked: Worked) -> bool:
        """See `Work`."""
        status, last_line = await self._run(message)
        await worked()
        if status == 0:
            self.settle(message.ack())
        else:
            self.failed += 1
            how = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            reason = f"{how}: {last_line}" if last_line else how
            self.settle(message.nack(requeue=True, delay_ms=self._delay_ms, reason=reason.replace("\0", "")))
        if self._out.json:
            self._out.document({"message_id": message.message_id, "exit_status": status, "acked": status == 0})
        return True

    async def _run(self, message: Message) -> tuple[int, str]:
        process = await asyncio.create_subprocess_shell(
            self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr.fileno() if self._out.json else None,
            stderr=asyncio.subprocess.PIPE,
            env=environment(message, os.environ),
            start_new_session=True,
        )
        self._running.add(process)
        try:
            _, last_line = await asyncio.gather(_fed(process, message.body), _last_line(process))
            return await process.wait(), last_line
        except asyncio.CancelledError:
            _end(process)
            raise
        finally:
            self._running.discard(process)

    def hurry(self) -> None:
        """See `Work`."""
        for process in self._running:
            _end(process)


def environment(message: Message, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: ours, and the message's fields as ``MESSAGE_…``; what it has not is not set."""
    fields = {
        "MESSAGE_ID": message.message_id,
        "MESSAGE_QUEUE": message.queue,
        "MESSAGE_ATTEMPT": str(message.attempt),
        "MESSAGE_PRIORITY": str(message.priority),
        "MESSAGE_CONTENT_TYPE": message.content_type,
        "MESSAGE_KEY": message.key,
        "MESSAGE_CORRELATION_ID": message.correlation_id,
        "MESSAGE_REPLY_TO": message.reply_to,
        "MESSAGE_ERROR": message.error,
        "MESSAGE_HEADERS": msgspec.json.encode(message.headers).decode() if message.headers else None,
        "TRACEPARENT": message.traceparent,
    }
    ours = {name: value for name, value in inherited.items() if not name.startswith("MESSAGE_")}
    return {**ours, **{name: value for name, value in fields.items() if value is not None}}


def show(out: Output, message: Message, raw: bool) -> None:
    """Print a message: as a document, or its content on a line."""
    if out.json:
        out.document(message.info)
    elif raw:
        out.raw(message.body)
    elif out.for_people:
        body = message.body
        text = body.decode(errors="replace") if message.info.content_base64 is None or _is_text(body) else None
        out.line(plain(text, keep="\t") if text is not None else f"({len(body):,} bytes of {message.content_type})")
    else:
        # White space between JSON's tokens may be any; in raw bytes each line is as it is.
        body = message.body
        out.raw((body if message.info.content_base64 is not None else body.replace(b"\n", b" ")) + b"\n")


def _is_text(body: bytes) -> bool:
    try:
        return b"\0" not in body and bool(body.decode())
    except UnicodeDecodeError:
        return False


async def _fed(process: asyncio.subprocess.Process, body: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):  # a command need not read it
        process.stdin.write(body)
        await process.stdin.drain()
    process.stdin.close()


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Pass the command's stderr on; the last line of it that holds something."""
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(65_536):
        sys.stderr.buffer.write(chunk)
        sys.stderr.flush()
        tail = (tail + chunk)[-4 * _REASON :]
    lines = [line.strip() for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_REASON] if lines else ""


def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)  # it leads a group of its own
