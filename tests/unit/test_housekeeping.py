"""The months whose partitions must be there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.services.upkeep.housekeeping import months_from


def months(now: datetime, ahead: int) -> list[str]:
    return [month.strftime("%Y-%m") for month in months_from(now, ahead)]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 6, 15, tzinfo=UTC), ["2026-05", "2026-06", "2026-07", "2026-08"]),
        (datetime(2026, 1, 1, tzinfo=UTC), ["2025-12", "2026-01", "2026-02", "2026-03"]),
        (datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), ["2025-11", "2025-12", "2026-01", "2026-02"]),
        (datetime(2025, 11, 30, tzinfo=UTC), ["2025-10", "2025-11", "2025-12", "2026-01"]),
        (datetime(2024, 2, 29, tzinfo=UTC), ["2024-01", "2024-02", "2024-03", "2024-04"]),
    ],
)
def test_last_month_this_one_and_the_next_ones(now: datetime, expected: list[str]) -> None:
    assert months(now, 2) == expected


def test_months_are_those_of_utc() -> None:
    late_in_new_york = datetime(2025, 12, 31, 20, tzinfo=timezone(timedelta(hours=-5)))
    assert months(late_in_new_york, 0) == ["2025-12", "2026-01"]
    early_in_tokyo = datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=9)))
    assert months(early_in_tokyo, 0) == ["2025-11", "2025-12"]


moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone apart


@given(moments, st.integers(0, 30))
def test_months_follow_each_other_without_a_gap(now: datetime, ahead: int) -> None:
    found = months_from(now, ahead)
    assert len(found) == ahead + 2
    for month in found:
        assert month == datetime(month.year, month.month, 1, tzinfo=UTC)
    for month, following in pairwise(found):
        # 31 days after the first of a month it is the next month, whichever month it was.
        assert (month + timedelta(days=31)).replace(day=1) == following
    assert found[1] <= now
    assert now < found[2] if ahead else now < found[1] + timedelta(days=31)
