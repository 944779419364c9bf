"""The whole life of actions on a real Postgres and a real Redis, step by step beside a model in memory.

After each step both stores must be as the model says, and in the end, left alone, everything must come to rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
import structlog
from hypothesis.stateful import MultipleResults, run_state_machine_as_test

from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.store.engine import Database
from tests.integration.effort import LIMIT_S, effort
from tests.integration.life_cycle_machine import LifeCycle
from tests.integration.life_cycle_model import LEVEL, RETIRED, ROUND, SOLVE
from tests.integration.life_cycle_players import AMOUNTS, SEEN
from tests.integration.life_cycle_steps import WRONGS
from tests.integration.life_cycle_world import NoPasswords, World

pytestmark = pytest.mark.timeout(LIMIT_S)


@pytest.fixture
def world(database: Database, client: redis.Redis, catalogue: Catalogue) -> Iterator[World]:
    SEEN.clear()
    # What goes wrong on purpose would be told with long stack traces.
    with structlog.testing.capture_logs():
        yield World(database, client, catalogue, NoPasswords())


@pytest.fixture
def by_hand(world: World) -> Iterator[ByHand]:
    life = ByHand(LifeCycle(world))
    yield life
    life.machine.teardown()


class ByHand:
    """The same steps in a chosen order, as a random walk may not come by in a short run; each returns what is new."""

    def __init__(self, machine: LifeCycle) -> None:
        self.machine = machine

    def __getattr__(self, step: str) -> Callable[..., list[Any]]:
        def taken(*arguments: object, **named: object) -> list[Any]:
            new = getattr(self.machine, step)(*arguments, **named)
            self.machine.postgres_is_as_it_should_be()
            self.machine.redis_shows_what_it_was_told()
            return list(new.values) if isinstance(new, MultipleResults) else [new]

        return taken

    def issued(self, player: object, kind: object, count: int = 1, age_s: float = 4.0) -> list[Any]:
        return self.issue(player, kind, "medium", by_server=False, count=count, age_s=age_s)

    def completed(self, some: list[Any], claimed_ms: int = 3_000, *, is_same: bool = False) -> None:
        self.complete(some, claimed_ms, 7, is_same)


def assert_seen(*what: str) -> None:
    """Steps that never get anywhere prove nothing."""
    missing = [each for each in what if not SEEN[each]]
    assert not missing, f"never seen: {missing}; seen: {dict(SEEN)}"


def tell(life: ByHand, each: Iterable[Any]) -> None:
    for told in each:
        life.announce_again(told)


def test_every_way_through_an_actions_life_is_the_models(world: World) -> None:
    run_state_machine_as_test(partial(LifeCycle, world), settings=effort(12))  # type: ignore[arg-type]  # makes one
    assert_seen("applied", "held BURST", "left behind", "same body", "caller changed", "all told")


def test_settled_once_by_whoever_comes_and_whoever_dies(by_hand: ByHand) -> None:
    (ann,) = by_hand.begin(is_board_whole=True)
    (zoe,) = by_hand.join("Zoë", is_up=True)
    played = by_hand.play(ann, [1, 2, 3, 4, 0], apart_s=20)
    told = by_hand.settle([*played, *reversed(played)], is_told=True)
    burst = by_hand.issued(zoe, SOLVE, 6)
    by_hand.completed(burst)
    more = by_hand.issued(zoe, LEVEL, 5)
    by_hand.completed(more)
    by_hand.settle_and_die([*burst, *more], is_committed=False)
    by_hand.settle_at_once([*burst, *more, *played], seed=1)
    by_hand.sweep(is_up=False)
    odd = [*by_hand.issued(ann, LEVEL, age_s=0.0), *by_hand.issued(ann, RETIRED)]
    by_hand.completed(odd, 0)
    (liar,) = by_hand.issued(ann, ROUND)
    by_hand.completed([liar], 400_000)
    by_hand.settle_and_die([*odd, liar], is_committed=True)
    by_hand.sweep(is_up=True)
    tell(by_hand, told)
    for action in [*played, *burst, *more, *odd, liar]:
        by_hand.look_at(action)
    assert_seen("settled at once", "reply to settle lost", "left behind", "all told")
    by_hand.machine.teardown()
    assert_seen("applied", "held BURST", "rejected CLOCK_MISMATCH", "rejected COMPLETION_TIME", "failed INTERNAL_ERROR")


def test_a_token_is_good_once_in_time_and_for_its_owner(by_hand: ByHand) -> None:
    (ann,) = by_hand.begin(is_board_whole=True)
    by_hand.join("龍の子", is_up=True)
    first, other, unheard, kept, *_ = by_hand.issued(ann, SOLVE, 7)
    by_hand.complete_at_once(first, same=3, others=2)
    by_hand.completed([other, other])
    by_hand.completed([other], is_same=True)
    by_hand.completed([other], 1_500)
    by_hand.complete_without_reply(unheard)
    by_hand.completed([unheard], is_same=True)
    for wrong in WRONGS:
        by_hand.complete_wrongly(kept, wrong)
    (reported,) = by_hand.issued(ann, ROUND)
    for wrong in WRONGS:
        by_hand.complete_wrongly(reported, wrong)
    by_hand.keep_house()
    by_hand.completed([kept])
    late = by_hand.issued(ann, SOLVE, age_s=301.0)
    by_hand.completed(late)
    by_hand.keep_house()
    by_hand.completed(late)
    by_hand.settle([first, other, unheard, kept, *late], is_told=False)
    by_hand.completed([first, other, unheard, kept, *late], is_same=True)
    assert_seen("accepted at once", "same body", "another body", "late", "reply to accept lost", "too many open")
    assert_seen(*(f"wrong {wrong}" for wrong in WRONGS))


def test_a_completion_brings_the_next_action_once(by_hand: ByHand) -> None:
    (ann,) = by_hand.begin(is_board_whole=True)
    (first,) = by_hand.issued(ann, SOLVE)
    (second,) = by_hand.complete_for_next(first, LEVEL, "hard", 3)
    # The same token also under a new key.
    by_hand.keep_house()
    assert not by_hand.complete_for_next(first, SOLVE, "easy", 1)
    (third,) = by_hand.complete_for_next(second, SOLVE, "easy", 1)
    by_hand.settle([first, second], is_told=True)
    by_hand.complete_for_next(first, SOLVE, "easy", 2)
    by_hand.time_passes([third], 301.0)
    by_hand.complete_for_next(second, SOLVE, "easy", 1)
    assert not by_hand.complete_for_next(third, SOLVE, "easy", 1)
    by_hand.moderate(ann, "flag", is_up=False)
    (fourth,) = by_hand.issued(ann, SOLVE)
    assert by_hand.complete_for_next(fourth, SOLVE, "easy", 1)
    by_hand.moderate(ann, "ban", is_up=True)
    assert not by_hand.complete_for_next(fourth, SOLVE, "easy", 1)
    assert_seen("next issued", "the same next again", "what became of the next", "late", "session ended")


def test_the_moderated_are_out_at_once_and_keep_what_is_theirs(by_hand: ByHand) -> None:
    (ann,) = by_hand.begin(is_board_whole=True)
    (zoe,) = by_hand.join("Zoë", is_up=False)
    assert not by_hand.join("ZOE\u0308", is_up=True)
    for amount in AMOUNTS:
        by_hand.adjust(zoe, amount, is_up=amount != "+1")
    actions = by_hand.issued(ann, SOLVE, 3)
    by_hand.completed(actions[:1])
    by_hand.moderate(ann, "flag", is_up=False)
    by_hand.completed(actions[1:2])
    by_hand.moderate(ann, "clear", is_up=True)
    # From here on the web takes her for what she is again after the ban: only the session's end keeps her out.
    by_hand.completed(actions[:1])
    for act in ("ban", "flag", "clear"):
        by_hand.moderate(ann, act, is_up=True)
    by_hand.completed(actions)
    assert not by_hand.issued(ann, SOLVE)
    assert not by_hand.issue(ann, SOLVE, "", by_server=True, count=1, age_s=0.0)
    by_hand.sign_in(ann)
    by_hand.settle(actions, is_told=True)
    by_hand.read_around(ann, radius=1)
    by_hand.moderate(ann, "unban", is_up=False)
    by_hand.completed(actions)
    assert not by_hand.issued(ann, SOLVE)
    by_hand.sign_in(ann)
    by_hand.completed(actions)
    assert by_hand.issued(ann, SOLVE)
    for player in (ann, zoe):
        by_hand.read_around(player, radius=1)
        by_hand.read_player(player, limit=2)
    assert_seen("caller changed", "session ended", "ban", "unban", "flag", "clear")


def test_the_board_comes_back_from_every_loss(by_hand: ByHand) -> None:
    (ann,) = by_hand.begin(is_board_whole=False)
    (zoe,) = by_hand.join("عمر", is_up=True)
    by_hand.read_page(offset=0, limit=7)
    told = []
    for number, how in enumerate(("ensure", "compare", "rebuild")):
        by_hand.lose_the_board(is_wiped=number == 1)
        for player in (ann, zoe):
            played = by_hand.play(player, [5, 5], apart_s=30)
            told += by_hand.settle(played, is_told=number == 2)
            by_hand.read_around(player, radius=1)
        by_hand.refill(how)
        by_hand.publish_older(ann, age=2)
        tell(by_hand, told)
        by_hand.read_page(offset=0, limit=7)
    by_hand.moderate(zoe, "ban", is_up=False)
    by_hand.refill("compare")
    assert_seen("older standing refused", "all told")
