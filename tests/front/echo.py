"""A server that sends back what it gets, for suites that test a server by its echo: prints its port.

It is the broker's server with its own protocol classes, around another application.
"""

from __future__ import annotations

from typing import Any

import uvloop

from streambroker.transport import server

MAX_FRAME = 32 * 1024 * 1024
"""More than the cases send, for how much the broker takes is a setting and not a matter of the protocol."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def main() -> None:
    sock = server.listen("127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    await server.Server(server.configured(echo, 60_000, MAX_FRAME)).serve(sockets=[sock])


if __name__ == "__main__":
    uvloop.run(main())
