"""The site that `make docs` builds: whole, without a broken link, and without a word to another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("docs site")]

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
}
LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
CSS_LOADS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)")


class Loads(HTMLParser):
    """``found``: what a browser fetches by itself for a page, as it stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.classes |= set((named.get("class") or "").split())
        if tag == "link" and not LOADED_LINKS & set((named.get("rel") or "").split()):
            return
        if tag in LOADING and (address := named.get(LOADING[tag])):
            self.found.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make docs`` does, where a warning is an error."""
    built = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(built)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING" not in run.stderr, run.stderr
    return built


def pages(site: Path) -> dict[Path, Loads]:
    read: dict[Path, Loads] = {}
    for page in site.rglob("*.html"):
        read[page] = Loads()
        read[page].feed(page.read_text())
    return read


def test_every_page_is_built(site: Path) -> None:
    assert {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")} <= {
        page.relative_to(site) for page in site.rglob("*.html")
    }


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for page, loads in pages(site).items():
        assert [a for a in loads.found if re.match(r"(?:https?:)?//", a)] == [], page.name
        assert CSS_LOADS.findall(page.read_text()) == [], page.name
        # The theme's script would fetch the library that draws these from a CDN.
        assert "mermaid" not in loads.classes, page.name
    for style in site.rglob("*.css"):
        assert CSS_LOADS.findall(style.read_text()) == [], style.name


def test_what_a_page_loads_is_there(site: Path) -> None:
    for page, loads in pages(site).items():
        for address in loads.found:
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0]).exists(), f"{page.name}: {address}"


def test_the_navigation_names_every_page_once() -> None:
    def named(entry: object) -> list[str]:
        match entry:
            case str():
                return [entry]
            case dict():
                return [name for part in entry.values() for name in named(part)]
            case list():
                return [name for part in entry for name in named(part)]
            case _:
                raise TypeError(entry)

    # The one tag names a function of the theme's; nothing of it matters here.
    plain = re.sub(r"!!python/\S+ .*", "null", (ROOT / "mkdocs.yml").read_text())
    told = named(yaml.safe_load(plain)["nav"])
    assert sorted(told) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
