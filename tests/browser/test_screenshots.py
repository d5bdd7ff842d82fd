"""A picture of each page, dark and light, wide and narrow, in `build/screenshots/`, to be looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import BUSY, Showcase
from tests.browser.traffic import Traffic

Visit = Callable[..., Dashboard]

FOLDER = Path(__file__).parent.parent.parent / "build" / "screenshots"
# How long the broker has been at work before: five minutes fill the charts, as for the pictures in the README.
HISTORY_S = float(os.environ.get("SBTEST_HISTORY_S", "2"))
HEIGHTS = {3840: 2160}
# Where some things come with a tick only.
TICKING = ("overview", "queue", "queue-busy")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def busy(showcase: Showcase) -> Iterator[Showcase]:
    """The showcase with work going on in it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Traffic(showcase.broker, *BUSY):
        yield showcase


@pytest.mark.timeout(120 + HISTORY_S)
@pytest.mark.parametrize(
    ("width", "theme"), [(1280, "dark"), (1280, "light"), (360, "dark"), (360, "light"), (3840, "dark")]
)
def test_each_page_has_its_picture(visit: Visit, busy: Showcase, theme: Literal["dark", "light"], width: int) -> None:
    dashboard = visit(busy.broker, log_in=False, color_scheme=theme, size=(width, HEIGHTS.get(width, 860)))
    page = dashboard.page
    page.goto(dashboard.url)
    expect(dashboard("login-form")).to_be_visible()
    taken = [take(page, f"login-{width}-{theme}")]
    dashboard.log_in()
    points = "globalThis.Chart?.getChart(document.querySelector('canvas'))?.data.datasets[0].data.length ?? 0"
    dashboard.until(lambda: page.evaluate(points), lambda length: length >= HISTORY_S, timeout=HISTORY_S + 30)
    for name, route in busy.routes.items():
        dashboard.open(route, name.partition("-")[0])
        page.wait_for_timeout(1_200 if name in TICKING else 200)
        taken.append(take(page, f"{name}-{width}-{theme}"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
    dashboard.open_queue("orders")
    dashboard("publish-open").click()
    taken.append(take(page, f"dialog-publish-{width}-{theme}"))
    dashboard("dialog-cancel").click()
    dashboard.queue_action("orders", "delete")
    taken.append(take(page, f"dialog-delete-{width}-{theme}"))
    assert all(picture.read_bytes().startswith(PNG) for picture in taken)


def take(page: Page, name: str) -> Path:
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    return path
