"""The bare route: Starlette on uvicorn, reads the body, answers the broker's 201, stores nothing.

``python -m bench.bare PORT``. Same event loop, HTTP parser and log settings as uvicorn picks for the broker.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

ANSWER = b'{"message_id":"01JD9Z6T4WQ5R8Y2K3M7N0PABC","status":"pending","duplicate":false}'


async def publish(request: Request) -> Response:
    """Read the body, say 201."""
    await request.body()
    return Response(ANSWER, status_code=201, media_type="application/json")


app = Starlette(routes=[Route("/queues/{queue}/messages", publish, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
