"""The batch benchmark, on a small scale: all that it sends is applied, and the books are right."""

from __future__ import annotations

import pytest

from benchmarks.batch import run, table


@pytest.mark.timeout(300)
def test_all_that_is_sent_is_applied_and_costs_are_told() -> None:
    # So many that none is held for a burst.
    found = run(seconds=1, players=5_000)
    assert found.is_whole, found
    assert found.actions >= 200
    assert all(found.cpu_us[kind] > 0 for kind in ("web", "worker", "postgres", "valkey"))
    assert f"{found.settled_per_s:,} settled actions a second" in table(found)
