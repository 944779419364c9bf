"""What the service must make of players, actions and scores, said as simply as possible: lists in memory.

Written from the contract, and without the service's own rules, points, order or sums. What only
the database can know, the moment at which something happened, is read there and judged here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from scoreboard.domain.standings import Standing
from scoreboard.services.actions.accept import Completion
from scoreboard.store.sessions import Caller
from tests.integration.board_model import BoardModel, Row, rows

MAX_OPEN = 6
SCORE_MAX = 2**53 - 1
#: From which state an action may go to which; the others are its end.
FORWARD = {"issued": {"accepted", "expired"}, "accepted": {"applied", "held", "rejected", "failed"}}


@dataclass(frozen=True)
class Kind:
    """An action type of the catalogue that comes with the service."""

    code: str
    min_ms: int
    max_ms: int = 300_000
    fixed: int | None = None
    maximum: int | None = None


SOLVE = Kind("SOLVE_PROBLEM", 0, fixed=1)
LEVEL = Kind("TAP_NUMBERS", 1_000)
ROUND = Kind("FINISH_ROUND", 2_000, maximum=100)
#: The workers' catalogue doesn't have it any more.
RETIRED = Kind("RETIRED", 0, fixed=5)
LEVELS = {"easy": 10, "medium": 20, "hard": 50}
#: Least time, the time up to which all points count, and the one from which half of them do; ms.
LEVEL_TIMES = {"easy": (1_000, 6_000, 24_000), "medium": (2_000, 14_000, 48_000), "hard": (4_000, 32_000, 100_000)}


@dataclass(eq=False)
class Action:
    """One action and its outcome."""

    id: UUID
    player: Player
    kind: Kind
    difficulty: str | None
    token: str
    proof_key: str
    issued_at: datetime
    expires_at: datetime
    state: str = "issued"
    reason: str | None = None
    completion: Completion | None = None
    accepted_at: datetime | None = None
    previous_score: int | None = None
    increment: int | None = None
    standing: Standing | None = None
    previous_rank: int | None = None
    rank: int | None = None
    settlement: Settlement | None = None

    def __repr__(self) -> str:
        return f"<{self.kind.code} of {self.player.name}, {self.state} {self.reason or ''}>"

    @property
    def new_score(self) -> int | None:
        return None if self.previous_score is None or self.increment is None else self.previous_score + self.increment

    @property
    def min_ms(self) -> int:
        return LEVEL_TIMES[str(self.difficulty)][0] if self.kind is LEVEL else self.kind.min_ms

    @property
    def elapsed_ms(self) -> int:
        assert self.accepted_at is not None
        return (self.accepted_at - self.issued_at) // timedelta(milliseconds=1)

    @property
    def is_told(self) -> bool:
        """Whether its owner may know the outcome: that of a score not before its ranks are set."""
        return self.state != "applied" or (self.settlement is not None and self.settlement.is_ranked)

    @property
    def previous_standing(self) -> Standing | None:
        return self.player.standings[self.standing.version - 2] if self.standing else None

    @property
    def points(self) -> int:
        if self.kind is LEVEL:
            _, full_ms, least_ms = LEVEL_TIMES[str(self.difficulty)]
            late_ms = min(max(0, self.elapsed_ms - full_ms), least_ms - full_ms)
            worth = LEVELS[str(self.difficulty)]
            return worth * (2 * (least_ms - full_ms) - late_ms) // (2 * (least_ms - full_ms))
        if self.kind is ROUND:
            assert self.completion is not None
            assert self.completion.proof.points is not None
            return self.completion.proof.points
        assert self.kind.fixed is not None
        return self.kind.fixed

    def shift(self, by: timedelta) -> None:
        """As if all of it had happened so much earlier."""
        self.issued_at -= by
        self.expires_at -= by
        if self.accepted_at:
            self.accepted_at -= by


@dataclass(frozen=True, eq=False)
class Change:
    """An entry of the ledger."""

    action: Action | None
    increment: int
    at: datetime


@dataclass(eq=False)
class Player:
    """A player, the ledger of their score, and every standing there has ever been of them."""

    id: UUID
    name: str
    created_at: datetime
    #: As a web process knows it from last time.
    caller: Caller
    status: str = "active"
    #: What an unban gives back.
    status_before_ban: str = "active"
    #: Whether the session of ``caller`` lives.
    is_signed_in: bool = True
    changes: list[Change] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.note()

    def __repr__(self) -> str:
        return f"<{self.name}, {self.score} points, {self.status}>"

    @property
    def score(self) -> int:
        return sum(change.increment for change in self.changes)

    @property
    def reached_at(self) -> datetime:
        return max([self.created_at, *(change.at for change in self.changes if change.increment)])

    @property
    def standing(self) -> Standing:
        return self.standings[-1]

    def note(self) -> Standing:
        """What others are to be shown has changed: a new version."""
        is_visible = self.status != "banned"
        version = len(self.standings) + 1
        self.standings.append(Standing(self.id, self.name, self.score, self.reached_at, version, is_visible))
        return self.standing

    @property
    def is_as_known(self) -> bool:
        """Whether what the web process knows is still true."""
        return self.is_signed_in and self.caller.status == self.status

    def change(self, change: Change) -> Standing:
        self.changes.append(change)
        return self.note()

    @property
    def applied(self) -> list[Action]:
        return [change.action for change in self.changes if change.action]


@dataclass(eq=False)
class Settlement:
    """Actions settled in one transaction; ``is_announced`` once Redis has been told, ranked for good before that."""

    actions: Sequence[Action]
    is_ranked: bool = False
    is_announced: bool = False


@dataclass
class Life:
    """The whole world: what Postgres must hold, and what Redis must show of it."""

    players: list[Player] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)
    # Players whose standing was changed outside settling, and not published yet.
    notes: list[Player] = field(default_factory=list)
    board: BoardModel = field(default_factory=BoardModel)

    # -- questions ------------------------------------------------------------------

    def is_taken(self, name: str) -> bool:
        return any(_folded(player.name) == _folded(name) for player in self.players)

    def open_actions(self, player: Player, now: datetime) -> list[Action]:
        return [each for each in self.actions if each.player is player and is_open(each, now)]

    def accepted(self) -> list[Action]:
        """What waits to be settled, the oldest first."""
        return in_order(each for each in self.actions if each.state == "accepted")

    def true_rows(self) -> list[Row]:
        """The board as Postgres must tell it."""
        return rows(player.standing for player in self.players)

    def shown_rows(self) -> list[Row]:
        """The board as it must be served: by Redis as far as that has been told, or else by Postgres."""
        return rows(self.board.newest.values()) if self.board.is_whole else self.true_rows()

    def is_all_told(self) -> bool:
        return not self.notes and all(each.is_announced for each in self.settlements)

    # -- settling -------------------------------------------------------------------

    def settle(self, wanted: Iterable[Action]) -> Settlement | None:
        """One transaction: those that are accepted, each once, in the order of acceptance; None if there are none."""
        batch = in_order({each for each in wanted if each.state == "accepted"})
        for action in batch:
            self.settle_one(action)
        return self.note_settlement(batch) if batch else None

    def note_settlement(self, batch: Sequence[Action]) -> Settlement:
        self.settlements.append(Settlement(batch))
        for action in batch:
            action.settlement = self.settlements[-1]
        return self.settlements[-1]

    def settle_one(self, action: Action) -> None:
        """The outcome of an accepted action, given the present state."""
        action.state, action.reason = self._verdict(action)
        if action.state != "applied":
            return
        assert action.accepted_at is not None
        action.previous_score, action.increment = action.player.score, action.points
        action.standing = action.player.change(Change(action, action.points, action.accepted_at))

    def _verdict(self, action: Action) -> tuple[str, str | None]:
        assert action.accepted_at is not None
        assert action.completion is not None
        kind, claimed_ms = action.kind, action.completion.proof.completion_time_ms
        elapsed_ms, min_ms = action.elapsed_ms, action.min_ms
        recent = [
            each
            for each in self.actions
            if each.player is action.player
            and each.accepted_at
            and timedelta(0) <= action.accepted_at - each.accepted_at < timedelta(seconds=10)
        ]
        if kind is RETIRED:
            return "failed", "INTERNAL_ERROR"
        if claimed_ms > elapsed_ms + 2_000:
            return "rejected", "CLOCK_MISMATCH"
        if not (min_ms <= elapsed_ms <= kind.max_ms and min_ms <= claimed_ms <= kind.max_ms):
            return "rejected", "COMPLETION_TIME"
        if len(recent) > 8:
            return "held", "BURST"
        if action.player.score + action.points > SCORE_MAX:
            return "failed", "INTERNAL_ERROR"
        return "applied", None

    # -- telling --------------------------------------------------------------------

    def announce(self, settlement: Settlement, *, by_sweep: bool = False) -> None:
        """Standings of the settlement's time, or those of today if a sweep does it, and ranks at the first time."""
        applied = [each for each in settlement.actions if each.standing]
        told = [each.player.standing if by_sweep else each.standing for each in applied]
        moves = self.board.apply([standing for standing in told if standing])
        if self.board.is_whole and not settlement.is_ranked:
            for action, moved in zip(applied, moves, strict=True):
                action.previous_rank, action.rank = moved.old_rank, moved.new_rank
            settlement.is_ranked = True
        self.rank_by_postgres(settlement, by_sweep=by_sweep)
        settlement.is_announced = True

    def rank_by_postgres(self, settlement: Settlement, *, by_sweep: bool = False) -> None:
        """Redis doesn't know them: the ranks among all others now. A sweep doesn't know the previous ones."""
        if settlement.is_ranked:
            return
        for action in settlement.actions:
            if action.standing:
                action.rank = self._place_of(action.player.standing if by_sweep else action.standing)
                action.previous_rank = None if by_sweep else self._place_of(action.previous_standing)
        settlement.is_ranked = True

    def _place_of(self, standing: Standing | None) -> int | None:
        if standing is None or not standing.is_visible:
            return None
        others = [each.standing for each in self.players if each.id != standing.user_id and each.status != "banned"]
        return 1 + sum(_order(each) < _order(standing) for each in others)

    def announce_left_behind(self) -> None:
        for settlement in self.settlements:
            if not settlement.is_announced:
                self.announce(settlement, by_sweep=True)

    def publish_notes(self, player: Player | None = None) -> None:
        """One player's notes, or all."""
        noted = [each for each in self.notes if player in (None, each)]
        self.board.apply(each.standing for each in dict.fromkeys(noted))
        self.notes = [each for each in self.notes if each not in noted]

    def rebuild(self) -> None:
        self.board.refill(player.standing for player in self.players)

    def is_board_right(self) -> bool:
        """Whether Redis shows what it would after a rebuild; if not, that may be on its way, or not."""
        return rows(self.board.newest.values()) == self.true_rows()


def _order(standing: Standing) -> tuple[int, datetime, bytes]:
    return -standing.score, standing.reached_at, standing.user_id.bytes


def in_order(actions: Iterable[Action]) -> list[Action]:
    """The order of acceptance."""
    return sorted(actions, key=lambda each: (each.accepted_at, each.id.bytes))


def is_open(action: Action, now: datetime) -> bool:
    return action.state == "issued" and action.expires_at > now


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
