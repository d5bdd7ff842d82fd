"""One browser and one broker for the pages of the API's descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import PATIENCE_MS, browser, chromium
from tests.browser.guard import Guard
from tests.harness import BrokerProcess
from tests.wire.conftest import NO_LIMITS

__all__ = ["browser", "chromium"]  # fixtures of this folder too

Visit = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with BrokerProcess(tmp_path_factory.mktemp("apidocs") / "data", env=NO_LIMITS) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, broker: BrokerProcess) -> Iterator[Visit]:
    """Open a page of the broker in a tab of its own.

    A request to another host, a report of the Content Security Policy and an error on the console fail the test.
    """
    guard = Guard(urlsplit(broker.url).netloc)
    pages: list[Page] = []

    def open_(path: str, scheme: str = "light") -> Page:
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        guard.watch(context)
        page = context.new_page()
        pages.append(page)
        page.goto(broker.url + path)
        return page

    yield open_
    for page in pages:
        page.context.close()
    assert guard.complaints == []
