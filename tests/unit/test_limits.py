"""Rates while each process counts for itself, and whose address counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItem, parse_many

from config import Settings
from scoreboard.web.door.client_info import address_of
from scoreboard.web.door.rate_limits import divided

UNITS = ["second", "minute", "hour", "day", "month", "year"]


@pytest.mark.parametrize(
    ("rate", "processes", "expected"),
    [
        ("60/minute", 1, ["60 per 1 minute"]),
        ("60/minute", 4, ["15 per 1 minute"]),
        ("5/15 minutes", 2, ["2 per 15 minute"]),
        (
            "1/second;10/minute;100/hour;500/day",
            4,
            ["1 per 1 second", "2 per 1 minute", "25 per 1 hour", "125 per 1 day"],
        ),
        ("1/minute", 64, ["1 per 1 minute"]),
        ("3 per 2 hours", 2, ["1 per 2 hour"]),
    ],
)
def test_a_rate_is_divided_by_the_processes(rate: str, processes: int, expected: list[str]) -> None:
    assert [str(item) for item in parse_many(divided(rate, processes))] == expected


def shape(item: RateLimitItem) -> tuple[int, str]:
    return item.multiples, item.GRANULARITY.name


rates = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(1, 60), st.sampled_from(UNITS)), min_size=1, max_size=4
).map(lambda items: ";".join(f"{amount}/{multiple} {unit}" for amount, multiple, unit in items))


@given(rates, st.integers(1, 64))
def test_no_rate_becomes_unlimited_or_more(rate: str, processes: int) -> None:
    whole, parts = parse_many(rate), parse_many(divided(rate, processes))
    assert [shape(item) for item in parts] == [shape(item) for item in whole]
    for item, part in zip(whole, parts, strict=True):
        assert 1 <= part.amount <= item.amount
        assert part.amount == 1 or part.amount * processes <= item.amount


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.startswith("rate_limit_")])
def test_every_default_rate_can_be_divided(name: str) -> None:
    rate = Settings.model_fields[name].default
    assert parse_many(divided(rate, 1)) == parse_many(rate)


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_an_address_stands_for_whoever_shares_it(remote: str | None, expected: str) -> None:
    assert address_of({"REMOTE_ADDR": remote}) == expected
    assert address_of({"REMOTE_ADDR": remote}) == expected, "also when it is known already"
