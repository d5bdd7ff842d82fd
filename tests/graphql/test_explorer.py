"""The explorer in Chromium: everything from the broker, nothing that its policy forbids, and it works."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from graphql import introspection_from_schema
from playwright.sync_api import Browser, Page, expect

from streambroker.transport.graphql.schema import SCHEMA
from tests.browser.conftest import chromium, launched
from tests.browser.guard import Guard
from tests.harness import PASSWORD, BrokerProcess
from tests.wire.doors import Queue
from tests.wire.people import SECRET, grant, somebody

__all__ = ["chromium"]  # a fixture of this file too

FILES = Path(__file__).parents[2] / "web" / "graphiql"
SCHEMA_FILE = FILES / "schema.json"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """For this file only: others of the folder are asyncio's, whose loop Playwright would hold."""
    with launched(chromium) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, broker: BrokerProcess) -> Iterator[Page]:
    """A page that fails the test for a request to elsewhere, for a report of the policy, and for an error."""
    guard = Guard(urlsplit(broker.url).netloc)
    with browser.new_context(base_url=broker.url) as context:
        guard.watch(context)
        opened = context.new_page()
        opened.add_init_script("""
            addEventListener("securitypolicyviolation", (event) => console.error(
                `policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`))
        """)
        opened.goto("/graphql")
        yield opened
    assert guard.complaints == []


def log_in(page: Page, username: str, password: str) -> None:
    page.get_by_label("User").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def run(page: Page, name: str, query: str) -> None:
    """Put the query into the editor, in place of what stands there, and execute it, once GraphiQL has read its name."""
    editor = page.locator(".graphiql-query-editor .CodeMirror")
    editor.evaluate("(place, text) => place.CodeMirror.setValue(text)", query)
    expect(page.locator(".graphiql-tab-button").first).to_have_text(name)
    page.get_by_role("button", name="Execute query").click()


def test_a_query_is_executed(page: Page, queue: Queue) -> None:
    log_in(page, "admin", PASSWORD)
    expect(page.locator("#who")).to_have_text("admin (admin)")
    run(page, "Look", f'query Look {{ queue(name: "{queue.name}") {{ name paused }} }}')
    expect(page.locator(".result-window")).to_contain_text(f'"name": "{queue.name}"')


def test_numbers_are_shown_as_they_are(page: Page, queue: Queue) -> None:
    log_in(page, "admin", PASSWORD)
    run(
        page,
        "Give",
        f'mutation Give {{ publish(queue: "{queue.name}", content: 12345678901234567890123) {{ messageId }} }}',
    )
    expect(page.locator(".result-window")).to_contain_text("messageId")
    run(page, "Take", f'mutation Take {{ consume(queue: "{queue.name}") {{ content }} }}')
    expect(page.locator(".result-window")).to_contain_text("12345678901234567890123")


def test_a_subscription_is_followed(page: Page, queue: Queue) -> None:
    log_in(page, "admin", PASSWORD)
    run(page, "Hear", f'subscription Hear {{ events(queue: "{queue.name}") {{ event messageId }} }}')
    expect(page.get_by_role("button", name="Stop query")).to_be_visible()
    for _ in range(200):  # the subscription begins when the broker has taken it up, of which the page says nothing
        number = queue.publish(1)
        if number in (page.locator(".result-window").text_content() or ""):
            break
        page.wait_for_timeout(50)
    expect(page.locator(".result-window")).to_contain_text("new_message")


def test_documentation_and_dialogs_are_under_the_policy_too(page: Page) -> None:
    log_in(page, "admin", PASSWORD)
    page.get_by_role("button", name="Show Documentation Explorer").click()
    expect(page.locator(".graphiql-doc-explorer")).to_contain_text("Mutation")
    page.get_by_role("button", name="Open settings dialog").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Open short keys dialog").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_member_asks_as_well(page: Page, api: httpx.Client, queue: Queue) -> None:
    with somebody(api, role="member", grants=[grant("*", "view")]) as person:
        log_in(page, person.name, SECRET)
        run(page, "Look", f'query Look {{ queue(name: "{queue.name}") {{ name }} }}')
        expect(page.locator(".result-window")).to_contain_text(queue.name)


def test_an_api_key_does_as_well(page: Page, api: httpx.Client, queue: Queue) -> None:
    with somebody(api, role="member", grants=[grant("*", "view")]) as person:
        page.get_by_label("API key").fill(person.key()["key"])
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#who")).to_contain_text(person.name)
        run(page, "Look", f'query Look {{ queue(name: "{queue.name}") {{ name }} }}')
        expect(page.locator(".result-window")).to_contain_text(queue.name)


def test_a_wrong_password_is_said_and_a_logout_forgets(page: Page) -> None:
    log_in(page, "admin", "not it")
    expect(page.locator("#refused")).not_to_be_empty()
    log_in(page, "admin", PASSWORD)
    expect(page.locator(".graphiql-container")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(page.locator(".graphiql-container")).to_have_count(0)


def test_the_page_and_its_files_have_a_strict_policy(api: httpx.Client) -> None:
    page = api.get("/graphql", headers={"Accept": "text/html", "Authorization": ""})
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        file = api.get(path, headers={"Authorization": ""})
        assert (file.status_code, file.headers["x-content-type-options"]) == (200, "nosniff")
        assert api.get(path, headers={"If-None-Match": file.headers["etag"]}).status_code == 304
    assert api.get("/graphql/assets/../../../pyproject.toml").status_code == 404
    assert api.get("/graphql/assets/vendor/README.md").status_code == 404


def test_the_schema_beside_the_page_is_the_broker_s() -> None:
    """`python -m tests.graphql.test_explorer` writes it anew."""
    assert json.loads(SCHEMA_FILE.read_text()) == introspection_from_schema(SCHEMA)


def test_vendored_files_are_those_that_were_published() -> None:
    told = re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (FILES / "vendor" / "README.md").read_text(), re.M)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FILES / "vendor").glob("*.[jc]s*")}
    assert found == dict(told)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(introspection_from_schema(SCHEMA), separators=(",", ":")) + "\n")
