"""The dashboard as a person uses it: pages by their address, controls by their `data-testid`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from playwright.sync_api import Locator, Page, expect

from tests.harness import PASSWORD

T = TypeVar("T")


class Dashboard:
    """One tab. Methods wait for what they cause to be seen, so that the next line may rely on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = f"{url}/dashboard"

    def __call__(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def rows(self, prefix: str) -> Locator:
        """Every element whose `data-testid` begins like this."""
        return self.page.locator(f"[data-testid^='{prefix}']")

    # ---- where one is

    def log_in(self, username: str = "admin", password: str = PASSWORD) -> Dashboard:
        """Log in by the form; returns when the frame is there and its feed is live."""
        self.page.goto(self.url)
        self.fill_login(username, password)
        expect(self("connection-state")).to_have_attribute("data-state", "open")
        return self

    def fill_login(self, username: str, password: str) -> None:
        self("login-username").fill(username)
        self("login-password").fill(password)
        self("login-submit").click()

    def open(self, route: str, page: str = "") -> None:
        """Go to `#/route`; returns when that page has replaced its loading state."""
        name = page or route.strip("/").split("/")[0] or "overview"
        self.page.evaluate("hash => { location.hash = hash }", f"#/{route.lstrip('/')}")
        shown = self(f"page-{name}")
        expect(shown.locator("h1")).to_be_visible()
        expect(shown.get_by_test_id("state-loading")).to_have_count(0)

    def open_queue(self, name: str) -> None:
        self.open(f"queues/{name}", "queue")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(name)

    def open_message(self, id_: str) -> None:
        self.open(f"messages/{id_}", "message")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(id_)

    def expect_route(self, route: str) -> None:
        expect(self.page).to_have_url(re.compile(re.escape(f"#/{route}") + "$"))

    # ---- dialogs and menus

    def fill(self, **fields: str) -> None:
        """Fill controls by their `data-testid`, given with `_` for `-`."""
        for name, value in fields.items():
            self(name.replace("_", "-")).fill(value)

    def confirm(self) -> None:
        """Confirm the open dialog; returns when it is gone, so what it does has been answered."""
        self("dialog-confirm").click()
        expect(self.page.locator("dialog[open]")).to_have_count(0)

    def confirm_in_vain(self) -> str:
        """Confirm the open dialog, which stays; returns what it says is wrong."""
        self("dialog-confirm").click()
        expect(self("dialog-problem")).to_be_visible()
        return self("dialog-problem").inner_text()

    def queue_action(self, name: str, action: str) -> None:
        """Choose from the queue's menu; returns when the question is there."""
        self(f"queue-actions-{name}").click()
        self(f"queue-action-{action}").click()
        expect(self.page.locator("dialog[open]")).to_be_visible()

    def concerned(self) -> int:
        """How many messages the open dialog says that it concerns."""
        return int(self("dialog-count").get_attribute("data-count") or "")

    def focused(self) -> str:
        """The `data-testid` of what has the focus."""
        return str(self.page.evaluate("document.activeElement?.dataset.testid ?? ''"))

    # ---- what has no locator

    def until(self, look: Callable[[], T], wanted: Callable[[T], bool] = bool, timeout: float = 60) -> T:
        """Look until it is as wanted, letting the page go on meanwhile."""
        deadline = time.monotonic() + timeout
        while not wanted(seen := look()):
            assert time.monotonic() < deadline, f"still {seen!r}"
            self.page.wait_for_timeout(100)
        return seen

    def charts(self) -> dict[str, list[Any]]:
        """Of each chart, by its `data-testid`, the newest value of each of its lines, or all its parts."""
        found: dict[str, list[Any]] = self.page.evaluate(_CHARTS)
        return found

    def drawn(self, testid: str) -> str:
        """The picture on a chart's canvas, to be compared with another one."""
        canvas = self(testid).locator("canvas")
        return str(canvas.evaluate("canvas => canvas.toDataURL()"))


_CHARTS = """() => Object.fromEntries([...document.querySelectorAll("section.chart")].map((section) => {
  const chart = globalThis.Chart?.getChart(section.querySelector("canvas"));
  const sets = chart?.data.datasets ?? [];
  const lines = chart?.config.type === "line";
  return [section.dataset.testid, lines ? sets.map((set) => set.data.at(-1)?.y ?? null) : [...(sets[0]?.data ?? [])]];
}))"""
