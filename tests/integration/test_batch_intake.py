"""External ids on a real Postgres: how long they are remembered, and how they are forgotten."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from uuid_utils.compat import uuid7

from scoreboard.domain.accounts import Role, Status
from scoreboard.services.upkeep import housekeeping
from scoreboard.store import batch, sessions, users
from scoreboard.store.audit import Origin
from scoreboard.store.batch import BatchAction
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from scoreboard.store.tables import actions, external_ids
from tests.integration.conftest import add_user

_ORIGIN = Origin("192.0.2.7", "a game server")


@pytest.fixture
def caller(database: Database) -> Caller:
    server, session_id = add_user(database, role=Role.SYSTEM), uuid7()
    with database.write() as connection:
        sessions.insert_session(
            connection,
            session_id=session_id,
            user_id=server.id,
            refresh_id=uuid4(),
            ttl_s=600,
            ip=None,
            user_agent=None,
        )
    return Caller(server.id, session_id, server.username, Role.SYSTEM, Status.ACTIVE)


def finished(user_id: UUID, external_id: str, digest: bytes = b"a" * 32) -> BatchAction:
    now = datetime.now(UTC)
    return BatchAction(
        action_id=uuid7(),
        external_id=external_id,
        digest=digest,
        user_id=user_id,
        action_type="SOLVE_PROBLEM",
        metadata={},
        started_at=now - timedelta(seconds=5),
        completed_at=now,
        completion_time_ms=5_000,
        points=None,
        data=None,
    )


def accept(database: Database, caller: Caller, *wanted: BatchAction) -> set[UUID]:
    with database.autocommit() as connection:
        return batch.accept_batch(connection, caller, wanted, _ORIGIN)


def kept(database: Database, caller: Caller, user_id: UUID, external_id: str) -> UUID | None:
    with database.read() as connection:
        (found,) = batch.look_up_batch(connection, caller, [(user_id, external_id)]).kept
    return found and found.action_id


def age(database: Database, by: timedelta, *names: str) -> None:
    """Make these external ids older; all without names."""
    with database.write() as connection:
        query = sa.update(external_ids).values(created_at=external_ids.c.created_at - by)
        connection.execute(query.where(external_ids.c.external_id.in_(names)) if names else query)


def test_an_id_is_free_again_after_seven_days_also_before_it_is_forgotten(database: Database, caller: Caller) -> None:
    player = add_user(database).id
    first, second, third = (finished(player, "a") for _ in range(3))
    assert accept(database, caller, first) == {first.action_id}
    age(database, timedelta(days=6, hours=23))
    assert kept(database, caller, player, "a") == first.action_id
    assert accept(database, caller, second) == set()
    age(database, timedelta(hours=1, seconds=1))
    assert kept(database, caller, player, "a") is None
    assert accept(database, caller, third) == {third.action_id}
    assert kept(database, caller, player, "a") == third.action_id


def test_housekeeping_forgets_what_is_over_in_bounded_parts(
    database: Database, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = add_user(database).id
    accept(database, caller, *(finished(player, f"id-{nth}") for nth in range(20)))
    age(database, timedelta(days=8), *(f"id-{nth}" for nth in range(15)))
    monkeypatch.setattr(housekeeping, "_LIMIT", 4)
    monkeypatch.setattr(housekeeping, "_FORGET_MAX", 2)
    housekeeping.keep_house(database)
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(external_ids)).scalar_one() == 12
    monkeypatch.setattr(housekeeping, "_FORGET_MAX", 50)
    housekeeping.keep_house(database)
    with database.read() as connection:
        left = set(connection.execute(sa.select(external_ids.c.external_id)).scalars())
        assert connection.execute(sa.select(sa.func.count()).select_from(actions)).scalar_one() == 20
    assert left == {f"id-{nth}" for nth in range(15, 20)}


def test_batches_in_opposite_orders_never_deadlock(database: Database, caller: Caller) -> None:
    players = [add_user(database).id for _ in range(20)]
    names = [f"id-{nth}" for nth in range(200)]

    def send(nth: int) -> set[UUID]:
        order = names if nth % 2 else names[::-1]
        return accept(database, caller, *(finished(players[place % 20], name) for place, name in enumerate(order)))

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(send, range(4)))
        assert sum(map(len, answers)) == len(names), "each id once"
        age(database, timedelta(days=8))


def test_nothing_is_taken_from_a_caller_who_changed_or_for_a_player_who_may_not(
    database: Database, caller: Caller
) -> None:
    player, banned = add_user(database), add_user(database)
    with database.write() as connection:
        users.change_user(connection, banned.id, status=Status.BANNED.value)
    good, bad = finished(player.id, "good"), finished(banned.id, "bad")
    assert accept(database, caller, good, bad, finished(uuid4(), "nobody")) == {good.action_id}
    assert kept(database, caller, banned.id, "bad") is None, "a refused row is not remembered"
    with database.write() as connection:
        sessions.revoke(connection, caller.session_id, "a test")
    assert accept(database, caller, finished(player.id, "late")) == set()
    with database.read() as connection:
        assert not batch.look_up_batch(connection, caller, []).is_caller
