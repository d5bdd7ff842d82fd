"""A Starlette application served within a program that has signals and a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from workers import program


class Door(uvicorn.Server):
    """A server that leaves the signals to the program."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(application: Starlette, host: str, port: int) -> None:
    """Until told to end; then what is being answered is answered first. Port 0 is any free one."""
    config = uvicorn.Config(application, host, port, log_level="critical", lifespan="off", timeout_graceful_shutdown=5)
    door = Door(config)
    serving = asyncio.create_task(listen(door))
    try:
        while not door.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells in no other way
            await asyncio.sleep(0.01)
        if not door.started:
            raise program.ProgramError(f"cannot listen on {host}:{port}: is something else there?")
        ((address, bound, *_), *_more) = [socket.getsockname() for one in door.servers for socket in one.sockets]
        print(f"listening on http://{address}:{bound}", flush=True)
        await asyncio.shield(serving)
    finally:
        door.should_exit = True
        await asyncio.wait([serving])


async def listen(door: Door) -> None:
    """uvicorn exits the process where it cannot listen; that is for the program to say."""
    try:
        await door.serve()
    except SystemExit:
        return
