"""Settling on a real Postgres: once, in any order, also beside a bad neighbour."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.accounts import Status
from scoreboard.domain.actions import MAX_SAFE_INTEGER, State
from scoreboard.domain.rules import Consequence, Mode, Rule, Severity
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import actions, users
from scoreboard.store.audit_trail import AuditFilter, list_events
from scoreboard.store.engine import Database
from scoreboard.store.tables import actions as actions_table
from scoreboard.store.tables import audit_log, fraud_signals
from scoreboard.store.tables import users as users_table
from tests.integration.conftest import Accepted, add_accepted, add_user


def state_of(database: Database, action_id: UUID) -> tuple[str, str | None]:
    with database.read() as connection:
        action = actions.get_action(connection, action_id)
    assert action is not None
    return action.state.value, action.reason


def score_of(database: Database, user_id: UUID) -> int:
    with database.read() as connection:
        user = users.get_user(connection, user_id)
    assert user is not None
    return user.score


def test_a_batch_is_scored_with_ledger_and_audit(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    ids = [
        add_accepted(database, player.id, Accepted("SOLVE_PROBLEM", accepted_s=-2)),
        add_accepted(database, player.id, Accepted("FINISH_ROUND", accepted_s=-1, points=42)),
        add_accepted(database, player.id, Accepted("COMPLETE_LEVEL", issued_s=-3, claimed_ms=3_000)),
    ]
    settled = settle_actions(database, catalogue, ids)
    assert [each.outcome.state for each in settled] == [State.APPLIED] * 3
    assert [each.outcome.score_increment for each in settled] == [1, 42, 10]
    assert [each.outcome.new_score for each in settled] == [1, 43, 53]
    assert score_of(database, player.id) == 53
    with database.read() as connection:
        events = [event.event for event, _ in list_events(connection, AuditFilter(), after=None, limit=10)]
        assert connection.execute(sa.select(audit_log.c.id)).all() == [], "action and ledger entry say it all"
    assert events == ["action.applied"] * 3
    assert verify(database, None).findings == []


def test_a_level_is_worth_less_the_longer_it_took_by_the_databases_clock(
    database: Database, catalogue: Catalogue
) -> None:
    player = add_user(database)
    times_s = (0.9, 1.1, 5.9, 15.0, 24.1, 299.0)
    # What the player claims to have needed does not matter.
    ids = [
        add_accepted(database, player.id, Accepted("TAP_NUMBERS", issued_s=-time_s, claimed_ms=1_000))
        for time_s in times_s
    ]
    settled = {each.outcome.action_id: each.outcome for each in settle_actions(database, catalogue, ids)}
    outcomes = [settled[action_id] for action_id in ids]
    assert outcomes[0].reason == "COMPLETION_TIME"
    assert [outcome.score_increment for outcome in outcomes[1:]] == [10, 10, 7, 5, 5]
    assert verify(database, None).findings == []


def test_any_number_of_deliveries_counts_once(database: Database, catalogue: Catalogue) -> None:
    players = [add_user(database) for _ in range(8)]
    ids = [add_accepted(database, random.choice(players).id) for _ in range(80)]
    deliveries = []
    for _ in range(3):
        shuffled = random.sample(ids, len(ids))
        deliveries += [shuffled[start : start + 20] for start in range(0, len(ids), 20)]
    random.shuffle(deliveries)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda batch: settle_actions(database, catalogue, batch), deliveries))
    # A row in another worker's hands is skipped: one more ring finds what was left.
    results.append(settle_actions(database, catalogue, ids))
    assert sorted(each.outcome.action_id for batch in results for each in batch) == sorted(ids)
    applied = [each for batch in results for each in batch if each.outcome.state is State.APPLIED]
    assert sum(score_of(database, player.id) for player in players) == len(applied)
    assert verify(database, None).findings == []


def test_rules_decide_and_leave_their_evidence(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    too_quick = add_accepted(database, player.id, Accepted("FINISH_ROUND", issued_s=-0.5, claimed_ms=400, points=9))
    liar = add_accepted(database, player.id, Accepted("FINISH_ROUND", claimed_ms=60_000, points=9))
    settle_actions(database, catalogue, [too_quick, liar])
    assert state_of(database, too_quick) == ("rejected", "COMPLETION_TIME")
    assert state_of(database, liar) == ("rejected", "CLOCK_MISMATCH")
    assert score_of(database, player.id) == 0
    with database.read() as connection:
        found = connection.execute(sa.select(fraud_signals.c.action_id, fraud_signals.c.rule)).all()
    assert {(row.action_id, row.rule) for row in found} == {(too_quick, "completion_time"), (liar, "clock_mismatch")}


def test_a_burst_is_held_also_across_batches(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    first = [
        add_accepted(database, player.id, Accepted(accepted_s=-5 + place / 10, claimed_ms=1)) for place in range(6)
    ]
    settle_actions(database, catalogue, first)
    second = [
        add_accepted(database, player.id, Accepted(accepted_s=-1 + place / 10, claimed_ms=1)) for place in range(4)
    ]
    settle_actions(database, catalogue, second)
    assert [state_of(database, each) for each in second] == [
        ("applied", None),
        ("applied", None),
        ("held", "BURST"),
        ("held", "BURST"),
    ]
    assert score_of(database, player.id) == 8


def test_a_poisoned_action_fails_alone_and_visibly(database: Database, catalogue: Catalogue) -> None:
    player, rich = add_user(database), add_user(database)
    with database.write() as connection:
        connection.execute(sa.update(users_table).where(users_table.c.id == rich.id).values(score=MAX_SAFE_INTEGER))
    good = add_accepted(database, player.id)
    unknown = add_accepted(database, player.id, Accepted("NO_LONGER_IN_THE_CATALOGUE"))
    overflowing = add_accepted(database, rich.id)
    settle_actions(database, catalogue, [unknown, good, overflowing])
    assert state_of(database, good) == ("applied", None)
    assert state_of(database, unknown) == ("failed", "INTERNAL_ERROR")
    assert state_of(database, overflowing) == ("failed", "INTERNAL_ERROR")
    assert score_of(database, player.id) == 1


def test_what_the_database_refuses_fails_alone(database: Database, catalogue: Catalogue) -> None:
    player, other = add_user(database), add_user(database)
    good = add_accepted(database, other.id)
    settled_before = add_accepted(database, player.id)
    settle_actions(database, catalogue, [settled_before])
    # A row put back by hand: its ledger entry is there, so the unique key refuses a second one.
    with database.write() as connection:
        connection.execute(
            sa.update(actions_table).where(actions_table.c.id == settled_before).values(state="accepted")
        )
    settle_actions(database, catalogue, [settled_before, good])
    assert state_of(database, settled_before) == ("failed", "INTERNAL_ERROR")
    assert state_of(database, good) == ("applied", None)
    assert score_of(database, player.id) == 1


def test_flagging_rules_apply_and_flag(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    always = Rule(
        "always",
        1,
        "ALWAYS",
        Severity.MEDIUM,
        Mode.ENFORCE,
        Consequence.FLAG,
        lambda _completion, _history: {"seen": 1},
    )
    shadow = replace(always, name="shadow", mode=Mode.SHADOW, consequence=Consequence.REJECT)
    action = add_accepted(database, player.id)
    settle_actions(database, catalogue, [action], [always, shadow])
    assert state_of(database, action) == ("applied", None)
    with database.read() as connection:
        user = users.get_user(connection, player.id)
        found = connection.execute(sa.select(fraud_signals.c.rule, fraud_signals.c.mode)).all()
    assert user is not None
    assert user.status is Status.FLAGGED
    assert {(row.rule, row.mode) for row in found} == {("always", "enforce"), ("shadow", "shadow")}
