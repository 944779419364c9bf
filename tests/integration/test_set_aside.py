"""Actions that can't be settled now: their neighbours are, also those far behind them, and nothing of them is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import sqlalchemy as sa

from scoreboard.domain.actions import State
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.judge import Settled
from scoreboard.services.actions.retry import retry_failed
from scoreboard.services.actions.settle import SettledOldest, settle_actions, settle_oldest
from scoreboard.services.actions.sweep import sweep
from scoreboard.services.upkeep.verify import verify
from scoreboard.store.engine import Database
from scoreboard.store.tables import actions, audit_log
from tests.integration.conftest import Accepted, add_accepted, add_user


def states(settled: list[Settled]) -> dict[UUID, State]:
    return {each.outcome.action_id: each.outcome.state for each in settled}


@contextmanager
def held(database: Database, user_id: UUID) -> Iterator[None]:
    """Another session holds this player's row, without a bound."""
    with database.write() as connection:
        connection.execute(sa.text("SELECT 1 FROM users WHERE id = :id FOR UPDATE"), {"id": user_id})
        yield


def test_a_held_player_holds_up_nobody_else(database: Database, catalogue: Catalogue) -> None:
    busy, free = add_user(database), add_user(database)
    waiting, *others = [add_accepted(database, each.id) for each in (busy, free, free)]
    with held(database, busy.id):
        assert states(settle_actions(database, catalogue, [waiting, *others])) == dict.fromkeys(others, State.APPLIED)
    assert states(settle_actions(database, catalogue, [waiting, *others])) == {waiting: State.APPLIED}
    assert verify(database, None).findings == []


def test_a_sweep_looks_past_what_it_can_not_settle(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    busy, free = add_user(database), add_user(database)
    oldest = [
        add_accepted(database, busy.id, Accepted(issued_s=-90, accepted_s=-60 + 2 * place, claimed_ms=1))
        for place in range(4)
    ]
    behind = add_accepted(database, free.id, Accepted(accepted_s=-5, claimed_ms=1))
    with held(database, busy.id):
        # Fuller than full of them: what is behind would never have its turn.
        first = settle_oldest(database, catalogue, older_than_s=0, limit=4)
        assert first == SettledOldest([], set(oldest))
        done = settle_oldest(database, catalogue, older_than_s=0, limit=4, passing_over=first.left)
        assert states(done.settled) == {behind: State.APPLIED}
    assert sweep(database, catalogue, standings, events, older_than_s=0).outcomes == {State.APPLIED: 4}


def test_failed_actions_get_another_chance_once_their_cause_is_gone(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    unknown = add_accepted(database, player.id, Accepted("GONE", accepted_s=-3, claimed_ms=1))
    counted = add_accepted(database, player.id)
    settle_actions(database, catalogue, [counted])
    with database.write() as connection:
        connection.execute(sa.update(actions).where(actions.c.id == counted).values(state="accepted"))
    ids = [unknown, counted]
    assert states(settle_actions(database, catalogue, ids)) == dict.fromkeys(ids, State.FAILED)
    with database.write() as connection:
        connection.execute(sa.update(actions).where(actions.c.id == unknown).values(action_type="SOLVE_PROBLEM"))
    assert retry_failed(database) == 2
    # What is in the ledger already is not counted again.
    again = states(settle_oldest(database, catalogue, older_than_s=0, limit=10).settled)
    assert again == {unknown: State.APPLIED, counted: State.FAILED}
    with database.read() as connection:
        score = connection.execute(sa.text("SELECT score FROM users WHERE id = :id"), {"id": player.id}).scalar_one()
        told = connection.execute(sa.select(audit_log.c.event).where(audit_log.c.event == "action.retried")).all()
    assert score == 2
    assert len(told) == 2
    assert retry_failed(database) == 1
