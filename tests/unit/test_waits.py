"""Waits for a connection's next request: one timer ends those that last too long, and no others."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event

from scoreboard.web.server.waits import Waits


def _waiter(waits: Waits, seconds: float, event: Event, went_on: list[str]) -> None:
    with waits.at_most(seconds):
        event.wait()
        went_on.append("inside")
    went_on.append("behind")


def test_only_a_late_wait_ends() -> None:
    waits, event = Waits(), Event()
    late: list[str] = []
    early: list[str] = []
    with gevent.Timeout(20):
        patient = gevent.spawn(_waiter, waits, 60, event, early)
        gevent.spawn(_waiter, waits, 0.01, event, late).get()
        assert late == ["behind"]
        assert not early
        event.set()
        patient.get()
    assert early == ["inside", "behind"]


def test_all_waits_end_at_once_when_told_and_later_ones_go_on() -> None:
    waits, event = Waits(), Event()
    ended: list[str] = []
    with gevent.Timeout(20):
        waiting = [gevent.spawn(_waiter, waits, 60, event, ended) for _ in range(3)]
        gevent.sleep(0)
        waits.end_all()
        gevent.joinall(waiting, raise_error=True)
        assert ended == ["behind"] * 3
        later = gevent.spawn(_waiter, waits, 60, event, ended)
        gevent.sleep(0)
        event.set()
        later.get()
    assert ended[3:] == ["inside", "behind"]


def test_an_error_inside_goes_its_way_and_a_wait_that_is_over_is_not_ended() -> None:
    waits = Waits()
    with pytest.raises(ValueError, match="mine"), waits.at_most(60):
        raise ValueError("mine")
    with gevent.Timeout(20):
        with waits.at_most(0.01):
            pass
        # Past the next look.
        gevent.sleep(0.7)
