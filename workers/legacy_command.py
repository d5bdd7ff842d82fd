"""A bridge for a program that reads stdin and writes stdout: it becomes a worker, once for each message.

    python -m workers.legacy_command --queue sums --replies results -- bc -l

The message's content is the command's stdin: text and bytes as they are, anything else as JSON. What it writes is
published to the message's reply_to, or to --replies. Exit status 0 is an ack; any other, and a run longer than
--within, a nack with the end of what it said on stderr, to be tried again as the queue's policy says. Environment:
MESSAGE_ID, MESSAGE_ATTEMPT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from streambroker.client import Client, Message, Retry, worker
from workers import program


def stdin_of(message: Message) -> bytes:
    content = message.content
    if isinstance(content, bytes):
        return content
    return f"{content if isinstance(content, str) else json.dumps(content)}\n".encode()


class Command:
    """Runs a command for each message."""

    def __init__(self, client: Client, argv: list[str], replies: str | None, within_s: float) -> None:
        self.client = client
        self.argv = argv
        self.replies = replies
        self.within_s = within_s

    async def run(self, message: Message) -> None:
        out = await self.output(message)
        if queue := message.reply_to or self.replies:
            # The dedup id: if the ack is lost and the command runs again, its answer is stored once.
            await self.client.publish(
                queue,
                self.text(out),
                correlation_id=message.correlation_id or message.message_id,
                dedup_id=f"reply/{message.message_id}",
            )
        print(f"{message.message_id}: done, {len(out)} bytes", flush=True)

    async def output(self, message: Message) -> bytes:
        """What the command writes. Raises `Retry` where it fails or takes too long."""
        process = await asyncio.create_subprocess_exec(
            *self.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "MESSAGE_ID": message.message_id, "MESSAGE_ATTEMPT": str(message.attempt)},
        )
        try:
            async with asyncio.timeout(self.within_s):
                out, said = await process.communicate(stdin_of(message))
        except TimeoutError:
            raise self.failure(message, f"not done within {self.within_s:g} s") from None
        finally:
            if process.returncode is None:  # too long, or told to stop now: it must not go on alone
                process.kill()
                await process.wait()
        if process.returncode:
            last = said.decode(errors="replace").strip()[-500:]
            raise self.failure(message, f"exit status {process.returncode}: {last}")
        return out

    def failure(self, message: Message, why: str) -> Retry:
        print(f"{message.message_id}: attempt {message.attempt} failed, {why}", flush=True)
        return Retry(why)

    def text(self, out: bytes) -> str | bytes:
        """Text where it is text, for those who read it in a browser."""
        try:
            return out.decode().removesuffix("\n")
        except UnicodeDecodeError:
            return out


async def main(arguments: argparse.Namespace, client: Client) -> None:
    command = Command(client, arguments.command, arguments.replies, arguments.within)
    handler = worker(arguments.queue, concurrency=arguments.concurrency)(command.run)
    async with program.at_work(client, handler):
        print(f"running {' '.join(arguments.command)} for {arguments.queue}", flush=True)
        await program.until_told()


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--queue", default="commands", help="where the messages come from (%(default)s)")
    parser.add_argument("--replies", help="where the output goes, for messages without reply_to")
    parser.add_argument("--concurrency", type=int, default=2, help="processes at a time (%(default)s)")
    parser.add_argument("--within", type=float, default=60, help="seconds for one message (%(default)s)")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
