"""The audit log as it is read: rows and applied actions in one list, each once, in pages."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
import sqlalchemy as sa

from scoreboard.domain.accounts import Role
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.store import audit
from scoreboard.store.audit import AuditEvent, Origin
from scoreboard.store.audit_trail import APPLIED, AuditFilter, AuditPosition, list_events
from scoreboard.store.engine import Database
from scoreboard.store.users import User
from tests.integration.conftest import Accepted, add_accepted, add_user


def read(database: Database, limit: int = 1_000, **wanted: object) -> list[AuditEvent]:
    """All pages of that length, each behind the cursor of the one before."""
    found: list[AuditEvent] = []
    place: AuditPosition | None = None
    while True:
        with database.read() as connection:
            page = list_events(connection, AuditFilter(**wanted), after=place, limit=limit)  # type: ignore[arg-type]
        found += [event for event, _ in page]
        if len(page) < limit:
            return found
        place = AuditPosition.of_parts(*page[-1].position.as_parts())


def settle(database: Database, catalogue: Catalogue, *players: User, **how: object) -> list[UUID]:
    ids = [add_accepted(database, player.id, Accepted(**how)) for player in players]  # type: ignore[arg-type]
    settle_actions(database, catalogue, ids)
    return ids


def test_an_applied_action_is_shown_with_who_and_from_where(database: Database, catalogue: Catalogue) -> None:
    player, server = add_user(database), add_user(database, role=Role.SYSTEM)
    (own,) = settle(database, catalogue, player)
    (served,) = settle(database, catalogue, player, issued_by=server.id, ip="2001:db8::1", user_agent="a game")
    by_server, by_player = read(database)
    assert (by_player.id, by_player.event, by_player.result) == (own, APPLIED, "success")
    assert (by_player.actor_id, by_player.target_id) == (player.id, player.id)
    assert by_player.origin == Origin("192.0.2.7", "a browser")
    assert by_player.details == {"actionId": str(own), "actionType": "SOLVE_PROBLEM", "increment": 1, "reason": None}
    assert (by_server.id, by_server.actor_id, by_server.target_id) == (served, server.id, player.id)
    assert by_server.origin == Origin("2001:db8::1", "a game")
    assert by_server.at
    assert by_player.at
    assert by_server.at > by_player.at


def test_what_was_not_applied_has_a_row_with_who_and_from_where(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    settle(database, catalogue, player, claimed_ms=60_000)
    (event,) = read(database)
    assert (event.event, event.result) == ("action.rejected", "denied")
    assert (event.actor_id, event.target_id, event.origin) == (player.id, player.id, Origin("192.0.2.7", "a browser"))


@pytest.fixture
def busy(database: Database, catalogue: Catalogue) -> tuple[User, User, User]:
    """Two players and a game server with a hundred events of every kind, some settled together."""
    chance = random.Random(7)
    ann, bob, server = add_user(database), add_user(database), add_user(database, role=Role.SYSTEM)
    for _ in range(30):
        settle(database, catalogue, *chance.choices((ann, bob), k=chance.randint(1, 4)))
        settle(database, catalogue, ann, issued_by=server.id)
        settle(database, catalogue, bob, claimed_ms=60_000)
        with database.write() as connection:
            target = chance.choice((ann, bob))
            audit.record(connection, AuditEvent("score.adjusted", actor_id=server.id, target_id=target.id))
    return ann, bob, server


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("event", [None, APPLIED, "action.rejected", "score.adjusted", "no.such"])
def test_pages_show_each_event_once_and_in_one_order(
    database: Database, busy: tuple[User, User, User], limit: int, event: str | None
) -> None:
    everything = read(database)
    assert len({event.id for event in everything}) == len(everything) > 120
    times = [each.at for each in everything]
    assert times == sorted(times, reverse=True)  # type: ignore[type-var]
    for user in (None, *busy):
        wanted = [
            each
            for each in everything
            if event in (None, each.event) and (user is None or user.id in (each.actor_id, each.target_id))
        ]
        assert read(database, limit, event=event, user_id=user and user.id) == wanted


def test_times_bound_the_list_on_both_sides(database: Database, busy: tuple[User, User, User]) -> None:
    everything = read(database)
    newest, oldest = everything[40].at, everything[90].at
    between = [each for each in everything if oldest and newest and each.at and oldest <= each.at < newest]
    assert read(database, 7, since=oldest, until=newest) == between
    for user in busy:
        own = [each for each in between if user.id in (each.actor_id, each.target_id)]
        assert read(database, 7, since=oldest, until=newest, user_id=user.id) == own


def test_what_an_earlier_release_settled_is_shown_from_its_rows_alone(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    (action_id,) = settle(database, catalogue, player)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE settlements SET shows_in_audit = false"))
        details = {"actionId": str(action_id)}
        audit.record(connection, AuditEvent(APPLIED, actor_id=player.id, target_id=player.id, details=details))
    settle(database, catalogue, player)
    for wanted in ({}, {"user_id": player.id}, {"event": APPLIED}):
        shown = read(database, **wanted)
        assert [each.event for each in shown] == [APPLIED, APPLIED]
        assert [isinstance(each.id, int) for each in shown] == [False, True]
