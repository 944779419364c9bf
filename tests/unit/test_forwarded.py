"""What proxies write, read from the right: every form of an address, and nothing that a client invented."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.web.door.forwarded import Forwarded, client_of, read_address, scheme_of

REAL = ip_address("198.51.100.1")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("198.51.100.1:4111", "198.51.100.1"),
        ("198.51.100.1:", "198.51.100.1"),
        ("198.51.100.1:_port", "198.51.100.1"),
        (' "198.51.100.1:4111" ', "198.51.100.1"),
        ('"198.51.\\100.1"', "198.51.100.1"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4111", "2001:db8::7"),
        ("2001:db8:1:2:3:4:5:6:4111", "2001:db8:1:2:3:4:5:6"),
        ("fe80::7%eth0", "fe80::7"),
        ("[fe80::7%25eth0]:80", "fe80::7"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("[::ffff:c633:6401]:80", "198.51.100.1"),
        ("64:ff9b::198.51.100.1", "198.51.100.1"),
        ("", None),
        (" ", None),
        ('"', None),
        ('""', None),
        ("unknown", None),
        ("_hidden", None),
        ("unix:", None),
        ("198.51.100.1:port", None),
        ("198.51.100.1:123456", None),
        ("198.51.100.1%eth0", None),
        ("198.51.100.256", None),
        ("198.51.100.001", None),
        ("[198.51.100.1]", None),
        ("[2001:db8::7", None),
        ("2001:db8::7]", None),
        ("[2001:db8::7]4111", None),
        ("١٩٨.51.100.1", None),
        ("198.51.100.1 198.51.100.2", None),
        ("1" * 5_000, None),
    ],
)
def test_an_address_is_read_in_every_form(node: str, expected: str | None) -> None:
    assert read_address(node) == (expected and ip_address(expected))


@given(st.text(st.characters(codec="latin-1"), max_size=60), st.integers(1, 4))
def test_nothing_that_stands_before_the_trusted_entries_matters(invented: str, hops: int) -> None:
    trusted = ", ".join(["198.51.100.1", *["10.0.0.1"] * (hops - 1)])
    assert client_of(f"{invented},{trusted}", hops, "x-forwarded-for") == Forwarded(REAL, None)
    forwarded = ", ".join(f"for={entry}" for entry in trusted.split(", "))
    assert client_of(f"{invented},{forwarded}", hops, "forwarded") == Forwarded(REAL, None)
    assert scheme_of(f"{invented},https{',http' * (hops - 1)}", hops, "x-forwarded-for") == "https"


@given(st.text(st.characters(codec="latin-1"), max_size=200), st.integers(1, 4))
def test_whatever_comes_is_an_address_or_a_problem(value: str, hops: int) -> None:
    for header in ("x-forwarded-for", "forwarded"):
        address, problem = client_of(value, hops, header)
        assert address is not None or problem is not None
        assert scheme_of(value, hops, header) in (None, "http", "https")


@pytest.mark.parametrize(
    ("value", "hops", "expected"),
    [
        (None, 1, None),
        ("", 1, None),
        ("https", 1, "https"),
        ("HTTPS ", 1, "https"),
        ("javascript", 1, None),
        ("http,https", 1, "https"),
        ("https,http", 2, "https"),
        # One that each proxy replaces.
        ("https", 2, "https"),
    ],
)
def test_the_scheme_is_that_of_the_same_hop(value: str | None, hops: int, expected: str | None) -> None:
    assert scheme_of(value, hops, "x-forwarded-for") == expected


def test_the_scheme_of_forwarded_is_its_own() -> None:
    assert scheme_of("for=8.8.8.8;proto=http, for=198.51.100.1;Proto=HTTPS", 1, "forwarded") == "https"
    assert scheme_of("for=8.8.8.8;proto=https, for=198.51.100.1", 1, "forwarded") is None
