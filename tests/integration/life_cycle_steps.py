"""The first half of an action's life as steps beside the model: issue and complete.

Each step is a use case as the web calls it, also at once, by the wrong player, or with a reply that gets lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from cryptography.fernet import Fernet
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, multiple, rule
from sqlalchemy.exc import OperationalError

from scoreboard.domain import errors
from scoreboard.domain.actions import Proof, proof_checksum
from scoreboard.services.actions.accept import Completion, accept_action, check_completion
from scoreboard.services.actions.following import FollowingActions, NextState, NextWanted
from scoreboard.services.actions.intake import CallerChanged, Intake, Taken
from scoreboard.services.actions.issue import OpenAction, PreparedIssue, issue_action
from scoreboard.services.actions.tokens import TokenBox
from scoreboard.store.actions import Action as StoredAction
from scoreboard.store.intake import Issued
from scoreboard.store.sessions import Caller
from tests.integration.life_cycle_model import (
    LEVEL,
    MAX_OPEN,
    RETIRED,
    ROUND,
    SOLVE,
    Action,
    Kind,
    Player,
    is_open,
)
from tests.integration.life_cycle_players import ORIGIN, SEEN, PlayerSteps, check_moment
from tests.integration.life_cycle_world import MuteDatabase, stranger

T = TypeVar("T")
TTL_S = 300
WRONGS = ["player", "checksum", "token", "spelling", "key", "points", "more points"]


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call) for call in calls]]


class IntakeSteps(PlayerSteps):
    """Actions are issued and completed."""

    players = PlayerSteps.players
    actions: Bundle[Action] = Bundle("actions")

    @rule(
        target=actions,
        player=players,
        kind=st.sampled_from([SOLVE, LEVEL, ROUND, RETIRED]),
        difficulty=st.sampled_from(["easy", "medium", "hard"]),
        by_server=st.booleans(),
        count=st.integers(1, 3),
        age_s=st.sampled_from([0.0, 1.5, 4.0, 18.0, TTL_S + 1.0]),
    )
    def issue(
        self, player: Player, kind: Kind, difficulty: str, by_server: bool, count: int, age_s: float
    ) -> MultipleResults[Action]:
        issued = [each for _ in range(count) for each in self._issue(player, kind, difficulty, by_server=by_server)]
        self._shift(issued, timedelta(seconds=age_s))
        return multiple(*issued)

    @rule(target=actions, player=players, points=st.lists(st.integers(0, 100), max_size=5), apart_s=st.integers(0, 20))
    def play(self, player: Player, points: list[int], apart_s: int) -> MultipleResults[Action]:
        """Rounds as they are meant to be played, each of some seconds, and with so many seconds between them."""
        rounds = [each for _ in points for each in self._issue(player, ROUND, "", by_server=False)]
        self._shift(rounds, timedelta(seconds=4))
        for number, each in enumerate(rounds):
            self._complete(each, claimed_ms=3_000, points=points[number])
            self._shift([each], timedelta(seconds=apart_s * (len(rounds) - number)))
        return multiple(*rounds)

    def _issue(self, player: Player, kind: Kind, difficulty: str, *, by_server: bool) -> list[Action]:
        """The new action, or none when it is refused as it should be."""
        metadata: dict[str, object] = {"difficulty": difficulty} if kind is LEVEL else {}
        issue = partial(
            issue_action,
            self.intakes[0],
            self.lookup.find_player,
            self.world.web_catalogue,
            self.tokens,
            on_behalf_of=player.id if by_server else None,
            action_type=kind.code,
            metadata=metadata,
            ttl_s=TTL_S,
        )
        began = datetime.now(UTC)
        try:
            if by_server:
                issued = issue(caller=self.game_server)
            elif (own := self._as(player, lambda caller: issue(caller=caller))) is None:
                return []
            else:
                issued = own
        except errors.AccountBanned:
            # A player's own calls end with their sessions; the game server learns it here.
            assert by_server
            assert player.status == "banned"
            return []
        except errors.TooManyOpenActions:
            assert len(self.life.open_actions(player, began)) >= MAX_OPEN
            SEEN["too many open"] += 1
            return []
        assert by_server or player.is_as_known, "let in with an ended session or an old status"
        assert player.status != "banned"
        assert len(self.life.open_actions(player, issued.issued_at)) < MAX_OPEN
        check_moment(began, issued.issued_at)
        assert issued.expires_at - issued.issued_at == timedelta(seconds=TTL_S)
        action = Action(
            issued.action_id,
            player,
            kind,
            difficulty if kind is LEVEL else None,
            issued.action_token,
            issued.proof_key,
            issued.issued_at,
            issued.expires_at,
        )
        self.life.actions.append(action)
        return [action]

    @rule(some=st.lists(actions, min_size=1, max_size=9), seconds=st.sampled_from([0.7, 3.0, 11.0, TTL_S + 1.0]))
    def time_passes(self, some: list[Action], seconds: float) -> None:
        self._shift(some, timedelta(seconds=seconds))

    def _shift(self, some: list[Action], by: timedelta) -> None:
        under_way = [each for each in dict.fromkeys(some) if each.state in ("issued", "accepted")]
        if under_way:
            self.world.shift([each.id for each in under_way], by)
        for each in under_way:
            each.shift(by)

    @rule(
        some=st.lists(actions, min_size=1, max_size=4),
        claimed_ms=st.sampled_from([0, 1_500, 3_000, 400_000]),
        points=st.sampled_from([0, 7, 100]),
        is_same=st.booleans(),
    )
    def complete(self, some: list[Action], claimed_ms: int, points: int, is_same: bool) -> None:
        """Some for the first time, some again, with the same body or another."""
        for action in some:
            if is_same and action.completion is not None:
                proof = action.completion.proof
                self._complete(action, proof.completion_time_ms, proof.points or 0)
            else:
                self._complete(action, claimed_ms, points)

    @rule(
        target=actions,
        action=actions,
        kind=st.sampled_from([SOLVE, LEVEL]),
        difficulty=st.sampled_from(["easy", "hard"]),
        times=st.integers(1, 3),
    )
    def complete_for_next(self, action: Action, kind: Kind, difficulty: str, times: int) -> MultipleResults[Action]:
        """A completion brings the next action along; sent again, it brings the same one or what became of it."""
        brought: list[Action] = []
        completion = action.completion or self._completion(action, 3_000, 7)
        wanted = NextWanted(kind.code, {"difficulty": difficulty} if kind is LEVEL else {})
        for _ in range(times):
            began = datetime.now(UTC)
            answer = self._as(action.player, partial(self._take, completion, wanted))
            if answer is None:
                continue
            taken, prepared = answer
            if not isinstance(taken, Taken):
                self._check_refusal(action, completion, taken)
            elif taken.is_fresh:
                assert is_open(action, began)
                brought += self._bring(action, completion, kind, difficulty, taken, prepared, began)
            else:
                assert completion == action.completion
                self._check_told(prepared.issue.action_id, taken)
        return multiple(*brought)

    def _take(self, completion: Completion, wanted: NextWanted, caller: Caller) -> tuple[object, PreparedIssue]:
        """What became of it, or what was raised; and what was asked for next."""
        player = caller.user_id
        prepared = self._following().prepare(completion, wanted, caller=caller, player=player)
        catalogue = self.world.web_catalogue
        try:
            check_completion(self.database, catalogue, self.tokens, player=player, completion=completion, origin=ORIGIN)
            taken: object = accept_action(
                self.intakes[0],
                caller=caller,
                player=player,
                completion=completion,
                origin=ORIGIN,
                following=prepared.issue,
            )
        except (errors.ScoreboardError, OperationalError) as error:
            taken = error
        return taken, prepared

    def _bring(
        self,
        action: Action,
        completion: Completion,
        kind: Kind,
        difficulty: str,
        taken: Taken,
        prepared: PreparedIssue,
        began: datetime,
    ) -> list[Action]:
        """The next action, if the player's open ones leave room for it once this one is completed."""
        self._accepted(action, completion, began)
        assert action.accepted_at is not None
        has_room = len(self.life.open_actions(action.player, action.accepted_at)) < MAX_OPEN
        if not has_room:
            assert isinstance(taken.following, errors.TooManyOpenActions), taken
            SEEN["no room for the next"] += 1
            return []
        assert isinstance(taken.following, Issued), taken
        issued = prepared.issued(taken.following)
        assert issued.issued_at == action.accepted_at
        assert issued.expires_at - issued.issued_at == timedelta(seconds=TTL_S)
        brought = Action(
            issued.action_id,
            action.player,
            kind,
            difficulty if kind is LEVEL else None,
            issued.action_token,
            issued.proof_key,
            issued.issued_at,
            issued.expires_at,
        )
        self.life.actions.append(brought)
        SEEN["next issued"] += 1
        return [brought]

    def _check_told(self, next_id: UUID, taken: Taken) -> None:
        """A repeat finds the next action that was brought, and no other."""
        brought = next((each for each in self.life.actions if each.id == next_id), None)
        if brought is None:
            assert taken.following is None
            return
        assert isinstance(taken.following, StoredAction)
        told = self._following().tell(taken.following)
        if is_open(brought, datetime.now(UTC)):
            assert isinstance(told, OpenAction), told
            assert (told.action_token, told.proof_key) == (brought.token, brought.proof_key)
            SEEN["the same next again"] += 1
        else:
            assert isinstance(told, NextState), told
            assert told.action_id == brought.id
            assert told.state != "issued"
            SEEN["what became of the next"] += 1

    def _following(self) -> FollowingActions:
        return FollowingActions(
            self.database,
            self.intakes[0],
            self.world.web_catalogue,
            self.tokens,
            self.lookup,
            lambda: datetime.now(UTC).timestamp(),
            TTL_S,
        )

    @rule(action=actions, wrong=st.sampled_from(WRONGS))
    def complete_wrongly(self, action: Action, wrong: str) -> None:
        completion = self._completion(action, 3_000, 7, wrong)
        if wrong == "player":
            others = [each.caller for each in self.life.players if each is not action.player]
            outcome = self._accept(action, completion, by=others[0] if others else stranger())
        else:
            outcome = self._complete_as_owner(action, completion)
        expected: type[Exception] = errors.InvalidActionToken
        if wrong in ("points", "more points"):
            expected = errors.ValidationFailed
            if wrong == "more points" and action.kind is ROUND:
                expected = errors.ScoreValidationFailed
        assert isinstance(outcome, expected | errors.InvalidToken), outcome
        SEEN[f"wrong {wrong}"] += 1

    @rule(action=actions)
    def complete_without_reply(self, action: Action) -> None:
        """Postgres commits and the connection breaks: no answer comes, and the same call may be made again."""
        intake = Intake(MuteDatabase(self.database.primary), max_open=MAX_OPEN)
        completion, began = self._completion(action, 3_000, 7), datetime.now(UTC)
        outcome = self._accept(action, completion, action.player.caller, intake)
        assert isinstance(outcome, OperationalError), outcome
        if is_open(action, began) and action.player.is_as_known:
            self._accepted(action, completion, began)
            SEEN["reply to accept lost"] += 1

    @rule(action=actions, same=st.integers(1, 4), others=st.integers(0, 2))
    def complete_at_once(self, action: Action, same: int, others: int) -> None:
        """One token, several requests on two processes: one of them counts."""
        if not action.player.is_as_known:
            return
        bodies = [self._completion(action, 3_000, 7)] * same
        bodies += [self._completion(action, 3_001 + number, 7) for number in range(others)]
        began, was_open = datetime.now(UTC), is_open(action, datetime.now(UTC))
        calls = [
            partial(self._accept, action, body, action.player.caller, self.intakes[number % 2])
            for number, body in enumerate(bodies)
        ]
        outcomes = at_once(calls)
        fresh = [body for body, outcome in zip(bodies, outcomes, strict=True) if outcome is None]
        assert len(fresh) == was_open, outcomes
        if was_open:
            self._accepted(action, fresh[0], began)
            SEEN["accepted at once"] += 1
        for body, outcome in zip(bodies, outcomes, strict=True):
            if outcome is not None:
                self._check_refusal(action, body, outcome)

    def _complete(self, action: Action, claimed_ms: int, points: int) -> None:
        completion, began = self._completion(action, claimed_ms, points), datetime.now(UTC)
        outcome = self._complete_as_owner(action, completion)
        if not action.player.is_signed_in:
            assert isinstance(outcome, errors.InvalidToken), outcome
        elif is_open(action, began):
            assert outcome is None, outcome
            self._accepted(action, completion, began)
        else:
            self._check_refusal(action, completion, outcome)

    def _complete_as_owner(self, action: Action, completion: Completion) -> object:
        """None, the stored action, or what was raised; InvalidToken when the session has ended."""
        answer = self._as(action.player, lambda caller: (self._accept(action, completion, caller),))
        return errors.InvalidToken() if answer is None else answer[0]

    def _accepted(self, action: Action, completion: Completion, began: datetime) -> None:
        assert action.player.is_as_known, "let in with an ended session or an old status"
        action.accepted_at = self.world.accepted_at(action.id)
        check_moment(began, action.accepted_at)
        assert action.accepted_at < action.expires_at
        action.state, action.completion = "accepted", completion

    def _check_refusal(self, action: Action, completion: Completion, outcome: object) -> None:
        """The answer to a completion of an action that isn't open any more."""
        if action.state in ("issued", "expired"):
            assert isinstance(outcome, errors.ActionTokenExpired), outcome
            SEEN["late"] += 1
        elif completion != action.completion:
            assert isinstance(outcome, errors.ActionAlreadyCompleted), outcome
            SEEN["another body"] += 1
        else:
            assert isinstance(outcome, StoredAction), outcome
            assert (outcome.state, outcome.reason) == (action.state, action.reason)
            assert (outcome.score_increment, outcome.new_score) == (action.increment, action.new_score)
            SEEN["same body"] += 1

    def _accept(self, action: Action, completion: Completion, by: Caller, intake: Intake | None = None) -> object:
        """None, the stored action, or what was raised."""
        try:
            check_completion(
                self.database,
                self.world.web_catalogue,
                self.tokens,
                player=by.user_id,
                completion=completion,
                origin=ORIGIN,
            )
            return accept_action(
                intake or self.intakes[0], caller=by, player=by.user_id, completion=completion, origin=ORIGIN
            ).stored
        except CallerChanged:
            raise
        except (errors.ScoreboardError, OperationalError) as error:
            return error

    def _completion(self, action: Action, claimed_ms: int, points: int, wrong: str = "") -> Completion:
        """What the client sends; with ``wrong`` not as it should be."""
        reported = points if action.kind is ROUND else None
        token, proof_key = action.token, action.proof_key
        if wrong == "points":
            reported = None if action.kind is ROUND else points
        elif wrong == "more points":
            reported = 101
        elif wrong == "token":
            others = [each for each in self.life.actions if each is not action]
            token = others[0].token if others else token[:40] + ("A" if token[40] != "A" else "B") + token[41:]
        elif wrong == "spelling":
            # Base64 is read without what doesn't belong to it: the same bytes, but not what was handed out.
            token = f"{token[:40]}!{token[40:]}"
            assert self.tokens.open_action(token).action_id == action.id
        elif wrong == "key":
            foreign = TokenBox([Fernet.generate_key().decode()])
            token, proof_key = foreign.seal_action(action.id, action.player.id, action.kind.code)
        proof = Proof(claimed_ms, "", reported)
        checksum = proof_checksum(proof_key, str(action.id), proof)
        return Completion(action.id, token, replace(proof, checksum="0" * 64 if wrong == "checksum" else checksum))
