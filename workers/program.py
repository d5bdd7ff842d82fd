"""What all programs here do alike: say where the broker is, work, end when told, and say what went wrong."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from streambroker.client import ApiError, Client, StreambrokerError, Worker, work

Main = Callable[[argparse.Namespace, Client], Awaitable[None]]
GRACE_S = 10


class ProgramError(Exception):
    """It did not go as it should; the message is for whoever runs the program."""


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every program takes; its description is the module's own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    broker = parser.add_argument_group("broker")
    broker.add_argument("--url", help="where it is (STREAMBROKER_URL; else http://127.0.0.1:8000)")
    broker.add_argument("--token", help="an API key or access token (STREAMBROKER_TOKEN)")
    broker.add_argument("--verbose", action="store_true", help="tell more, with tracebacks")
    return parser


class Brief(logging.Formatter):
    """Of an exception its last line alone: what failed comes back by the queue's policy, and is told each time."""

    def formatException(self, ei: Any) -> str:
        return "".join(traceback.format_exception_only(ei[1])).rstrip()


def log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter((logging.Formatter if verbose else Brief)("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("streambroker").setLevel(logging.INFO if verbose else logging.WARNING)


def start(parser: argparse.ArgumentParser, main: Main) -> int:
    """Run `main` with a client until it returns, or until SIGINT or SIGTERM; its exit status is 0 in both cases."""
    arguments = parser.parse_args()
    log_to_stderr(arguments.verbose)
    try:
        asyncio.run(_until_told(arguments, main))
    except (StreambrokerError, ProgramError, OSError) as error:
        code = error.code if isinstance(error, ApiError) else ""
        print(f"{parser.prog}: {code and f'{code}: '}{error}", file=sys.stderr)
        return 1
    return 0


async def _until_told(arguments: argparse.Namespace, main: Main) -> None:
    """A signal cancels `main`, which leaves its blocks in order; a second one, what still runs there."""
    told = False
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        nonlocal told
        told = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        async with Client(arguments.url, token=arguments.token) as client:
            await main(arguments, client)
    except asyncio.CancelledError:
        if not told:
            raise
        print("stopped", flush=True)


@asynccontextmanager
async def at_work(client: Client, *workers: Worker) -> AsyncIterator[None]:
    """Workers beside the block. Leaving it lets them finish what they have begun; what ends them ends the block."""
    stop = asyncio.Event()
    block = asyncio.current_task()
    task = asyncio.create_task(work(client, *workers, stop=stop, grace=GRACE_S))

    def ended(task: asyncio.Task[None]) -> None:
        if not stop.is_set() and block is not None:
            block.cancel()

    task.add_done_callback(ended)
    try:
        yield
    finally:
        stop.set()
        await task  # raises what ended them, in place of the cancellation


async def until_told() -> None:
    """Wait for the signal that ends the program."""
    await asyncio.get_running_loop().create_future()
