"""Which URLs are taken, and which addresses are connected to (D29)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence

import pytest

from streambroker.core.errors import Invalid
from streambroker.transport.webhooks.addresses import Blocked, Vetting, target
from streambroker.transport.webhooks.resolving import MAX_LOOKUPS, Resolver


async def nobody(host: str, port: int) -> Sequence[str]:
    raise AssertionError("a literal address needs no name server")


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "path", "authority"),
    [
        ("https://Hooks.Example.com", True, "hooks.example.com", 443, "/", "hooks.example.com"),
        ("http://hooks.example.com:80/a/b?c=d", False, "hooks.example.com", 80, "/a/b?c=d", "hooks.example.com"),
        ("https://hooks.example.com.:8443/", True, "hooks.example.com", 8443, "/", "hooks.example.com:8443"),
        ("https://192.0.2.7/x", True, "192.0.2.7", 443, "/x", "192.0.2.7"),
        ("http://[2001:DB8::1]:99/", False, "2001:db8::1", 99, "/", "[2001:db8::1]:99"),
        ("https://xn--bcher-kva.example/", True, "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://a_b.svc.local:1", True, "a_b.svc.local", 1, "/", "a_b.svc.local:1"),
    ],
)
def test_a_url_is_taken_apart(url: str, secure: bool, host: str, port: int, path: str, authority: str) -> None:
    found = target(url)
    assert (found.secure, found.host, found.port, found.path, found.authority) == (secure, host, port, path, authority)


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "javascript:alert(1)", "//example.com/"),
        *("https://", "https:///path", "example.com", "", "https://user@example.com/", "https://u:p@example.com/"),
        *("https://@example.com/", "https://example.com#x", "https://example.com:0/", "https://example.com:65536/"),
        *(
            "https://example.com:x/",
            "https://exa mple.com/",
            "https://example.com\\@10.0.0.1/",
            "https://bücher.example/",
        ),
        *("https://example.com/\r\nX: 1", "https://example.com/\x00", "https://-a.example/", "https://a..example/"),
        *("https://[::1", "https://[1.2.3.4]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[]/"),
        # The forms of an IPv4 address that inet_aton takes, and that mean 127.0.0.1 or 169.254.169.254.
        *("http://2130706433/", "http://0177.0.0.1/", "http://0x7f.0.0.1/", "http://0x7f000001/", "http://127.1/"),
        *("http://127.0.0.1.5/", "http://017700000001/", "http://0/", "http://2852039166/", "http://127.0.0.01/"),
        *("http://1.2.3.0x7f/", "http://256.1.1.1/", "http://a.0x7f/", "http://0x/", "http://127.0.0.1.." + "/"),
        "https://" + "a" * 64 + ".example/",
        "https://" + ".".join(["a" * 60] * 5) + "/",
        "https://example.com/" + "a" * 2_048,
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        target(url)
    assert refused.value.errors[0].pointer == "/url"


NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1"),
    *("192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "::a9fe:a9fe"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "fc00::1", "fd12::1", "fe80::1"),
    *("fec0::1", "ff02::1", "2001::1", "2001:0:7f00:1::", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
    *("100::1", "5f00::1", "4000::1", "fe80::1%1", "::ffff:0:127.0.0.1"),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111"]


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_what_is_not_public_is_refused_literally_and_behind_a_name(address: str) -> None:
    async def lead(host: str, port: int) -> Sequence[str]:
        return ["1.1.1.1", address]

    vetting = Vetting((), lead)
    assert vetting.refusal(ipaddress.ip_address(address)) is not None
    with pytest.raises(Blocked):
        await vetting.addresses(target("https://hooks.example/"))
    if "%" not in address:
        with pytest.raises(Blocked):
            await Vetting((), nobody).addresses(target(f"https://{f'[{address}]' if ':' in address else address}/"))


@pytest.mark.parametrize("address", [*PUBLIC, "::ffff:101:101"])
async def test_what_is_public_is_not_refused(address: str) -> None:
    async def lead(host: str, port: int) -> Sequence[str]:
        return [address]

    assert await Vetting((), lead).addresses(target("https://hooks.example/")) == [address]


def test_the_operator_can_open_a_network_and_no_more_than_that() -> None:
    vetting = Vetting(("10.1.0.0/16", "fd00::/8"), nobody)
    refusals = {
        text: vetting.refusal(ipaddress.ip_address(text)) for text in ("10.1.2.3", "10.2.0.1", "fd00::1", "fe80::1")
    }
    assert refusals == {
        "10.1.2.3": None,
        "10.2.0.1": "a private address",
        "fd00::1": None,
        "fe80::1": "a link-local address",
    }
    assert vetting.refusal(ipaddress.ip_address("::ffff:10.1.2.3")) is None
    assert vetting.refusal(ipaddress.ip_address("::ffff:10.2.2.3")) == "a private address"


async def test_a_name_without_an_address_is_an_error_and_few_of_many_are_tried() -> None:
    async def none(host: str, port: int) -> Sequence[str]:
        return []

    async def many(host: str, port: int) -> Sequence[str]:
        return [f"1.1.1.{n}" for n in range(20)]

    with pytest.raises(OSError, match="no address"):
        await Vetting((), none).addresses(target("https://hooks.example/"))
    assert len(await Vetting((), many).addresses(target("https://hooks.example/"))) == 4


async def test_names_that_hang_take_no_places_from_those_that_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host.endswith("hangs.example"):
            answered.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = Resolver()
    await resolver("answers.example", 443)
    hanging = [asyncio.create_task(resolver(f"{n}.hangs.example", 443)) for n in range(2 * MAX_LOOKUPS)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(resolver("answers.example", 443), 30) == ["192.0.2.1"]
        stranger = asyncio.create_task(resolver("new.example", 443))
        await asyncio.wait({stranger}, timeout=0.05)
        assert not stranger.done()  # every place for names that are not known yet is taken
    finally:
        answered.set()
    assert await stranger == ["192.0.2.1"]
    await asyncio.gather(*hanging)


async def test_a_name_that_hangs_keeps_one_thread_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name server is the webhook's owner's; requests to it come as fast as messages do."""
    answered, asked = threading.Event(), list[str]()

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host == "hangs.example":
            answered.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = Resolver()
    waiting = [asyncio.create_task(resolver("hangs.example", 443)) for _ in range(2 * MAX_LOOKUPS)]
    waiting[0].cancel()
    try:
        assert await asyncio.wait_for(resolver("answers.example", 443), 30) == ["192.0.2.1"]
    finally:
        answered.set()
    assert await waiting[1] == ["192.0.2.1"] and await waiting[-1] == ["192.0.2.1"]
    assert sorted(asked) == ["answers.example", "hangs.example"]
    assert await resolver("hangs.example", 443) and asked.count("hangs.example") == 2  # nothing is remembered
