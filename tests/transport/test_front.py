"""What no request gets past: a foreign host name, a page of another site, a token in the URL (D7, D13, D24)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streambroker.transport.front import Front, Hosts
from streambroker.transport.proxies import TrustedProxies

OUR_PAGE = b"https://app.example.com"
OURS = (
    "localhost",
    "localhost:8000",
    "LOCALHOST:1",
    "a.localhost",
    "127.0.0.1:8000",
    "[::1]:8000",
    "[::1]",
    "192.0.2.1",
)
FOREIGN = (
    *("evil", "evil.com:8000", "localhost.evil.com", "evillocalhost", "broker.example.com.evil.com", "", "[::1", "[]"),
    *("x.broker.example.com", "127.0.0.1.evil.com", "localhost:80@evil", "localhost:x", "[::1]x", "::1", "ev\xff"),
)


class Reached(Exception):
    """The request came through to the application behind."""


async def behind(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def nothing() -> Any:
    raise AssertionError("what is asked here has no body")


async def nowhere(event: Any) -> None:
    raise AssertionError("nothing is answered here")


async def ask(
    *headers: tuple[bytes, bytes],
    kind: str = "http",
    method: str = "GET",
    query: bytes = b"",
    hosts: Hosts | None = None,
    version: str = "1.1",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The status, the headers and the body that such a request is answered with."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": kind,
        "method": method,
        "http_version": version,
        "path": "/stats",
        "query_string": query,
        "client": ("192.0.2.7", 1234),
        "headers": [(b"host", b"localhost:8000"), *headers] if not any(n == b"host" for n, _ in headers) else headers,
    }
    await Front(behind, hosts or Hosts(["broker.example.com"]), [OUR_PAGE.decode()])(scope, nothing, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize(
    "host",
    [*OURS, "broker.example.com", "BROKER.example.com:443", "broker.example.com."],
)
async def test_d24_the_broker_answers_to_its_own_names_and_to_addresses(host: str) -> None:
    assert (await ask((b"host", host.encode())))[0] == 200


@pytest.mark.parametrize(
    "host",
    FOREIGN,
)
async def test_d24_a_foreign_host_name_is_refused(host: str) -> None:
    status, _, body = await ask((b"host", host.encode("latin-1")))
    assert (status, msgspec.json.decode(body)["code"]) == (400, "malformed")


async def test_d24_a_name_refused_once_is_refused_again_and_one_allowed_is_again() -> None:
    hosts = Hosts(["*.example.com"])
    for _ in range(2):
        assert hosts.allow(b"a.example.com") and not hosts.allow(b"example.com") and not hosts.allow(b"aexample.com")


async def test_d24_hosts_that_clients_make_up_are_not_remembered_without_end() -> None:
    hosts = Hosts(["*"])
    for number in range(5_000):
        assert hosts.allow(b"%d.example.com" % number)
    assert len(hosts._known) <= 1_000


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.7", "fd00::7"])
async def test_a_proxy_that_nobody_named_is_warned_of_once(peer: str, caplog: pytest.LogCaptureFixture) -> None:
    front = Front(behind, Hosts([]))
    for headers, warnings in (((), 0), (FORWARDED, 1), (FORWARDED, 1)):
        await passed(front, peer, *headers)
        assert len(caplog.records) == warnings
    assert "trusted_proxies" in caplog.text
    assert peer in caplog.text
    assert "6.6.6.6" not in caplog.text


@pytest.mark.parametrize(
    ("peer", "proxies"), [("8.8.8.8", ()), ("", ()), ("a.sock", ()), ("127.0.0.1", ("127.0.0.1",))]
)
async def test_nobody_is_warned_of_strangers_and_of_proxies_that_are_named(
    peer: str, proxies: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    client_address = TrustedProxies(proxies).client_address if proxies else None
    await passed(Front(behind, Hosts([]), client_address=client_address), peer, *FORWARDED)
    assert caplog.records == []


FORWARDED = ((b"x-forwarded-for", b"6.6.6.6"),)


async def passed(front: Front, peer: str, *headers: tuple[bytes, bytes]) -> None:
    async def send(event: Any) -> None:
        pass

    scope = {"type": "http", "method": "GET", "http_version": "1.1", "path": "/", "query_string": b""}
    await front({**scope, "client": (peer, 1), "headers": [(b"host", b"localhost"), *headers]}, nothing, send)


async def test_d24_a_request_without_a_host_is_refused_unless_it_is_http_1_0() -> None:
    async def status(version: str) -> int:
        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        scope = {"type": "http", "http_version": version, "path": "/", "query_string": b"", "headers": []}
        await Front(behind, Hosts([]))({**scope, "method": "GET"}, nothing, send)
        return int(sent[0]["status"])

    assert await status("1.1") == 400
    assert await status("1.0") == 200


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"", b"http://localhost", b"https://localhost:1"])
async def test_d13_a_page_of_another_site_opens_no_websocket(origin: bytes) -> None:
    status, _, body = await ask((b"origin", origin), kind="websocket")
    assert (status, msgspec.json.decode(body)["code"]) == (403, "forbidden")


@pytest.mark.parametrize("origin", [b"http://localhost:8000", b"https://localhost:8000", OUR_PAGE, OUR_PAGE.upper()])
async def test_d13_pages_of_our_own_and_of_allowed_sites_do(origin: bytes) -> None:
    assert (await ask((b"origin", origin), kind="websocket"))[0] == 200


async def test_d13_who_is_no_browser_has_no_origin_and_is_let_in() -> None:
    assert (await ask(kind="websocket"))[0] == 200


async def test_a_page_of_an_allowed_site_may_read_the_answer() -> None:
    status, headers, _ = await ask((b"origin", OUR_PAGE))
    assert status == 200
    assert (headers[b"access-control-allow-origin"], headers[b"vary"]) == (OUR_PAGE, b"origin")
    assert b"retry-after" in headers[b"access-control-expose-headers"]


async def test_a_page_of_another_site_may_not() -> None:
    _, headers, _ = await ask((b"origin", b"https://evil.example"))
    assert not [name for name in headers if name.startswith(b"access-control")]


async def test_a_preflight_of_an_allowed_site_is_answered_without_credentials() -> None:
    asked = ((b"origin", OUR_PAGE), (b"access-control-request-method", b"POST"))
    status, headers, _ = await ask(*asked, method="OPTIONS")
    assert status == 204
    assert b"authorization" in headers[b"access-control-allow-headers"]
    assert b"x-message-priority" in headers[b"access-control-allow-headers"]
    assert b"access-control-allow-credentials" not in headers


@pytest.mark.parametrize("query", [b"token=x", b"a=1&access_token=x", b"api_key=x", b"%74oken=x", b"tok%65n=x&b"])
async def test_d7_a_token_in_the_url_is_refused(query: bytes) -> None:
    for kind in ("http", "websocket"):
        status, _, body = await ask(kind=kind, query=query)
        assert (status, msgspec.json.decode(body)["code"]) == (400, "malformed")
        assert b"=x" not in body


TWO_HOSTS = ((b"host", b"localhost"), (b"host", b"localhost"))


@pytest.mark.parametrize(
    "twice",
    [
        TWO_HOSTS,
        (TWO_HOSTS[0], (b"accept", b"*/*"), (b"host", b"evil.example")),
        ((b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")),
        ((b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_d24_two_lines_of_which_only_one_can_be_meant_are_refused(twice: Any, kind: str) -> None:
    status, headers, body = await ask(*twice, (b"x-request-id", b"mine"), kind=kind)
    assert (status, msgspec.json.decode(body)["code"]) == (400, "malformed")
    assert headers[b"x-request-id"] == b"mine"


async def test_other_fields_may_come_in_several_lines() -> None:
    assert (await ask((b"accept", b"text/plain"), (b"accept", b"*/*"), (b"cookie", b"a"), (b"cookie", b"b")))[0] == 200


@pytest.mark.parametrize(
    "lines",
    [
        (b"6.6.6.6, 203.0.113.7, 10.0.0.2",),
        (b"6.6.6.6", b"203.0.113.7", b"10.0.0.2"),
        (b"6.6.6.6, 203.0.113.7", b"10.0.0.2"),
        (b"6.6.6.6", b"203.0.113.7"),
    ],
)
async def test_d23_the_lines_of_a_forwarded_for_are_one_list_in_their_order(lines: tuple[bytes, ...]) -> None:
    seen: list[str] = []

    async def sees(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["streambroker.address"])

    fields = [(b"host", b"localhost"), *((b"x-forwarded-for", line) for line in lines)]
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "query_string": b""}
    proxies = TrustedProxies(["10.0.0.0/8"])
    front = Front(sees, Hosts(()), (), proxies.client_address)
    await front({**scope, "client": ("10.0.0.1", 1), "headers": fields}, nothing, nowhere)
    assert seen == ["203.0.113.7"]
