"""Notifications: what the page shows, what is mailed, and what is not."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from streambroker.client import SyncClient
from tests.harness import BrokerProcess
from tests.system.conftest import missing
from tests.workers.programs import finished, running

pytestmark = pytest.mark.system

PATIENCE_MS = 40_000


class Mailbox:
    """A mail server for one mail after the other, as much of RFC 5321 as smtplib uses; keeps what it is given."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.mails: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self.server.getsockname()
        return f"{host}:{port}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, connection.makefile("r") as told, connection.makefile("w", newline="\r\n") as said:
                self._converse(told, said)

    def _converse(self, told: TextIO, said: TextIO) -> None:
        print("220 mailbox", file=said, flush=True)
        for line in told:
            verb = line.strip().upper()
            if verb == "DATA":
                print("354 go on", file=said, flush=True)
                self.mails.append("".join(iter(told.readline, ".\n")))
            print("221 bye" if verb == "QUIT" else "250 ok", file=said, flush=True)
            if verb == "QUIT":
                return


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    try:
        yield box
    finally:
        box.server.close()


def test_what_nobody_saw_is_mailed_and_what_was_seen_is_not(broker: BrokerProcess, client: SyncClient) -> None:
    with mailbox() as box, running(broker, "notifications", "--serve", "--port", "0", "--smtp", box.address) as site:
        site.says("listening on")
        finished(broker, "notifications", "--send", "seen", "--to", "bob", "--mail-after", "3600")
        finished(broker, "notifications", "--send", "unseen", "--to", "bob", "--mail-after", "0")
        site.says("bob@example.com: e-mail, unseen")
        finished(broker, "notifications", "--send", "urgent", "--to", "bob", "--urgent", "--mail-after", "3600")
        first = client.receive("notifications.bob")
        assert first is not None
        assert (first.content, first.priority) == ({"text": "urgent"}, 9)
        assert first.expires_at is not None
        first.ack()
        client.publish("notifications.mail", {"to": "bob@example.com", "text": "urgent", "shown_as": first.message_id})
        site.says("bob@example.com: seen in the browser, no e-mail")
    (mail,) = box.mails
    assert "To: bob@example.com\n" in mail
    assert "\n\nunseen\n" in mail


def test_a_page_gets_a_key_for_its_own_queue_that_ends_with_the_program(broker: BrokerProcess) -> None:
    with running(broker, "notifications", "--serve", "--port", "0") as site:
        url = site.says("listening on").split()[-1]
        session = httpx.get(f"{url}/session", params={"user": "eve"}).raise_for_status().json()
        assert session["queue"] == "notifications.eve"
        assert httpx.get(f"{url}/session", params={"user": "../eve"}).status_code == 403
        key = {"Authorization": f"Bearer {session['token']}"}
        assert httpx.get(f"{broker.url}/queues/notifications.eve", headers=key).status_code == 200
        assert httpx.get(f"{broker.url}/queues/notifications.bob", headers=key).status_code in (403, 404)
    assert httpx.get(f"{broker.url}/queues/notifications.eve", headers=key).status_code == 401


def test_the_page_shows_what_is_sent(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        missing("chromium is not installed", possible_here=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    with (
        BrokerProcess(tmp_path, "--allowed-origins", origin) as broker,
        running(broker, "notifications", "--serve", "--port", str(port)) as site,
        sync_playwright() as playwright,
    ):
        site.says("listening on")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{origin}/?user=ann")
        expect(page.locator("#state")).to_have_text("open", timeout=PATIENCE_MS)
        finished(broker, "notifications", "--send", "<b>hello</b>", "--urgent", "--mail-after", "0.1")
        expect(page.locator("li.urgent")).to_have_text("<b>hello</b>", timeout=PATIENCE_MS)
        expect(page.locator("#events")).to_contain_text("message_processed 1", timeout=PATIENCE_MS)
        browser.close()
