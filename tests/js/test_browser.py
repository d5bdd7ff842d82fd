"""The JavaScript SDK in Chromium: from a page of the broker's, and from a page of another site that it allows."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.guard import Guard
from tests.harness import PASSWORD, BrokerProcess
from tests.wire.conftest import NO_LIMITS
from tests.wire.doors import fresh_name

_ROUND = """async ({ sdk, url, options, queue }) => {
  const { Client } = await import(sdk);
  const client = new Client(url, options);
  const published = await Promise.all([1, 2, 3].map((n) => client.publish(queue, { n })));
  const consumer = client.consume(queue, { credit: 2 });
  const seen = [];
  for await (const message of consumer) {
    await message.ack();
    seen.push([message.content.n, message.text]);
    if (seen.length === published.length) break;
  }
  const { counts } = await client.queues.get(queue);
  await client.close();
  return { seen, transport: consumer.transport, processed: counts.processed };
}"""
_RESTARTED = """async ({ sdk, options, queue }) => {
  const { Client } = await import(sdk);
  const client = new Client(undefined, { ...options, timeoutMs: 60000 });
  globalThis.seen = [];
  globalThis.done = (async () => {
    for await (const message of client.consume(queue)) {
      await message.ack();
      globalThis.seen.push(message.content);
      if (message.content === "last") break;
    }
    await client.close();
    return globalThis.seen;
  })();
  globalThis.publish = (content) => client.publish(queue, content).then(({ messageId }) => messageId);
}"""
_EVENTS = """async ({ sdk, url, options, queue }) => {
  const { Client } = await import(sdk);
  const client = new Client(url, options);
  await client.queues.create(queue);
  const events = client.events(queue);
  const first = events.next();
  let published = 0;
  const publishing = setInterval(() => void client.publish(queue, (published += 1)), 100);
  const { value } = await first;
  clearInterval(publishing);
  await events.return();
  await client.close();
  return value.event;
}"""
_REFUSED = """async ({ sdk, url, queue }) => {
  const { Client, Unauthenticated } = await import(sdk);
  const client = new Client(url, { token: "sbk_nobody" });
  try {
    await client.consume(queue).next();
  } catch (error) {
    return error instanceof Unauthenticated && error.code;
  } finally {
    await client.close();
  }
}"""
_BLOCKED = """async ({ sdk, options, queue }) => {
  const { Client } = await import(sdk);
  const closed = class extends EventTarget {
    constructor() { super(); setTimeout(() => this.dispatchEvent(new CloseEvent("close", { code: 1006 }))); }
    close() {}
  };
  const client = new Client(undefined, { ...options, WebSocket: closed });
  await client.publish(queue, "by poll");
  const consumer = client.consume(queue);
  const { value } = await consumer.next();
  await value.ack();
  await consumer.return();
  await client.close();
  return [value.content, consumer.transport];
}"""


class _OtherSite(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>another site</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def other_site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OtherSite) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def allowing(other_site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker that lets the other site in, and keeps its port over restarts."""
    env = {**NO_LIMITS, "STREAMBROKER_ALLOWED_ORIGINS": other_site}
    with BrokerProcess(tmp_path_factory.mktemp("js") / "data", env=env) as running:
        running.port = urlsplit(running.url).port or 0
        yield running


@pytest.fixture
def page(browser: Browser, allowing: BrokerProcess) -> Iterator[Page]:
    """A page of the broker's own: with its Content Security Policy, and nobody logged in."""
    context = browser.new_context()
    guard = Guard(urlsplit(allowing.url).netloc)
    guard.watch(context)
    opened = context.new_page()
    opened.goto(f"{allowing.url}/dashboard")
    yield opened
    assert guard.complaints == []
    context.close()


def test_a_page_of_the_broker_publishes_and_consumes_by_websocket(page: Page, allowing: BrokerProcess) -> None:
    given = {"sdk": "/sdk/streambroker.js", "options": {"token": allowing.token()}, "queue": fresh_name("js")}
    done = page.evaluate(_ROUND, given)
    assert done == {"seen": [[n, f'{{"n":{n}}}'] for n in (1, 2, 3)], "transport": "websocket", "processed": 3}


def test_a_page_of_another_site_does_so_where_the_broker_allows_it(
    browser: Browser, other_site: str, allowing: BrokerProcess
) -> None:
    page = browser.new_page()
    page.goto(other_site)
    login = {"username": "admin", "password": PASSWORD}
    given = {"sdk": f"{allowing.url}/sdk/streambroker.js", "url": allowing.url, "options": login}
    done = page.evaluate(_ROUND, {**given, "queue": fresh_name("js")})
    assert (done["processed"], done["transport"]) == (3, "websocket")
    assert page.evaluate(_EVENTS, {**given, "queue": fresh_name("js")}) == "new_message"
    page.close()


def test_a_page_hears_what_is_wrong_with_its_token(browser: Browser, other_site: str, allowing: BrokerProcess) -> None:
    page = browser.new_page()
    page.goto(other_site)
    given = {"sdk": f"{allowing.url}/sdk/streambroker.js", "url": allowing.url, "queue": fresh_name("js")}
    assert page.evaluate(_REFUSED, given) == "unauthenticated"
    page.close()


def test_a_page_goes_on_after_the_broker_was_killed_and_started(page: Page, allowing: BrokerProcess) -> None:
    with allowing.client() as client:
        key = client.post("/api-keys", json={"name": "page"}).json()["key"]
    queue = fresh_name("js")
    page.evaluate(_RESTARTED, {"sdk": "/sdk/streambroker.js", "options": {"token": key}, "queue": queue})
    page.evaluate("publish('before')")
    page.wait_for_function("seen.includes('before')")
    allowing.kill()
    allowing.start()
    page.evaluate("publish('last')")
    assert page.evaluate("done") == ["before", "last"]


def test_a_page_that_gets_no_websocket_through_polls(page: Page, allowing: BrokerProcess) -> None:
    given = {"sdk": "/sdk/streambroker.js", "options": {"token": allowing.token()}, "queue": fresh_name("js")}
    assert page.evaluate(_BLOCKED, given) == ["by poll", "long-poll"]


def test_the_wheel_carries_the_sdk() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"web/sdk" = "streambroker/web/sdk"' in pyproject
