"""Notifications: to the browser at once, and by e-mail if nobody was there to see them.

`--serve` shows a page for each user (http://127.0.0.1:8090/?user=ann) that consumes `notifications.ann` by the
JavaScript SDK, and sends the e-mails, to --smtp HOST:PORT or else printed. `--send TEXT --to ann` publishes two
messages: one for the page, with a time to live and, if --urgent, the highest priority; and one for the e-mail, delayed
by --mail-after seconds, which is dropped when the page has acked the other by then.

The broker must let the page in: start it with --allowed-origins http://127.0.0.1:8090. The page gets a key of its own
that may only consume that queue. An API key cannot make keys: serve with an access token, or give --page-token. There
is no login here; a real page has one, and asks for its own user's session.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import smtplib
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streambroker.client import Client, Forbidden, Grant, Message, NotFound, worker
from workers import program, serving

MAILS = "notifications.mail"
PAGE = Path(__file__).with_name("notifications.html")
USER = re.compile(r"[a-z0-9-]{1,40}")
URGENT, USUAL = 9, 4
KEY_LIVES = timedelta(hours=8)


def queue_of(user: str) -> str:
    if not USER.fullmatch(user):
        raise program.ProgramError(f"not a user's name: {user!r}")
    return f"notifications.{user}"


async def send(client: Client, to: str, text: str, ttl_s: float, urgent: bool, mail_after_s: float) -> None:
    """For the page now, for the mailbox later."""
    priority = URGENT if urgent else USUAL
    shown = await client.publish(queue_of(to), {"text": text}, ttl_ms=round(1000 * ttl_s), priority=priority)
    await client.publish(
        MAILS,
        {"to": f"{to}@example.com", "text": text, "shown_as": shown.message_id},
        priority=priority,
        delay_ms=round(1000 * mail_after_s),
        dedup_id=f"mail/{shown.message_id}",
        correlation_id=shown.message_id,
    )
    print(f"sent {shown.message_id} to {to}", flush=True)


class Postman:
    """Sends e-mails for what nobody saw."""

    def __init__(self, client: Client, smtp: str | None) -> None:
        self.client = client
        self.smtp = smtp

    async def deliver(self, message: Message) -> None:
        """An exception, as when the server is away, has the broker try again after the queue's backoff."""
        content = message.content
        if await self.was_seen(content["shown_as"]):
            print(f"{content['to']}: seen in the browser, no e-mail", flush=True)
            return
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "broker@example.com", content["to"], content["text"][:70]
        mail["Message-ID"] = f"<{message.message_id}@example.com>"  # a second attempt is the same mail
        mail.set_content(content["text"])
        if self.smtp:
            await asyncio.to_thread(hand_over, self.smtp, mail)
        print(f"{content['to']}: e-mail, {content['text']}", flush=True)

    async def was_seen(self, message_id: str) -> bool:
        """Acked by a page. Gone without a trace means that it was, and that its retention ended."""
        try:
            return (await self.client.messages.get(message_id)).status == "processed"
        except NotFound:
            return True


def hand_over(smtp: str, mail: EmailMessage) -> None:
    host, _, port = smtp.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=10) as server:
        server.send_message(mail)


class Site:
    """The page and its keys; owns the keys that it made, one for each user, and deletes them in the end."""

    def __init__(self, client: Client, page_token: str | None) -> None:
        self.client = client
        self.page_token = page_token
        self._keys: dict[str, tuple[str, str]] = {}

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/", self.page), Route("/session", self.session)])

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE, media_type="text/html")

    async def session(self, request: Request) -> Response:
        """Where a user's page connects to, and with what."""
        user = request.query_params.get("user", "")
        try:
            queue = queue_of(user)
            token = await self.token(queue)
        except (program.ProgramError, Forbidden) as error:
            return PlainTextResponse(str(error), 403)
        where = {"url": self.client.http.url, "queue": queue, "token": token}
        return JSONResponse(where, headers={"Cache-Control": "no-store"})

    async def token(self, queue: str) -> str:
        """A key for this queue alone."""
        if self.page_token:
            return self.page_token
        if queue not in self._keys:
            await self.client.queues.create(queue)
            grants = [Grant(queues=queue, actions=("consume", "view"))]
            until = datetime.now(UTC) + KEY_LIVES
            made = await self.client.api_keys.create(f"page of {queue}", grants=grants, expires_at=until)
            self._keys[queue] = made.id, made.key
        return self._keys[queue][1]

    async def forget_keys(self) -> None:
        for key_id, _ in self._keys.values():
            await self.client.api_keys.delete(key_id)


async def main(arguments: argparse.Namespace, client: Client) -> None:
    if arguments.send is not None:
        to, text = arguments.to, arguments.send
        await send(client, to, text, arguments.ttl, arguments.urgent, arguments.mail_after)
        return
    site = Site(client, arguments.page_token)
    postman = Postman(client, arguments.smtp)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(site.forget_keys)
        await stack.enter_async_context(program.at_work(client, worker(MAILS, concurrency=4)(postman.deliver)))
        await serving.serve(site.application(), "127.0.0.1", arguments.port)


def options() -> argparse.ArgumentParser:
    parser = program.options(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--serve", action="store_true", help="the page and the e-mails, until stopped")
    what.add_argument("--send", metavar="TEXT", help="one notification")
    parser.add_argument("--to", default="ann", help="whose (%(default)s)")
    parser.add_argument("--urgent", action="store_true", help="before all others")
    parser.add_argument("--ttl", type=float, default=3600, help="seconds for which it is of use (%(default)s)")
    parser.add_argument("--mail-after", type=float, default=30, help="seconds (%(default)s)")
    parser.add_argument("--port", type=int, default=8090, help="of the page (%(default)s)")
    parser.add_argument("--smtp", metavar="HOST:PORT", help="a mail server (e-mails are printed)")
    parser.add_argument("--page-token", default=os.environ.get("PAGE_TOKEN"), help="for all pages (PAGE_TOKEN)")
    return parser


if __name__ == "__main__":
    sys.exit(program.start(options(), main))
