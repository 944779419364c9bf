"""What a batch of standings means to those who watch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.live.standings import Applied, Move
from scoreboard.live.stream.events import BOARD_CHANGED, BOARD_TARGET, StreamEntry
from scoreboard.services.boards.publish import entries_after

PLAYERS = [UUID(int=number) for number in range(1, 41)]
A, B, C = PLAYERS[:3]
NEWCOMER = UUID(int=99)
WATCHED = 20


def moved(before: list[UUID], after: list[UUID], *users: UUID, is_whole: bool = True, is_news: bool = True) -> Applied:
    """What Redis answers when these users moved between two states of the whole board."""

    def rank(board: list[UUID], user: UUID) -> int | None:
        return board.index(user) + 1 if user in board else None

    moves = tuple(Move(user, rank(before, user) if is_news else None, rank(after, user), is_news) for user in users)
    return Applied(is_whole, 1, tuple(before[:WATCHED]), tuple(after[:WATCHED]), moves)


class Told:
    """Entries taken apart: rank changes by user, and the board's markers."""

    def __init__(self, entries: list[StreamEntry]) -> None:
        self.boards: list[Any] = []
        self.ranks: dict[UUID, tuple[Any, ...]] = {}
        for entry in entries:
            ((kind, data),) = orjson.loads(entry.payload)
            if entry.target == BOARD_TARGET:
                assert kind == BOARD_CHANGED
                self.boards.append(data)
            else:
                user_id = UUID(entry.target.removeprefix("user:"))
                assert (kind, data["userId"]) == ("rank:change", str(user_id))
                assert user_id not in self.ranks, "told twice"
                self.ranks[user_id] = (data["oldRank"], data["newRank"], data["enteredTop10"], data["leftTop10"])
        assert len(self.boards) <= 1


def told(applied: Applied, increments: Mapping[UUID, int] | None = None, told_before: Collection[UUID] = ()) -> Told:
    return Told(entries_after(applied, increments or {}, told=told_before))


def test_the_mover_and_those_pushed_aside_hear_of_their_ranks() -> None:
    heard = told(moved([A, B, C], [C, A, B], C), {C: 30})
    assert heard.ranks == {C: (3, 1, False, False), A: (1, 2, False, False), B: (2, 3, False, False)}
    assert heard.boards == [{"userId": str(C), "oldRank": 3, "newRank": 1, "scoreChange": 30}]


def test_who_has_heard_is_not_told_again() -> None:
    heard = told(moved([A, B, C], [C, A, B], C), {C: 30}, [C])
    assert set(heard.ranks) == {A, B}


def test_entering_the_top_pushes_another_out_of_it() -> None:
    before = PLAYERS[:12]
    mover, pushed = before[11], before[9]
    heard = told(moved(before, [mover, *before[:11]], mover), {mover: 5})
    assert heard.ranks[mover] == (12, 1, True, False)
    assert heard.ranks[pushed] == (10, 11, False, True)
    # Who stood eleventh and stands twelfth now was never in the visible top.
    assert before[10] not in heard.ranks


def test_leaving_the_board_lets_another_in() -> None:
    before = PLAYERS[:12]
    gone = before[0]
    heard = told(moved(before, before[1:], gone), {})
    assert heard.ranks[gone] == (1, None, False, True)
    assert heard.ranks[before[10]] == (11, 10, True, False)
    assert before[11] not in heard.ranks
    assert heard.boards == [{"userId": str(gone), "oldRank": 1, "newRank": None, "scoreChange": 0}]


def test_a_newcomer_comes_from_nowhere() -> None:
    heard = told(moved([A, B], [A, B, NEWCOMER], NEWCOMER))
    assert heard.ranks == {NEWCOMER: (None, 3, True, False)}
    assert heard.boards == [{"userId": str(NEWCOMER), "oldRank": None, "newRank": 3, "scoreChange": 0}]


def test_a_change_below_the_visible_top_is_no_news_for_the_board() -> None:
    before = PLAYERS[:15]
    after = [*before[:11], before[13], *before[11:13], before[14]]
    heard = told(moved(before, after, before[13]), {before[13]: 5})
    assert heard.ranks == {before[13]: (14, 12, False, False)}
    assert heard.boards == []


def test_a_score_that_changes_within_the_top_is_news_without_a_new_rank() -> None:
    heard = told(moved([A, B], [A, B], A), {A: 10})
    assert heard.ranks == {}
    assert heard.boards == [{"userId": str(A), "oldRank": 1, "newRank": 1, "scoreChange": 10}]


def test_a_score_that_changes_below_the_top_without_a_new_rank_is_no_news() -> None:
    before = PLAYERS[:12]
    heard = told(moved(before, before, before[11]), {before[11]: 1})
    assert (heard.ranks, heard.boards) == ({}, [])


def test_the_last_mover_in_the_top_is_named() -> None:
    before = PLAYERS[:12]
    after = [before[1], before[0], *before[2:]]
    heard = told(moved(before, after, before[1], before[0], before[11]), {before[0]: 7})
    assert heard.boards == [{"userId": str(before[0]), "oldRank": 1, "newRank": 2, "scoreChange": 7}]


def test_standings_that_are_old_news_tell_nothing() -> None:
    heard = told(moved([A, B, C], [A, B, C], A, B, is_news=False), {A: 5})
    assert (heard.ranks, heard.boards) == ({}, [])


def test_a_top_that_others_changed_is_news_of_nobody() -> None:
    assert told(moved([A, B], [B, A])).boards == [None]


def test_no_change_tells_nothing() -> None:
    assert entries_after(Applied(True, 1, (A, B), (A, B), ()), {}) == []


def test_while_the_board_is_not_whole_nobody_is_told_a_rank() -> None:
    assert told(moved([A], [C, A], C, is_whole=False), {C: 5}).ranks == {}


def test_while_the_board_is_not_whole_the_marker_has_no_ranks() -> None:
    """The hubs hear that something changed and read Postgres; ranks in a half-filled board mean nothing."""
    (marker,) = told(moved([A], [C, A], C, is_whole=False), {C: 5}).boards
    assert marker is None or (marker["oldRank"], marker["newRank"]) == (None, None)


def test_while_the_board_is_not_whole_any_change_may_show() -> None:
    assert told(Applied(False, 1, (), (), (Move(A, None, None, True),))).boards == [None]


boards = st.permutations(PLAYERS[:25])


@given(boards, boards, st.integers(0, 6), st.data())
def test_everybody_whose_place_in_the_top_changed_hears_of_it_once(
    before: list[UUID], players: list[UUID], count: int, data: st.DataObject
) -> None:
    movers = players[:count]
    after = [user for user in before if user not in movers]
    for user in movers:
        after.insert(data.draw(st.integers(0, len(after))), user)
    heard = told(moved(before, after, *movers), dict.fromkeys(movers, 1))
    for user in before:
        old, new = before.index(user) + 1, after.index(user) + 1
        is_seen = user in movers or min(old, new) <= 10
        if old != new and is_seen:
            # Ranks below the watched part are unknown to those who didn't move themselves.
            known = (old, new) if user in movers else tuple(rank if rank <= WATCHED else None for rank in (old, new))
            assert heard.ranks[user] == (*known, new <= 10 < old, old <= 10 < new)
        else:
            assert user not in heard.ranks
    if before[:10] != after[:10]:
        assert heard.boards
