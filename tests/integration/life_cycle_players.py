"""The players of the life cycle: they join, sign in, and are moderated, with Redis there or away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, multiple, precondition, rule

from scoreboard.domain import errors
from scoreboard.services.accounts.callers import CallerLookup
from scoreboard.services.accounts.log_in import log_in
from scoreboard.services.accounts.register import register
from scoreboard.services.actions.intake import CallerChanged, Intake
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.services.boards.build import ensure_board
from scoreboard.store.audit import Origin
from scoreboard.store.sessions import Caller
from tests.integration.life_cycle_model import (
    MAX_OPEN,
    SCORE_MAX,
    Change,
    Life,
    Player,
)
from tests.integration.life_cycle_world import SESSION_S, World, caller_of

T = TypeVar("T")
# Some are the same name in another spelling, some look like what Redis keeps beside a name.
NAMES = ["Zoë", "ZOE\u0308", "龍の子", "عمر", "1 2 3 4", "Ünal \\ \"'", "straße", "STRASSE", "👩‍🚀 Mae"]
PLAYERS_MAX = 5
AMOUNTS = ["+1", "-1", "too much", "too little", "to the most", "all"]
ORIGIN = Origin("127.0.0.1", "a test")
# Both clocks are this machine's; it may be set right meanwhile.
CLOCK_STEP = timedelta(seconds=1)
# What has been seen in all examples, so that a model that never gets anywhere fails.
SEEN: Counter[str] = Counter()


def check_moment(began: datetime, at: datetime) -> None:
    """What the database says of when a step happened must lie within the step."""
    assert began - CLOCK_STEP <= at <= datetime.now(UTC) + CLOCK_STEP


class PlayerSteps(RuleBasedStateMachine):
    """Players come, sign in and are moderated."""

    players: Bundle[Player] = Bundle("players")

    def __init__(self, world: World) -> None:
        super().__init__()
        world.empty()
        self.world, self.database, self.life = world, world.database, Life()
        self.standings, self.events = world.live()
        self.keys = [Fernet.generate_key().decode()]
        self.tokens = TokenBox(self.keys)
        # Two web processes.
        self.intakes = [Intake(self.database, max_open=MAX_OPEN) for _ in range(2)]
        self.lookup = CallerLookup(self.database)
        self.game_server = world.game_server()

    # -- players --------------------------------------------------------------------

    @initialize(target=players, is_board_whole=st.booleans())
    def begin(self, is_board_whole: bool) -> Player:
        if is_board_whole:
            assert ensure_board(self.database, self.standings, self.events)
            self.life.rebuild()
        return self._register("Ann", is_up=True)

    @precondition(lambda self: len(self.life.players) < PLAYERS_MAX)
    @rule(target=players, name=st.sampled_from(NAMES), is_up=st.booleans())
    def join(self, name: str, is_up: bool) -> MultipleResults[Player]:
        if self.life.is_taken(name):
            with pytest.raises(errors.UsernameTaken):
                self._register(name, is_up=is_up)
            return multiple()
        return multiple(self._register(name, is_up=is_up))

    def _register(self, name: str, *, is_up: bool) -> Player:
        began = datetime.now(UTC)
        sign_in = register(
            self.database,
            *self.world.live(is_up=is_up),
            self.world.passwords,
            username=name,
            email=f"{uuid4().hex}@example.org",
            password="a fine pass phrase",
            refresh_ttl_s=SESSION_S,
            origin=ORIGIN,
        )
        user = sign_in.user
        check_moment(began, user.created_at)
        player = Player(user.id, user.username, user.created_at, caller_of(sign_in))
        self.life.players.append(player)
        self._publish_note(player, is_up=is_up)
        return player

    @rule(player=players, act=st.sampled_from(["ban", "unban", "flag", "clear"]), is_up=st.booleans())
    def moderate(self, player: Player, act: str, is_up: bool) -> None:
        before, after = {
            "ban": ({"active", "flagged"}, "banned"),
            "unban": ({"banned"}, player.status_before_ban),
            "flag": ({"active"}, "flagged"),
            "clear": ({"flagged"}, "active"),
        }[act]
        changed = getattr(self.world.moderation(is_up=is_up), act)(player.id, "a reason")
        waiting = {"flag": "flagged", "clear": "active"}.get(act, player.status_before_ban)
        if player.status == "banned" and player.status_before_ban != waiting:
            # It comes into force with the end of the ban.
            player.status_before_ban = waiting
            player.note()
            self._publish_note(player, is_up=is_up)
        if player.status in before:
            player.status_before_ban = player.status
            player.status = after
            player.is_signed_in = player.is_signed_in and act != "ban"
            player.note()
            self._publish_note(player, is_up=is_up)
            SEEN[act] += 1
        assert changed["status"] == player.status

    @rule(
        player=players,
        amount=st.sampled_from(AMOUNTS),
        is_up=st.booleans(),
    )
    def adjust(self, player: Player, amount: str, is_up: bool) -> None:
        score = player.score
        by = {
            "+1": 1,
            "-1": -1,
            "all": -score,
            "to the most": SCORE_MAX - score,
            "too much": SCORE_MAX - score + 1,
            "too little": -score - 1,
        }[amount]
        if by == 0:
            return
        moderation, began = self.world.moderation(is_up=is_up), datetime.now(UTC)
        if not 0 <= score + by <= SCORE_MAX:
            with pytest.raises(errors.ValidationFailed):
                moderation.adjust(player.id, by, "a reason")
            return
        changed = moderation.adjust(player.id, by, "a reason")
        assert changed["score"] == score + by
        at = next(entry[-1] for entry in reversed(self.world.observe().ledger) if entry[0] == player.id)
        check_moment(began, at)
        player.change(Change(None, by, at))
        self._publish_note(player, is_up=is_up)

    @rule(player=players)
    def sign_in(self, player: Player) -> None:
        try:
            found = log_in(
                self.database,
                self.world.passwords,
                username=player.name.upper(),
                password="a fine pass phrase",
                refresh_ttl_s=SESSION_S,
                origin=ORIGIN,
            )
        except errors.AccountBanned:
            assert player.status == "banned"
        else:
            assert player.status != "banned"
            player.caller, player.is_signed_in = caller_of(found), True

    def _as(self, player: Player, do: Callable[[Caller], T]) -> T | None:
        """What a web process does for a player: with whom it knows from last time, and again if that isn't so now.

        None when the session has ended.
        """
        try:
            answer = do(player.caller)
        except CallerChanged:
            assert not player.is_as_known
            SEEN["caller changed"] += 1
        else:
            return answer
        found = self.lookup.find(player.caller.session_id)
        assert found is not None
        caller, is_alive = found
        assert (is_alive, caller.status) == (player.is_signed_in, player.status)
        if not is_alive:
            SEEN["session ended"] += 1
            return None
        player.caller = caller
        return do(caller)

    def _publish_note(self, player: Player, *, is_up: bool) -> None:
        self.life.notes.append(player)
        if is_up:
            self.life.publish_notes(player)
