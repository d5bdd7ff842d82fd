"""English and Brazilian Portuguese, chosen by the browser's language or by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.showcase import Showcase

Visit = Callable[..., Dashboard]

# What a text looks like that nobody wrote: its key.
KEY = re.compile(
    r"(?<![\w.])(?:action|card|chart|connection|consumers|content|dialog|events|field|form|frame|grants|keys|login"
    r"|logs|message|nav|overview|pager|problem|publish|queue|queues|reason|role|search|state|status|table"
    r"|theme|timeline|users|webhooks)\.[a-z_]+[A-Za-z_.]*\b"
)


@pytest.mark.parametrize(
    ("locale", "language", "login", "title"),
    [
        ("en-GB", "en", "Log in", "Queues"),
        ("pt-BR", "pt-BR", "Entrar", "Filas"),
        ("pt-PT", "pt-BR", "Entrar", "Filas"),
        ("de-DE", "en", "Log in", "Queues"),
    ],
)
def test_the_browser_s_language_chooses(visit: Visit, locale: str, language: str, login: str, title: str) -> None:
    dashboard = visit(log_in=False, locale=locale)
    dashboard.page.goto(dashboard.url)
    expect(dashboard("login-submit")).to_have_text(login)
    expect(dashboard.page.locator("html")).to_have_attribute("lang", language)
    dashboard.log_in().open("queues")
    expect(dashboard.page.get_by_role("heading", level=1)).to_have_text(title)


def test_a_language_chosen_by_hand_stays(visit: Visit) -> None:
    dashboard = visit()
    dashboard.open("users")
    dashboard("language-select").select_option("pt-BR")
    expect(dashboard.page.get_by_role("heading", level=1)).to_have_text("Usuários")
    assert dashboard.focused() == "language-select"
    dashboard.page.reload()
    expect(dashboard.page.get_by_role("heading", level=1)).to_have_text("Usuários")


def test_figures_are_written_as_the_language_does(visit: Visit, showcase: Showcase) -> None:
    expect(visit(showcase.broker)("card-memory-value")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(visit(showcase.broker, locale="pt-BR")("card-memory-value")).to_have_text(re.compile(r"^\d+,\d$"))


@pytest.mark.parametrize("locale", ["en-US", "pt-BR"])
def test_no_text_is_missing_on_any_page(visit: Visit, showcase: Showcase, locale: str) -> None:
    dashboard = visit(showcase.broker, locale=locale)
    missing = {}
    for name, route in showcase.routes.items():
        dashboard.open(route, {"": "overview"}.get(route, page_of(route)))
        shown = dashboard.page.locator("body").inner_text()
        shown += dashboard.page.evaluate(
            "[...document.querySelectorAll('[aria-label],[title],[placeholder]')]"
            ".map((e) => [e.ariaLabel, e.title, e.placeholder].join(' ')).join(' ')"
        )
        if found := set(KEY.findall(shown)) - set(showcase.names):
            missing[name] = found
    assert missing == {}


def page_of(route: str) -> str:
    """The page that a route leads to: `queues/orders` is shown by `queue`."""
    first, _, rest = route.partition("?")[0].partition("/")
    return first.removesuffix("s") if rest else first
