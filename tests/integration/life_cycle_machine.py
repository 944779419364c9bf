"""The second half of an action's life as steps beside the model: settled, told, read, and what must be true throughout.

Each step is a use case as a worker, beat or the web calls it, also with Redis away, or with a worker that dies.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from functools import partial
from typing import TypeVar
from uuid import UUID

import orjson
import pytest
from cryptography.fernet import Fernet
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, invariant, multiple, rule
from sqlalchemy.exc import OperationalError

from scoreboard.domain import errors
from scoreboard.domain.standings import percentile
from scoreboard.services.accounts.read_player import read_history, read_score
from scoreboard.services.actions.judge import Settled
from scoreboard.services.actions.read import read_action
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.actions.sweep import sweep
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.services.boards.announce import announce
from scoreboard.services.boards.build import ensure_board, rebuild_board
from scoreboard.services.boards.read import BoardReader
from scoreboard.services.upkeep.housekeeping import keep_house
from scoreboard.services.upkeep.verify import verify
from scoreboard.store.engine import Database
from tests.integration.board_model import Moved, Row, around, rows, rows_of
from tests.integration.life_cycle_model import (
    FORWARD,
    SCORE_MAX,
    Action,
    Player,
    Settlement,
)
from tests.integration.life_cycle_players import SEEN
from tests.integration.life_cycle_steps import IntakeSteps, at_once
from tests.integration.life_cycle_world import (
    DiedError,
    DyingDatabase,
    MuteDatabase,
    Observed,
    World,
    stranger,
)

T = TypeVar("T")
Told = tuple[Settlement, list[Settled]]
# Older than the newest row: a sweep that leaves nothing to the broker.
AT_ONCE_S = -1.0


class LifeCycle(IntakeSteps):
    """Actions are settled, told and read, with all that goes wrong on the way."""

    told: Bundle[Told] = Bundle("told")
    players = IntakeSteps.players
    actions = IntakeSteps.actions

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.reader = BoardReader(self.database, self.standings)
        self.version = 0
        self.states: dict[UUID, str] = {}
        self.is_stream_whole = True

    # -- settling -------------------------------------------------------------------

    @rule(target=told, wanted=st.lists(actions, min_size=1, max_size=12), is_told=st.booleans())
    def settle(self, wanted: list[Action], is_told: bool) -> MultipleResults[Told]:
        """A message of the broker's: some of it twice, some of it settled long ago, in any order."""
        settled = settle_actions(self.database, self.world.catalogue, [each.id for each in wanted])
        settlement = self.life.settle(wanted)
        assert {each.outcome.action_id for each in settled} == ids_of(settlement.actions if settlement else [])
        if settlement is None:
            return multiple()
        if is_told:
            self._announce(settlement, settled)
        return multiple((settlement, settled))

    @rule(target=told, wanted=st.lists(actions, min_size=2, max_size=12), seed=st.integers(0, 2**16))
    def settle_at_once(self, wanted: list[Action], seed: int) -> MultipleResults[Told]:
        """The same actions in several workers' hands."""
        # Which of two comes first decides which of them is over the most that a score can be: not what is asked here.
        wanted = [each for each in wanted if each.player.score < SCORE_MAX - 10_000]
        chance, expected = random.Random(seed), {each for each in wanted if each.state == "accepted"}
        if not expected:
            return multiple()
        batches = [[each.id for each in chance.sample(wanted, len(wanted))] for _ in range(3)]
        results = at_once([partial(settle_actions, self.database, self.world.catalogue, batch) for batch in batches])
        # A row in another's hands is skipped; one more message finds what was left.
        results.append(settle_actions(self.database, self.world.catalogue, batches[0]))
        settled = [each for result in results for each in result]
        assert sorted(each.outcome.action_id for each in settled) == sorted(ids_of(expected))
        by_id = {each.id: each for each in expected}
        SEEN["settled at once"] += 1
        return multiple(*self._settled_together(settled, by_id))

    def _settled_together(self, settled: list[Settled], by_id: dict[UUID, Action]) -> list[Told]:
        # Of one player's the versions tell the order in which they came to be.
        order = sorted(settled, key=lambda each: each.standing.version if each.standing else 0)
        for each in order:
            self.life.settle_one(by_id[each.outcome.action_id])
        parts: dict[UUID, list[Settled]] = {}
        for each in settled:
            parts.setdefault(each.settlement_id, []).append(each)
        found = []
        for settlement_id in self.world.settlement_ids():
            if settlement_id in parts:
                mine = parts[settlement_id]
                found.append((self.life.note_settlement([by_id[each.outcome.action_id] for each in mine]), mine))
        return found

    @rule(wanted=st.lists(actions, min_size=1, max_size=12), is_committed=st.booleans())
    def settle_and_die(self, wanted: list[Action], is_committed: bool) -> None:
        """Killed right before the commit, or right after it: then nobody tells of it but the sweep."""
        primary = self.database.primary
        database: Database = MuteDatabase(primary) if is_committed else DyingDatabase(primary)
        with pytest.raises((DiedError, OperationalError)):
            settle_actions(database, self.world.catalogue, [each.id for each in wanted])
        if is_committed and self.life.settle(wanted):
            SEEN["reply to settle lost"] += 1

    @rule(is_up=st.booleans())
    def sweep(self, is_up: bool) -> None:
        waiting, left_behind = self.life.accepted(), [each for each in self.life.settlements if not each.is_announced]
        live = self.world.live(is_up=is_up)
        swept = sweep(self.database, self.world.catalogue, *live, older_than_s=AT_ONCE_S, work_for_s=60)
        settlement = self.life.settle(waiting)
        assert swept.settled == len(waiting)
        assert swept.announced == (sum(len(each.actions) for each in left_behind) if is_up else 0)
        assert swept.published == (len(self.life.notes) if is_up else 0)
        if is_up:
            if settlement:
                self.life.announce(settlement)
            self.life.announce_left_behind()
            self.life.publish_notes()
        else:
            self._rank_without_redis(settlement)
        SEEN["left behind"] += swept.announced

    def _rank_without_redis(self, settlement: Settlement | None) -> None:
        """What was just settled, and the ten oldest that nobody has told of."""
        if settlement:
            self.life.rank_by_postgres(settlement)
        unannounced = self.world.unannounced_ids()
        for each in [each for each in self.life.settlements if not each.is_announced]:
            if ids_of(each.actions) & unannounced:
                self.life.rank_by_postgres(each, by_sweep=True)

    @rule()
    def keep_house(self) -> None:
        """Tokens expire; and the key is changed, but what was sealed with those before stays good."""
        self.keys.insert(0, Fernet.generate_key().decode())
        self.tokens = TokenBox(self.keys)
        keep_house(self.database)
        for action in self.life.actions:
            if action.state == "issued" and action.expires_at <= self.world.now():
                action.state = "expired"

    # -- telling --------------------------------------------------------------------

    @rule(told=told)
    def announce_again(self, told: Told) -> None:
        """However old it is by now."""
        self._announce(*told)

    def _announce(self, settlement: Settlement, settled: list[Settled]) -> None:
        assert announce(self.database, self.standings, self.events, settled)
        self.life.announce(settlement)

    @rule(player=players, age=st.integers(0, 30))
    def publish_older(self, player: Player, age: int) -> None:
        standing = player.standings[max(0, len(player.standings) - 1 - age)]
        applied = self.standings.apply([standing])
        moves = [Moved(each.old_rank, each.new_rank, each.is_news) for each in applied.moves]
        assert moves == self.life.board.apply([standing])
        SEEN["older standing refused"] += not moves[0].is_news

    @rule(is_wiped=st.booleans())
    def lose_the_board(self, is_wiped: bool) -> None:
        """Redis is emptied, or a rebuilder is killed when it has emptied the board."""
        if is_wiped:
            self.world.client.flushall()
            self.is_stream_whole = False
        else:
            self.standings.begin_rebuild("a rebuilder that is killed")
        self.life.board.empty()

    @rule(how=st.sampled_from(["rebuild", "ensure", "compare"]))
    def refill(self, how: str) -> None:
        if how == "rebuild":
            assert rebuild_board(self.database, self.standings, self.events) == len(self.life.players) + 1
            self.life.rebuild()
            return
        is_rebuilt = ensure_board(self.database, self.standings, self.events, compare=how == "compare")
        must = not self.life.board.is_whole
        # What is on its way is no reason; how it tells that from what is missing is its own business.
        may = how == "compare" and not self.life.is_board_right()
        assert must <= is_rebuilt <= (must or may)
        if is_rebuilt:
            self.life.rebuild()

    # -- reading --------------------------------------------------------------------

    @rule(offset=st.integers(0, 6), limit=st.integers(1, 7))
    def read_page(self, offset: int, limit: int) -> None:
        board = self.reader.read(offset=offset, limit=limit)
        assert rows_of(board) == self.life.shown_rows()[offset : offset + limit]
        assert board.version >= self.version, "the version of the board only grows"
        self.version = board.version

    @rule(player=players, radius=st.integers(0, 3))
    def read_around(self, player: Player, radius: int) -> None:
        """A player whom Redis doesn't show yet, or shouldn't show any more, is looked up in Postgres."""
        shown = self._rows_with(player)
        expected = around(shown, player.id, radius)
        if expected:
            assert rows_of(self.reader.read_around(player.id, radius=radius)) == expected
        else:
            with pytest.raises(errors.NotFound):
                self.reader.read_around(player.id, radius=radius)
        assert self.reader.rank_of(player.id)[0] == rank_in(shown, player)

    def _rows_with(self, player: Player) -> list[Row]:
        shown = self.life.shown_rows()
        return shown if rank_in(shown, player) else self.life.true_rows()

    @rule(player=players, limit=st.integers(1, 4))
    def read_player(self, player: Player, limit: int) -> None:
        score = read_score(self.database, BoardReader(self.database, self.standings), player.id, is_own=True)
        assert (score.user.score, score.user.total_actions) == (player.score, len(player.applied))
        rank = rank_in(self._rows_with(player), player) if player.status != "banned" else None
        assert score.rank == rank
        if rank and self.life.is_all_told():
            assert score.percentile == percentile(rank, len(self.life.true_rows()))
        told, before = [], None
        while page := read_history(self.database, player.id, before_seq=before, limit=limit):
            told += [(each.action_id, each.increment) for each in page]
            before = page[-1].seq
        assert told == [(each.action and each.action.id, each.increment) for each in reversed(player.changes)]

    @rule(action=actions)
    def look_at(self, action: Action) -> None:
        now = self.world.now()
        is_late = action.state == "issued" and action.expires_at <= now
        look = partial(read_action, self.database, action_id=action.id, now=now.timestamp())
        stored = look(caller=action.player.caller)
        if action.is_told:
            assert (stored.state, stored.reason) == ("expired" if is_late else action.state, action.reason)
            assert (stored.previous_score, stored.new_score) == (action.previous_score, action.new_score)
            assert (stored.previous_rank, stored.rank) == (action.previous_rank, action.rank)
        else:
            assert (stored.state, stored.new_score, stored.rank, stored.settled_at) == ("accepted", None, None, None)
        with pytest.raises(errors.NotFound):
            look(caller=stranger())

    # -- what is true after every step ----------------------------------------------

    @invariant()
    def postgres_is_as_it_should_be(self) -> None:
        found = self.world.observe()
        self._check_actions(found)
        self._check_scores(found)

    def _check_actions(self, observed: Observed) -> None:
        found = observed.actions
        assert found.keys() == {each.id for each in self.life.actions}
        for each in self.life.actions:
            row = found[each.id]
            assert row.user_id == each.player.id
            assert (row.state, row.reason) == (each.state, each.reason), each
            assert (row.issued_at, row.accepted_at) == (each.issued_at, each.accepted_at), each
            assert (row.previous_score, row.score_increment) == (each.previous_score, each.increment), each
            before = self.states.get(each.id, "issued")
            assert row.state == before or row.state in reachable(before), "states only go forward"
            self.states[each.id] = row.state

    def _check_scores(self, observed: Observed) -> None:
        found, ledger = observed.users, observed.ledger
        assert found.keys() == {each.id for each in self.life.players}
        for each in self.life.players:
            row, entries = found[each.id], [entry for entry in ledger if entry[0] == each.id]
            assert row.score == sum(entry[4] for entry in entries) == each.score, each
            assert (row.score_reached_at, row.status) == (each.reached_at, each.status), each
            assert (row.standing_version, row.total_actions) == (len(each.standings), len(each.applied)), each
            accepted = [action.accepted_at for action in each.applied if action.accepted_at]
            assert row.last_action_at == max(accepted, default=None), each
            expected, score = [], 0
            for seq, change in enumerate(each.changes, start=1):
                action_id = change.action.id if change.action else None
                expected.append((each.id, seq, action_id, score, change.increment, score + change.increment, change.at))
                score += change.increment
            assert entries == expected, each
        counted = [entry[2] for entry in ledger if entry[2]]
        assert len(counted) == len(set(counted)), "an action counts once"

    @invariant()
    def redis_shows_what_it_was_told(self) -> None:
        expected = rows(self.life.board.newest.values())
        found = self.standings.read(offset=0, limit=100)
        assert (found is not None) == self.life.board.is_whole
        assert self.standings.count_players() == len(expected)
        if found is not None:
            assert rows_of(found.board) == expected
            assert found.board.total_players == len(expected)
            if self.life.is_all_told():
                assert expected == self.life.true_rows()
                SEEN["all told"] += 1

    def teardown(self) -> None:
        """Left alone, everything comes to rest: nothing waits, and all stores agree."""
        # A step that failed has said what there is to say.
        if not self.life.players or sys.exc_info()[0]:
            return
        self.refill("ensure")
        self.sweep(is_up=True)
        self.refill("compare")
        self.postgres_is_as_it_should_be()
        self.redis_shows_what_it_was_told()
        assert self.life.is_all_told()
        assert not self.life.accepted()
        report = verify(self.database, self.standings)
        assert report.findings == []
        assert report.is_board_whole
        self._check_events()
        SEEN.update(f"{each.state} {each.reason or ''}".strip() for each in self.life.actions)

    def _check_events(self) -> None:
        """Every outcome was told, and never two different ones of one action."""
        if not self.is_stream_whole:
            return
        told: dict[UUID, set[tuple[object, ...]]] = {}
        for entry in self.events.latest(10_000):
            if entry.action_id:
                outcome = orjson.loads(entry.outcome)
                said = (outcome["status"], outcome["reason"], outcome["scoreIncrement"], outcome["newScore"])
                told.setdefault(entry.action_id, set()).add(said)
        settled = [action for each in self.life.settlements for action in each.actions]
        assert told == {each.id: {(each.state, each.reason, each.increment, each.new_score)} for each in settled}


def ids_of(some: Iterable[Action]) -> set[UUID]:
    return {each.id for each in some}


def rank_in(shown: list[Row], player: Player) -> int | None:
    return next((row[0] for row in shown if row[1] == player.id), None)


def reachable(state: str) -> set[str]:
    """The states that may follow, also those after the next."""
    following = FORWARD.get(state, set())
    return following.union(*(reachable(each) for each in following))
