"""The private events that a web process keeps for returning browsers: without gaps, and bounded."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scoreboard.live.stream.events import BOARD_TARGET, CONTROL_TARGET, STREAM_MAX_ENTRIES, Position, Received, for_user
from scoreboard.live.stream.history import EventHistory
from scoreboard.wire.events import Event

ALICE, BOB = "user:alice", "user:bob"


def received(offset: int, target: str = ALICE, *, count: int = 1, epoch: int = 1) -> Received:
    return Received(Position(epoch, offset), target, count, None, b"[]", b"")


def offsets(entries: list[Received]) -> list[int]:
    return [entry.position.offset for entry in entries]


def test_a_player_gets_what_was_missed_in_order_and_nothing_of_others() -> None:
    history = EventHistory(Position(1, 0))
    for offset, target in enumerate([ALICE, BOB, BOARD_TARGET, ALICE, CONTROL_TARGET, ALICE], start=1):
        history.append(received(offset, target))
    assert offsets(history.missed(ALICE, Position(1, 0))) == [1, 4, 6]
    assert offsets(history.missed(ALICE, Position(1, 1))) == [4, 6]
    assert offsets(history.missed(ALICE, Position(1, 5))) == [6]
    assert offsets(history.missed(ALICE, Position(1, 6))) == []
    assert offsets(history.missed(BOB, Position(1, 0))) == [2]
    assert history.missed("user:stranger", Position(1, 0)) == []
    assert history.position == Position(1, 6)


def test_what_is_for_everybody_is_not_kept() -> None:
    history = EventHistory(Position(1, 0))
    for offset, target in enumerate([BOARD_TARGET, CONTROL_TARGET], start=1):
        history.append(received(offset, target))
        assert history.missed(target, Position(1, 0)) == []


def test_an_entry_is_missed_when_only_a_part_of_it_came() -> None:
    history = EventHistory(Position(1, 0))
    history.append(received(3, count=3))
    assert offsets(history.missed(ALICE, Position(1, 1))) == [3]
    assert history.missed(ALICE, Position(1, 3)) == []


def test_everything_after_the_beginning_is_held() -> None:
    history = EventHistory(Position(1, 10))
    assert not history.holds(Position(1, 9))
    assert history.holds(Position(1, 10))
    history.append(received(11))
    assert history.holds(Position(1, 10))
    assert history.holds(Position(1, 11))


def test_a_position_of_another_epoch_is_not_held() -> None:
    history = EventHistory(Position(2, 10))
    for position in (Position(1, 10), Position(1, 99), Position(3, 0), Position(3, 10), Position(0, 0)):
        assert not history.holds(position)


def test_a_new_epoch_leaves_the_old_positions_behind() -> None:
    history = EventHistory(Position(1, 5))
    history.append(received(6))
    history.append(received(1, epoch=2))
    assert not history.holds(Position(1, 6))
    assert history.holds(Position(2, 0))
    assert offsets(history.missed(ALICE, Position(2, 0))) == [1]


def test_the_oldest_are_forgotten_past_the_bound() -> None:
    history = EventHistory(Position(1, 0))
    for offset in range(1, STREAM_MAX_ENTRIES + 3):
        history.append(received(offset, ALICE if offset <= 2 else BOB))
    assert not history.holds(Position(1, 0))
    assert not history.holds(Position(1, 1))
    assert history.holds(Position(1, 2))
    assert history.missed(ALICE, Position(1, 0)) == []
    assert len(history.missed(BOB, Position(1, 0))) == STREAM_MAX_ENTRIES


def test_a_history_is_filled_with_what_the_stream_still_holds() -> None:
    entries = [received(9, count=3), received(10, BOB), received(11, BOARD_TARGET)]
    history = EventHistory.since(entries, Position(1, 11))
    assert history.position == Position(1, 11)
    # The first entry holds the events 7, 8 and 9.
    assert not history.holds(Position(1, 5))
    assert history.holds(Position(1, 6))
    assert offsets(history.missed(ALICE, Position(1, 6))) == [9]


def test_entries_of_an_older_epoch_are_left_out() -> None:
    history = EventHistory.since([received(900, epoch=1), received(4, epoch=2)], Position(2, 4))
    assert history.holds(Position(2, 3))
    assert not history.holds(Position(1, 900))
    assert offsets(history.missed(ALICE, Position(2, 0))) == [4]


def test_an_empty_stream_makes_an_empty_history() -> None:
    history = EventHistory.since([received(900, epoch=1)], Position(2, 7))
    assert history.position == history.complete_after == Position(2, 7)
    assert history.missed(ALICE, Position(0, 0)) == []


def test_an_entry_that_came_while_filling_moves_the_position_on() -> None:
    assert EventHistory.since([received(5), received(6)], Position(1, 5)).position == Position(1, 6)


batches = st.lists(st.tuples(st.sampled_from([ALICE, BOB, BOARD_TARGET]), st.integers(1, 4)), max_size=30)


@given(batches, st.integers(0, 120))
def test_nothing_is_missed_twice_or_not_at_all(batch: list[tuple[str, int]], after: int) -> None:
    history, entries, offset = EventHistory(Position(1, 0)), [], 0
    for target, count in batch:
        offset += count
        entries.append(received(offset, target, count=count))
        history.append(entries[-1])
    expected = [entry for entry in entries if entry.target == ALICE and entry.position.offset > after]
    missed = history.missed(ALICE, Position(1, after))
    assert missed == expected
    assert all(one.position < other.position for one, other in pairwise(missed))


def test_the_events_of_an_entry_have_a_place_each() -> None:
    user_id = UUID(int=1)
    data: list[dict[str, Any]] = [{"a": 1}, {"name": "Zoë\u2028"}]
    entry = for_user(user_id, [Event("one", data[0]), Event("two", data[1])])
    assert (entry.target, entry.count) == (f"user:{user_id}", 2)
    read = Received(Position(4, 12), entry.target, entry.count, None, entry.payload, entry.outcome)
    assert [(str(position), kind) for position, kind, _ in read.events()] == [("4:11", "one"), ("4:12", "two")]
    assert read.events()[1][2].decode() == '{"name":"Zoë\u2028"}'
