"""A backlog is settled in large batches, shared by the workers, also with a bad row among them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from uuid_utils.compat import uuid7

from scoreboard.domain.actions import State
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.judge import Settled
from scoreboard.services.actions.settle import settle_actions, settle_oldest
from scoreboard.services.actions.sweep import sweep
from scoreboard.services.boards.announce import announce
from scoreboard.services.boards.build import ensure_board
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import settlements
from scoreboard.store.actions import get_actions, measure_backlog
from scoreboard.store.engine import Database
from scoreboard.store.tables import actions as actions_table
from scoreboard.store.tables import settlements as settlements_table
from tests.integration.conftest import add_user

# Few enough of each player's to be no burst.
PER_PLAYER = 8


def add_backlog(database: Database, count: int) -> list[UUID]:
    """Accepted actions, the oldest first, a millisecond apart and over a second old."""
    players = [add_user(database).id for _ in range(-(-count // PER_PLAYER))]
    start = datetime.now(UTC) - timedelta(seconds=1, milliseconds=count)
    rows = []
    for number in range(count):
        accepted_at = start + timedelta(milliseconds=number)
        rows.append(
            {
                "id": uuid7(),
                "user_id": players[number % len(players)],
                "action_type": "SOLVE_PROBLEM",
                "metadata": {},
                "token_hash": uuid4().bytes,
                "state": "accepted",
                "issued_at": accepted_at - timedelta(seconds=10),
                "expires_at": accepted_at + timedelta(seconds=290),
                "accepted_at": accepted_at,
                "completion_time_ms": 9_000,
            }
        )
    with database.write() as connection:
        connection.execute(sa.insert(actions_table), rows)
    return [UUID(str(row["id"])) for row in rows]


def sizes(database: Database) -> list[int]:
    """How many actions each settlement had, the largest first."""
    column = sa.func.cardinality(settlements_table.c.action_ids)
    with database.read() as connection:
        return list(connection.execute(sa.select(column).order_by(column.desc())).scalars())


def ids_of(settled: Sequence[Settled]) -> list[UUID]:
    return [each.outcome.action_id for each in settled]


def test_a_sweep_settles_a_backlog_in_few_transactions(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    ensure_board(database, standings, events)
    add_backlog(database, 2_300)
    swept = sweep(database, catalogue, standings, events, older_than_s=0, work_for_s=60)
    assert swept.outcomes == {"applied": 2_300}
    assert sizes(database) == [1_000, 1_000, 300]
    with database.read() as connection:
        left = measure_backlog(connection)
    assert (left.unsettled, left.unannounced) == (0, 0)
    assert verify(database, standings).findings == []


def test_a_sweep_begins_no_batch_after_its_time(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    add_backlog(database, 1_100)
    assert sweep(database, catalogue, standings, events, older_than_s=0, work_for_s=0).settled == 1_000
    assert sweep(database, catalogue, standings, events, older_than_s=0, work_for_s=0).settled == 100


def test_no_more_than_its_limit_is_taken_the_oldest_first(database: Database, catalogue: Catalogue) -> None:
    ids = add_backlog(database, 30)
    assert ids_of(settle_oldest(database, catalogue, older_than_s=0, limit=20).settled) == ids[:20]
    assert ids_of(settle_oldest(database, catalogue, older_than_s=0, limit=20).settled) == ids[20:]
    assert settle_oldest(database, catalogue, older_than_s=0, limit=20).claimed == 0


def test_young_rows_are_left_to_their_message(database: Database, catalogue: Catalogue) -> None:
    add_backlog(database, 3)
    assert settle_oldest(database, catalogue, older_than_s=60, limit=20).claimed == 0


def test_what_another_has_in_hand_is_skipped_without_waiting(database: Database, catalogue: Catalogue) -> None:
    ids = add_backlog(database, 20)
    with database.write() as connection:
        in_hand = settlements.lock_oldest(connection, older_than_s=0, limit=12)
        assert [action.id for action in in_hand] == ids[:12]
        assert ids_of(settle_oldest(database, catalogue, older_than_s=0, limit=12).settled) == ids[12:]
        assert settle_actions(database, catalogue, ids) == []
    assert ids_of(settle_actions(database, catalogue, ids)) == ids[:12]


def test_workers_at_once_share_a_backlog_and_settle_each_once(database: Database, catalogue: Catalogue) -> None:
    ids = add_backlog(database, 400)

    def work(number: int) -> list[Settled]:
        done: list[Settled] = []
        while batch := settle_oldest(database, catalogue, older_than_s=0, limit=25 + number).settled:
            done += batch
        # Told of all of them as well, as by a message that comes late.
        return done + settle_actions(database, catalogue, ids[:: number + 1])

    with ThreadPoolExecutor(4) as pool:
        done = [settled for batch in pool.map(work, range(4)) for settled in batch]
    assert sorted(ids_of(done)) == sorted(ids)
    assert {each.outcome.state for each in done} == {State.APPLIED}
    assert verify(database, None).findings == []


def test_what_the_database_refuses_in_a_backlog_fails_alone(database: Database, catalogue: Catalogue) -> None:
    ids = add_backlog(database, 40)
    poisoned = ids[17]
    settle_actions(database, catalogue, [poisoned])
    # A row put back by hand: its ledger entry is there, so the unique key refuses a second one.
    with database.write() as connection:
        connection.execute(sa.update(actions_table).where(actions_table.c.id == poisoned).values(state="accepted"))
    done = settle_oldest(database, catalogue, older_than_s=0, limit=40).settled
    states = {each.outcome.action_id: each.outcome.state for each in done}
    assert states == {each: State.FAILED if each == poisoned else State.APPLIED for each in ids}
    # The neighbours went in halves, not one by one: 20, 10, 5, … beside the bad one.
    assert len(sizes(database)) < 12


def test_what_was_settled_without_redis_is_told_by_one_sweep(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    ids = add_backlog(database, 48)
    ensure_board(database, standings, events)
    for start in range(0, len(ids), 2):
        settle_actions(database, catalogue, ids[start : start + 2])
    assert sweep(database, catalogue, standings, events, older_than_s=-1, work_for_s=60).announced == 48
    told = {entry.action_id for entry in events.latest(1_000)}
    assert told >= set(ids)


def test_each_action_keeps_its_own_ranks(
    database: Database, catalogue: Catalogue, standings: Standings, events: EventLog
) -> None:
    ids = add_backlog(database, 2 * PER_PLAYER)
    ensure_board(database, standings, events)
    settled = settle_actions(database, catalogue, ids)
    assert announce(database, standings, events, settled)
    # Two players in turn: who has one more is first.
    with database.read() as connection:
        found = {each.id: (each.previous_rank, each.rank) for each in get_actions(connection, ids)}
    assert [found[each] for each in ids[:4]] == [(1, 1), (2, 2), (1, 1), (2, 2)]
    # Told once more, as after a reply that got lost, the ranks of the first time stay.
    assert announce(database, standings, events, settled)
    with database.read() as connection:
        assert found == {each.id: (each.previous_rank, each.rank) for each in get_actions(connection, ids)}
