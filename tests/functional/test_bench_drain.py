"""The drain benchmark, on a small scale: it settles everything and says what that took."""

from __future__ import annotations

from benchmarks.drain import run, table
from scoreboard.local import LocalServers
from tests.service import open_folder


def test_it_settles_all_and_says_what_an_action_costs() -> None:
    with open_folder() as folder, LocalServers(folder) as local:
        found = run(local, folder, actions=300, players=500, rate=100, flow_s=1)
    assert [each.actions for each in found] == [300, 300, 100]
    assert all(each.cpu_us[kind] > 0 for each in found for kind in ("worker", "postgres"))
    assert [each.settled_ms is not None for each in found] == [False, False, True]
    assert len(table(found).splitlines()) == 4
