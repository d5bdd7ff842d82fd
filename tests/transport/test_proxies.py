"""Whose request it is: only proxies that are trusted are believed, and only about whom they were called by."""

from __future__ import annotations

import pytest

from streambroker.transport.proxies import TrustedProxies

PROXY, OTHER_PROXY, CLIENT, LIE = "10.0.0.1", "10.0.0.2", "203.0.113.7", "6.6.6.6"
TRUSTED = TrustedProxies(["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.1"])


def client(forwarded: str | None, peer: str = PROXY) -> str:
    headers = {} if forwarded is None else {b"x-forwarded-for": forwarded.encode("latin-1")}
    return TRUSTED.client_address(headers, peer)


@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.1", "::1", "2001:db8:2::1", "192.0.2.2", "", "not an address"])
def test_nobody_else_is_believed(peer: str) -> None:
    assert client(LIE, peer) == peer


@pytest.mark.parametrize("peer", [PROXY, "127.0.0.1", "::1"])
def test_where_no_proxy_is_trusted_nobody_is_believed(peer: str) -> None:
    assert TrustedProxies([]).client_address({b"x-forwarded-for": LIE.encode()}, peer) == peer


def test_a_trusted_proxy_tells_who_called_it() -> None:
    assert client(CLIENT) == CLIENT
    assert client(CLIENT, "192.0.2.1") == CLIENT
    assert client(CLIENT, "2001:db8:1::7") == CLIENT
    assert client(CLIENT, "::ffff:10.0.0.1") == CLIENT


def test_what_the_client_itself_wrote_is_not_believed() -> None:
    assert client(f"{LIE}, {CLIENT}") == CLIENT
    assert client(f"{LIE}, {PROXY}, {CLIENT}") == CLIENT
    assert client(f"{PROXY},{LIE},{CLIENT},{OTHER_PROXY}") == CLIENT


def test_proxies_behind_each_other_are_passed_over() -> None:
    assert client(f"{CLIENT}, {OTHER_PROXY}, {PROXY}") == CLIENT


def test_a_proxy_that_calls_for_itself_is_the_client() -> None:
    assert client(None) == PROXY
    assert client("") == PROXY
    assert client(OTHER_PROXY) == OTHER_PROXY
    assert client(f"{OTHER_PROXY}, {PROXY}") == OTHER_PROXY


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8:2::1]", "2001:db8:2::1"),
        ("[2001:db8:2::1]:443", "2001:db8:2::1"),
        ('"[2001:db8:2::1]:443"', "2001:db8:2::1"),
        ("2001:DB8:2:0:0:0:0:1", "2001:db8:2::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("\t203.0.113.7 ", "203.0.113.7"),
    ],
)
def test_an_address_is_found_in_each_form_that_proxies_write(entry: str, address: str) -> None:
    assert client(entry) == address
    assert client(f"{LIE}, {entry}") == address


@pytest.mark.parametrize(
    "garbage",
    [
        "unknown",
        "_hidden",
        "-",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4:x",
        "[::1",
        "[::1]x",
        "[::1]:",
        "999.1.1.1",
        "\xff",
        "a:b:c",
        ",",
    ],
)
def test_garbage_names_nobody_and_hides_what_stands_left_of_it(garbage: str) -> None:
    assert client(garbage) == PROXY
    assert client(f"{LIE}, {garbage}") == PROXY
    assert client(f"{LIE}, {garbage}, {OTHER_PROXY}") == OTHER_PROXY


def test_a_client_cannot_fill_the_memory_with_its_addresses() -> None:
    trusted = TrustedProxies(["10.0.0.0/8"])
    for number in range(3_000):
        peer = f"2001:db8::{number:x}"
        assert trusted.client_address({}, peer) == peer
    assert len(trusted._peers) <= 1_000
    assert trusted.client_address({b"x-forwarded-for": CLIENT.encode()}, PROXY) == CLIENT


@pytest.mark.parametrize(
    ("told", "peer", "scheme"),
    [
        ("https", PROXY, "https"),
        ("HTTPS", PROXY, "https"),
        ("https, http", PROXY, "http"),
        ("gopher", PROXY, "http"),
        ("", PROXY, "http"),
        ("https", CLIENT, "http"),
    ],
)
def test_the_nearest_trusted_proxy_tells_the_scheme(told: str, peer: str, scheme: str) -> None:
    assert TRUSTED.scheme({b"x-forwarded-proto": told.encode()}, peer, "http") == scheme


def test_a_server_can_ask_who_is_a_proxy() -> None:
    assert TRUSTED.trusts(PROXY) and TRUSTED.trusts("192.0.2.1")
    assert not any(TRUSTED.trusts(peer) for peer in (CLIENT, "127.0.0.1", ""))
    assert not TrustedProxies([]).trusts(PROXY)


@pytest.mark.parametrize("network", ["*", "proxy.example.com", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies([network])
