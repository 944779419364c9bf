"""What a dying process leaves behind is picked up, once."""

from __future__ import annotations

from uuid import UUID, uuid4

import redis
import sqlalchemy as sa

from scoreboard.domain.accounts import Role, Status
from scoreboard.live.connection import make_client
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.accounts.passwords import Passwords
from scoreboard.services.accounts.register import register
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.actions.sweep import sweep
from scoreboard.services.boards.announce import announce
from scoreboard.services.boards.build import ensure_board
from scoreboard.services.moderation.decide import Moderation
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import actions
from scoreboard.store.actions import Action
from scoreboard.store.audit import Origin
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller
from tests.integration.conftest import Accepted, add_accepted, add_user

NOBODY = make_client("redis://127.0.0.1:1/0")


def read(database: Database, action_id: UUID) -> Action:
    with database.read() as connection:
        action = actions.get_action(connection, action_id)
    assert action is not None
    return action


def told_of(events: EventLog, action_id: UUID) -> list[list[str]]:
    """The kinds of events in each entry about this action."""
    return [[kind for _, kind, _ in entry.events()] for entry in events.latest(1_000) if entry.action_id == action_id]


def test_an_accepted_action_without_a_doorbell_is_settled_and_told(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    player = add_user(database)
    ensure_board(database, standings, events)
    action_id = add_accepted(database, player.id, Accepted(accepted_s=-4, claimed_ms=100))
    young = add_accepted(database, player.id)
    swept = sweep(database, catalogue, standings, events)
    assert (swept.settled, swept.announced) == (1, 0)
    assert read(database, action_id).announced_at is not None
    assert read(database, young).settled_at is None, "young rows are most likely on their way"
    assert told_of(events, action_id) == [["action:result", "score:update"]]


def test_an_outcome_whose_worker_died_before_telling_is_told_once(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    leader, player = add_user(database), add_user(database)
    ensure_board(database, standings, events)
    settle_actions(database, catalogue, [add_accepted(database, leader.id)])
    action_id = add_accepted(database, player.id, Accepted("FINISH_ROUND", points=50))
    settle_actions(database, catalogue, [action_id])
    for _ in range(2):
        sweep(database, catalogue, standings, events, older_than_s=-1)
    action = read(database, action_id)
    assert action.announced_at is not None
    assert action.rank == 1
    assert len(told_of(events, action_id)) == 1
    assert verify(database, standings).findings == []


def test_without_redis_actions_settle_and_are_told_later(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    player = add_user(database)
    action_id = add_accepted(database, player.id)
    settled = settle_actions(database, catalogue, [action_id])
    assert not announce(database, Standings(NOBODY), EventLog(NOBODY), settled)
    assert read(database, action_id).state == "applied"
    assert sweep(database, catalogue, Standings(NOBODY), EventLog(NOBODY), older_than_s=-1).announced == 0
    ensure_board(database, standings, events)
    assert sweep(database, catalogue, standings, events, older_than_s=-1).announced == 1


def test_accounts_made_and_banned_without_redis_get_there_later(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog, client: redis.Redis
) -> None:
    ensure_board(database, standings, events)
    away, silent = Standings(NOBODY), EventLog(NOBODY)
    sign_in = register(
        database,
        away,
        silent,
        Passwords(),
        username="Zoë",
        email="zoe@example.org",
        password="a fine pass phrase",
        refresh_ttl_s=60,
        origin=Origin("127.0.0.1", "test"),
    )
    banned = add_user(database)
    standings.apply([banned.standing])
    admin = Caller(uuid4(), uuid4(), "admin", Role.ADMIN, Status.ACTIVE)
    Moderation(database, away, silent, admin, Origin()).ban(banned.id, "cheating")
    assert sweep(database, catalogue, standings, events).published == 0, "young notes are most likely on their way"
    assert sweep(database, catalogue, standings, events, older_than_s=-1).published == 2
    found = standings.read(offset=0, limit=10)
    assert found is not None
    assert [entry.user_id for entry in found.board.entries] == [sign_in.user.id]
    assert verify(database, standings).findings == []


def test_a_tampered_ledger_shows(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    settle_actions(database, catalogue, [add_accepted(database, player.id) for _ in range(3)])
    for statement in (
        "UPDATE score_history SET increment = 2, new_score = previous_score + 2 WHERE seq = 2",
        "DELETE FROM score_history WHERE seq = 3",
        "UPDATE users SET score = 99",
        "UPDATE score_history SET at = at - interval '1 second' WHERE seq = 1",
        "UPDATE actions SET state = 'rejected' WHERE id = (SELECT action_id FROM score_history WHERE seq = 1)",
    ):
        with database.primary.connect() as connection:
            connection.execute(sa.text(statement))
            connection.commit()
        assert verify(database, None).finding_count > 0, statement
        settle_again(database, catalogue)


def settle_again(database: Database, catalogue: Catalogue) -> None:
    """Back to a ledger that is in order."""
    with database.write() as connection:
        connection.execute(sa.text("TRUNCATE users, actions, score_history, audit_log, fraud_signals CASCADE"))
    player = add_user(database)
    settle_actions(database, catalogue, [add_accepted(database, player.id) for _ in range(3)])
    assert verify(database, None).findings == []
