"""What must never happen in the dashboard, whatever a test does with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

# A payload that runs sets this, whichever way it got to run.
FLAG = "__xss"
# The browser says so itself of each answer that is an error; what the page makes of it is the test's to look at.
_NETWORK = ("Failed to load resource", "WebSocket connection to")


@dataclass  # without slots: Playwright leaves an attribute on whose method it calls
class Guard:
    """Collects, from every page of its contexts, what fails a test: ``complaints`` must be empty at its end.

    A dialog opened by a script, an error that no script caught, a report of the Content Security Policy, an error on
    the console, and a request to another host than the broker's.
    """

    host: str
    complaints: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        context.on("page", self._watch_page)
        context.on("request", self._request)

    def _watch_page(self, page: Page) -> None:
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("console", self._console)

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_NETWORK):
            self.complaints.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and url.netloc != self.host:
            self.complaints.append(f"request to another host: {request.url}")

    def look_for_the_flag(self, page: Page) -> None:
        if page.evaluate(f"window.{FLAG} !== undefined"):
            self.complaints.append(f"a payload ran on {page.url}")
