"""The pages that show the API: they work, from the broker's own files alone, under their policies (D27)."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.harness import BrokerProcess

WEB = Path(__file__).parents[2] / "web/apidocs"
PAGES = ("/docs", "/redoc", "/redoc/asyncapi")
Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def stranger(broker: BrokerProcess) -> httpx.Client:
    return httpx.Client(base_url=broker.url, trust_env=False, timeout=30)


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    directives = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in directives}


# -- in a browser


def test_swagger_ui_lists_every_heading(visit: Visit, stranger: httpx.Client) -> None:
    page = visit("/docs")
    tags = [tag["name"] for tag in stranger.get("/openapi.json").json()["tags"]]
    for tag in tags:
        expect(page.locator(f'h3.opblock-tag[data-tag="{tag}"]')).to_be_visible()
    expect(page.get_by_text("openapi.json").first).to_be_visible()


def test_swagger_ui_tries_an_operation_out_with_a_token(visit: Visit, broker: BrokerProcess) -> None:
    page = visit("/docs")
    page.get_by_role("button", name="Authorize").click()
    page.locator('input[aria-label="auth-bearer-value"], #auth-bearer-value').first.fill(broker.token())
    page.get_by_role("button", name="Apply credentials").first.click()
    page.locator("button.close-modal").click()
    page.locator('h3.opblock-tag[data-tag="Publish"]').click()
    block = page.locator("#operations-Publish-publishMessage")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.locator('tr[data-param-name="queue"] input').fill("tried-out")
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text("201")
    with broker.client() as api:
        counts = api.get("/queues/tried-out").json()["counts"]
        assert counts["pending"] == 1
    assert page.evaluate("localStorage.length") == 0, "a token, or anything else, stays behind"


def test_swagger_ui_shows_a_refusal_to_who_has_no_token(visit: Visit) -> None:
    page = visit("/docs")
    page.locator('h3.opblock-tag[data-tag="Queues"]').click()
    block = page.locator("#operations-Queues-listQueues")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text("401")
    expect(block.locator(".live-responses-table")).to_contain_text("unauthenticated")


def test_an_address_with_a_fragment_opens_that_operation(visit: Visit) -> None:
    page = visit("/docs#/Queues/createQueue")
    expect(page.locator("#operations-Queues-createQueue .opblock-body")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_swagger_ui_follows_the_colours_of_the_system(visit: Visit, scheme: str) -> None:
    page = visit("/docs", scheme)
    expect(page.locator("html")).to_have_class(re.compile("^dark-mode$" if scheme == "dark" else "^$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("path", "heading"), [("/redoc", "Publish"), ("/redoc/asyncapi", "WebSocket")])
def test_redoc_shows_the_description(visit: Visit, path: str, heading: str, scheme: str) -> None:
    page = visit(path, scheme)
    expect(page.get_by_role("heading", name=re.compile("^streambroker")).first).to_be_visible()
    expect(page.get_by_role("main").get_by_role("link", name=heading).first).to_be_visible()
    expect(page.locator("html")).to_have_class(re.compile(rf"\b{scheme}\b"))
    expect(page.get_by_alt_text("redocly logo")).to_have_attribute("src", re.compile("^data:image/svg"))
    # A way to a page of somebody else, with the whole description in its address, is not offered.
    assert not re.search("ChatGPT|Claude", page.locator("body").inner_text())


def test_redoc_can_be_reloaded_at_an_operation(visit: Visit) -> None:
    page = visit("/redoc")
    page.get_by_role("link", name="Queues").first.click()
    page.get_by_role("link", name="Purge a queue").first.click()
    expect(page).to_have_url(re.compile(r"/redoc#"))
    page.reload()
    expect(page.get_by_text("Purge a queue").first).to_be_visible()


# -- on the wire


@pytest.mark.parametrize("path", [*PAGES, "/docs/", "/v1/docs", "/openapi.json", "/asyncapi.json"])
def test_the_pages_and_the_descriptions_are_public(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_load_only_what_the_broker_has(stranger: httpx.Client, path: str) -> None:
    allowed = policy(stranger.get(path))
    assert allowed["default-src"] == ["'none'"]
    assert allowed["script-src"] == allowed["connect-src"] == ["'self'"]
    assert allowed["frame-ancestors"] == allowed["base-uri"] == allowed["form-action"] == ["'none'"]
    assert not [value for values in allowed.values() for value in values if "unsafe" in value or "http" in value]


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_names_is_there_and_is_not_sent_twice(stranger: httpx.Client, path: str) -> None:
    page = stranger.get(path)
    assert page.headers["cache-control"] == "no-cache"
    assert stranger.get(path, headers={"If-None-Match": page.headers["etag"]}).status_code == 304
    named = re.findall(r'(?:src|href)="(/apidocs/[^"]+)"', page.text)
    assert named
    for name in named:
        asset = stranger.get(name)
        assert asset.status_code == 200, name
        assert stranger.get(name, headers={"If-None-Match": asset.headers["etag"]}).status_code == 304
        kept = "immutable" in asset.headers["cache-control"]
        assert kept == ("/vendor/" in name)


@pytest.mark.parametrize("path", ["/apidocs/README.md", "/apidocs/vendor/README.md", "/apidocs/../main.py"])
def test_nothing_else_can_be_read(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code in (401, 404)


def test_a_page_can_only_be_read(stranger: httpx.Client) -> None:
    answer = stranger.post("/docs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


# -- the files


def test_vendored_files_are_what_their_table_says() -> None:
    table = (WEB / "vendor/README.md").read_text()
    told = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", table, re.MULTILINE))
    there = {path.name for path in (WEB / "vendor").iterdir() if path.suffix in (".js", ".css")}
    assert set(told) == there
    for name, digest in told.items():
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest, name


def test_redoc_differs_from_its_release_in_two_addresses_alone() -> None:
    """Its logo would be loaded from another host; put back, the file is the one of the release."""
    readme = (WEB / "vendor/README.md").read_text()
    text = (WEB / "vendor/redoc.standalone-3.0.1.js").read_text()
    ours = re.findall(r"`(data:image/svg\+xml,[^`]*Redocly[^`]*)`:`(data:image/svg\+xml,[^`]*)`", text)
    assert len(ours) == 1
    host = "https://cdn.redoc.ly/redoc"
    released = text.replace(ours[0][0], f"{host}/logo-mini-full.svg").replace(ours[0][1], f"{host}/logo-mini.svg")
    assert f"`{hashlib.sha256(released.encode()).hexdigest()}`" in readme


def test_the_wheel_carries_the_pages_to_where_they_are_looked_for() -> None:
    hatch = tomllib.loads((WEB.parents[1] / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert hatch["force-include"]["web/apidocs"] == "streambroker/web/apidocs"


def test_no_page_has_a_script_or_a_style_in_it() -> None:
    for page in WEB.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|https?://", text), page.name
