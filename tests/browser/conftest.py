"""One browser and one broker for the whole folder; each test has a context of its own, and queues of its own.

They end with the folder and not with the session: while Playwright's synchronous side is open it holds the thread's
event loop, and no asynchronous test could run after it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from tests.browser.dashboard import Dashboard
from tests.browser.guard import Guard
from tests.browser.showcase import Showcase
from tests.harness import BrokerProcess
from tests.system.conftest import missing
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import Queue, fresh_name

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
# Two slow cores that run other tests too: longer than anything takes, and shorter than the time limit of a test.
PATIENCE_MS = 40_000
# Webhooks may go to receivers of the tests, and to an address for documentation where nobody is.
ENV = {**NO_LIMITS, "STREAMBROKER_WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8,192.0.2.0/24"}
WIDE = ViewportSize(width=1280, height=860)

Visit = Callable[..., Dashboard]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="package")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed", possible_here=True)
        raise AssertionError
    return path


@contextmanager
def launched(chromium: str) -> Iterator[Browser]:
    """A browser, as long as it is wanted."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    with launched(chromium) as opened:
        yield opened


@pytest.fixture(scope="package")
def broker(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("browser") / "data", env=ENV) as running:
        yield running


@pytest.fixture(scope="package")
def api(broker: BrokerProcess) -> Iterator[httpx.Client]:
    """Logged in as the admin."""
    with broker.client() as client:
        yield client


@pytest.fixture(scope="package")
def showcase(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showcase]:
    """A broker of its own that looks as one in use does; tests only look at it."""
    directory = tmp_path_factory.mktemp("showcase") / "data"
    with BrokerProcess(directory, env=ENV) as running, running.client() as client, ExitStack() as consumers:
        yield Showcase.filled(running, client, consumers)


@pytest.fixture
def guards() -> Iterator[dict[str, Guard]]:
    """By host; what they collected fails the test."""
    made: dict[str, Guard] = {}
    yield made
    assert [complaint for guard in made.values() for complaint in guard.complaints] == []


@pytest.fixture
def visit(browser: Browser, broker: BrokerProcess, guards: dict[str, Guard]) -> Iterator[Visit]:
    """Open a tab in a new context, logged in as the admin unless told otherwise; the guard watches it."""
    opened: list[tuple[Dashboard, Guard]] = []

    def open_(
        at: BrokerProcess | None = None,
        *,
        log_in: bool = True,
        size: tuple[int, int] = (WIDE["width"], WIDE["height"]),
        **options: Any,
    ) -> Dashboard:
        url = (at or broker).url
        guard = guards.setdefault(url, Guard(urlsplit(url).netloc))
        context = browser.new_context(
            viewport=ViewportSize(width=size[0], height=size[1]), **{"locale": "en-US", **options}
        )
        context.set_default_timeout(PATIENCE_MS)
        guard.watch(context)
        dashboard = Dashboard(context.new_page(), url)
        opened.append((dashboard, guard))
        return dashboard.log_in() if log_in else dashboard

    yield open_
    for dashboard, guard in opened:
        guard.look_for_the_flag(dashboard.page)
        dashboard.page.context.close()


@pytest.fixture(scope="package")
def admin(browser: Browser, broker: BrokerProcess) -> Iterator[tuple[Dashboard, Guard]]:
    """A tab in which the admin is logged in: a login for each test would be half of the time that all tests take."""
    guard = Guard(urlsplit(broker.url).netloc)
    context = browser.new_context(viewport=WIDE, locale="en-US")
    context.set_default_timeout(PATIENCE_MS)
    guard.watch(context)
    yield Dashboard(context.new_page(), broker.url).log_in(), guard
    context.close()


@pytest.fixture
def dashboard(admin: tuple[Dashboard, Guard]) -> Iterator[Dashboard]:
    """The dashboard, with the admin logged in, loaded anew; a test that logs out or changes what stays uses `visit`."""
    tab, guard = admin
    guard.complaints.clear()
    tab.page.goto("about:blank")
    tab.page.goto(tab.url)
    expect(tab("connection-state")).to_have_attribute("data-state", "open")
    yield tab
    guard.look_for_the_flag(tab.page)
    assert guard.complaints == []


@pytest.fixture
def queue(api: httpx.Client) -> Iterator[Queue]:
    """A queue of this test alone, which is there already; gone afterwards."""
    made = Queue(api, fresh_name("work"), lease_ms=3_600_000)
    yield made
    api.delete(made.path)
