"""Whose requests count together where nobody is logged in (D23)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambroker.transport.limiting import network


@pytest.mark.parametrize(
    ("address", "counts_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
    ],
)
def test_an_address_counts_for_its_network(address: str, counts_for: str) -> None:
    assert network(address) == counts_for


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_lower_half_of_an_ipv6_address_changes_nothing(one: int, other: int) -> None:
    upper = 0x2001_0DB8_0000_0001 << 64
    assert network(str(ipaddress.IPv6Address(upper | one))) == network(str(ipaddress.IPv6Address(upper | other)))


@pytest.mark.parametrize("garbage", ["", "testclient", "1.2.3", "1.2.3.4.5", "::1/64", "a b", "\0", "1.2.3.4, 5.6.7.8"])
def test_what_is_no_address_counts_together(garbage: str) -> None:
    assert network(garbage) == "unknown"
