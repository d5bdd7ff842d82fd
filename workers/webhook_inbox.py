"""An inbox for webhooks: verify, store, answer at once; work later.

It takes POST /hooks/<source>, signed as Standard Webhooks say (standardwebhooks.com), stores the body in the
queue `inbox` with the webhook-id as dedup id, and answers 202 when it is durable. Senders send again what was not
answered: the dedup id makes that one message. While the broker cannot be reached it answers 503, so they come back. A
worker beside it prints what came; write your own. The secret is WEBHOOK_SECRET ("whsec_" and base64); without one it
makes one up. `--send URL` sends a signed sample instead, for trying it out.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import secrets
import sys
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streambroker.client import ApiError, Client, Message, StreambrokerError, worker
from workers import program, serving

QUEUE = "inbox"
LARGEST = 512 * 1024
STORED_WITHIN_S = 5
FORGED = (WebhookVerificationError, ValueError, binascii.Error)  # the library raises the others for malformed headers


class Inbox:
    """The application's one door."""

    def __init__(self, client: Client, secret: str) -> None:
        self.client = client
        self.webhook = Webhook(secret)

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/hooks/{source}", self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        """202 stored, 200 stored before, 401 not signed by who has the secret, 413 too large, 503 try again."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                return JSONResponse({"error": f"at most {LARGEST} bytes"}, 413)
        try:
            self.webhook.verify(body, dict(request.headers), json_parse=False)
        except FORGED as error:
            return JSONResponse({"error": str(error)}, 401)
        source, webhook_id = request.path_params["source"], request.headers["webhook-id"]
        try:
            published = await self.client.publish(
                QUEUE,
                body,
                content_type=request.headers.get("content-type", "application/json"),
                dedup_id=f"{source}/{webhook_id}",
                headers={"source": source, "webhook-id": webhook_id},
                timeout=STORED_WITHIN_S,
            )
        except StreambrokerError as error:
            retryable = not isinstance(error, ApiError) or error.retryable
            return JSONResponse({"error": "cannot be stored"}, 503 if retryable else 500, {"Retry-After": "5"})
        return JSONResponse({"message_id": published.message_id}, 200 if published.duplicate else 202)


@worker(QUEUE, concurrency=4)
async def show(message: Message) -> None:
    """What came; raw bytes or JSON as its sender had it."""
    content = message.content
    told = content.decode(errors="replace") if isinstance(content, bytes) else json.dumps(content)
    print(f"from {message.headers.get('source')}: {told[:200]}", flush=True)


async def send(url: str, secret: str, number: int) -> None:
    """Signed samples; each answer is printed."""
    async with httpx.AsyncClient(timeout=10) as sender:
        for n in range(number):
            body = json.dumps({"type": "invoice.paid", "data": {"invoice": n + 1}})
            now, webhook_id = datetime.now(UTC), f"msg_{secrets.token_hex(8)}"
            signed = {
                "webhook-id": webhook_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(secret).sign(webhook_id, now, body),
                "content-type": "application/json",
            }
            try:
                answer = await sender.post(url, content=body, headers=signed)
            except httpx.HTTPError as error:
                raise program.ProgramError(f"{url}: {error}") from error
            print(f"{webhook_id}: {answer.status_code} {answer.text}", flush=True)


async def main(arguments: argparse.Namespace, client: Client) -> None:
    secret = os.environ.get("WEBHOOK_SECRET")
    if arguments.send:
        if not secret:
            raise program.ProgramError("set WEBHOOK_SECRET to the inbox's secret")
        await send(arguments.send, secret, arguments.count)
        return
    if not secret:
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        print(f"WEBHOOK_SECRET={secret}", flush=True)
    inbox = Inbox(client, secret)
    async with program.at_work(client, show):
        await serving.serve(inbox.application(), arguments.host, arguments.port)


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=8088, help="0: any free one (%(default)s)")
    parser.add_argument("--send", metavar="URL", help="send samples there, as http://127.0.0.1:8088/hooks/billing")
    parser.add_argument("--count", type=int, default=1, help="how many samples (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
