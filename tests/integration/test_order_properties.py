"""Order and ranks on boards of any kind: Redis against Postgres against a sorted list."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import redis
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from scoreboard.domain.accounts import normalise_username
from scoreboard.domain.actions import State
from scoreboard.domain.errors import NotFound
from scoreboard.domain.ledger import GENESIS
from scoreboard.domain.standings import DEFAULT_BOARD, Standing
from scoreboard.live.standings import Standings
from scoreboard.live.stream.events import EventLog
from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.boards.build import rebuild_board
from scoreboard.services.boards.read import BoardReader
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import board as board_store
from scoreboard.store.engine import Database
from scoreboard.store.tables import standing_outbox, users
from tests.integration.board_model import BoardModel, Moved, around, rows, rows_of
from tests.integration.conftest import Accepted, add_accepted, add_user
from tests.integration.effort import LIMIT_S, effort

pytestmark = pytest.mark.timeout(LIMIT_S)
START = datetime(2026, 1, 1, tzinfo=UTC)
SCORE_MAX = 2**53 - 1
# One call may apply so many; a worker's settlement has up to a thousand.
MANY = 200


def is_name(text: str) -> bool:
    try:
        return normalise_username(text) == text
    except ValueError:
        return False


# Few different values make ties; the ends are where doubles and signs would go wrong.
scores = st.sampled_from([0, 0, 1, 9, 10, 99, 100]) | st.integers(SCORE_MAX - 2, SCORE_MAX) | st.integers(0, SCORE_MAX)
moments = (
    st.sampled_from([0, 0, 1, 1_000_000, 60_000_000]).map(lambda us: START + timedelta(microseconds=us))
    # The ends of what fits a double in microseconds.
    | st.sampled_from([datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(2255, 1, 1, tzinfo=UTC)])
    | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone apart
)
# Some look like what Redis keeps beside a name: "version score visible name".
names = (
    st.sampled_from(["1 2 3 4", "0 0", "龍の子 🐉", "عمر خيام", "a\\b \"c\" 'd'", "{x} %s", "ǅ ß İ", "−1 +1"])
    | st.text(min_size=2, max_size=12).filter(is_name)
)  # fmt: skip
ids = (
    st.uuids()
    | st.integers(0, 9).map(lambda number: UUID(int=number))
    | st.integers(0, 9).map(lambda number: UUID(int=number << 120))
)
# A tenth is not on the board.
standings = st.builds(
    Standing, ids, names, scores, moments, st.integers(1, 5), st.sampled_from([True] * 9 + [False])
)  # fmt: skip
boards = st.lists(standings, min_size=1, max_size=25, unique_by=lambda each: each.user_id)


def write(database: Database, everyone: Sequence[Standing]) -> None:
    """Players with these standings, and no others; every other one who is hidden is so by a ban."""
    with database.write() as connection:
        connection.execute(sa.delete(standing_outbox))
        connection.execute(sa.delete(users))
        connection.execute(
            sa.insert(users),
            [
                {
                    "id": each.user_id,
                    # Unique keys are another test's: here any two may have the same name.
                    "username": each.username,
                    "username_key": str(number),
                    "email": "",
                    "email_key": str(number),
                    "password_hash": "none",
                    "status": "banned" if not each.is_visible and number % 2 else "active",
                    "is_hidden": not each.is_visible and number % 2 == 0,
                    "score": each.score,
                    "score_reached_at": each.reached_at,
                    "standing_version": each.version,
                    "ledger_hash": GENESIS,
                }
                for number, each in enumerate(everyone)
            ],
        )


def many(seed: int) -> list[Standing]:
    """Two hundred players with few different scores and moments."""
    chance = random.Random(seed)
    return [
        Standing(
            UUID(int=chance.getrandbits(128)),
            f"player {number}",
            chance.choice([0, 1, 2, SCORE_MAX - 1, SCORE_MAX]),
            START + timedelta(microseconds=chance.randrange(4)),
            1,
            chance.random() < 0.95,
        )
        for number in range(MANY)
    ]


def readers(database: Database, client: redis.Redis) -> list[BoardReader]:
    """One that is answered by Redis, and one that finds no whole board there."""
    return [BoardReader(database, Standings(client, board)) for board in (DEFAULT_BOARD, "never whole")]


def make_whole(standings: Standings) -> None:
    standings.begin_rebuild("a test")
    standings.finish_rebuild("a test")


def assert_all_agree(database: Database, client: redis.Redis, everyone: Sequence[Standing], page: int) -> None:
    """Whole, in pages, around each player and by rank: Redis and Postgres as the sorted list."""
    expected = rows(everyone)
    for reader in readers(database, client):
        whole = reader.read(offset=0, limit=len(everyone))
        assert rows_of(whole) == expected
        assert whole.total_players == len(expected)
        pages = [reader.read(offset=start, limit=page) for start in range(0, len(everyone) + page, page)]
        assert [row for each in pages for row in rows_of(each)] == expected
        assert rows_of(reader.read_top()) == expected[:10]
        # On large boards every so many of them.
        for each in everyone[:: 1 + len(everyone) // 30]:
            near = around(expected, each.user_id, radius=page)
            if not near:
                with pytest.raises(NotFound):
                    reader.read_around(each.user_id, radius=page)
                assert reader.rank_of(each.user_id)[0] is None
                continue
            assert rows_of(reader.read_around(each.user_id, radius=page)) == near
            rank = next(row[0] for row in expected if row[1] == each.user_id)
            assert reader.rank_of(each.user_id) == (rank, len(expected))


@effort(25)
@given(everyone=boards, page=st.integers(1, 7), is_rebuilt=st.booleans(), chance=st.randoms())
def test_redis_and_postgres_tell_the_same_order(
    database: Database,
    client: redis.Redis,
    everyone: list[Standing],
    page: int,
    is_rebuilt: bool,
    chance: random.Random,
) -> None:
    client.flushall()
    board = Standings(client)
    write(database, everyone)
    if is_rebuilt:
        assert rebuild_board(database, board, EventLog(client), batch=page) == len(everyone)
    else:
        make_whole(board)
        board.apply(chance.sample(everyone, len(everyone)))
    assert_all_agree(database, client, everyone, page)


@effort(2)
@given(seed=st.integers(0, 2**32))
def test_two_hundred_written_and_read_in_one_call(database: Database, client: redis.Redis, seed: int) -> None:
    client.flushall()
    board, everyone, model = Standings(client), many(seed), BoardModel()
    make_whole(board)
    write(database, everyone)
    applied = board.apply(everyone)
    assert [Moved(each.old_rank, each.new_rank, each.is_news) for each in applied.moves] == model.apply(everyone)
    assert applied.top_after == tuple(row[1] for row in rows(everyone))[: len(applied.top_after)]
    assert_all_agree(database, client, everyone, page=67)


# What one player's standings become: (score, moment, visible) of each version in turn.
histories = st.lists(
    st.lists(st.tuples(scores, moments, st.sampled_from([True] * 5 + [False])), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


@effort(80)
@given(histories=histories, chance=st.randoms(), batch=st.integers(1, 5))
def test_writes_in_any_order_and_number_tell_their_ranks_and_end_on_the_newest(
    client: redis.Redis, histories: list[list[tuple[int, datetime, bool]]], chance: random.Random, batch: int
) -> None:
    client.flushall()
    board, model = Standings(client), BoardModel(is_whole=True)
    make_whole(board)
    versions = [
        Standing(user_id, f"player {number}", score, moment, version, is_visible)
        for number, history in enumerate(histories)
        for user_id in [UUID(int=chance.getrandbits(128))]
        for version, (score, moment, is_visible) in enumerate(history, start=1)
    ]
    # Each comes at least once, some several times.
    writes = versions + chance.choices(versions, k=len(versions))
    chance.shuffle(writes)
    for start in range(0, len(writes), batch):
        part = writes[start : start + batch]
        before = tuple(row[1] for row in rows(model.newest.values()))
        applied = board.apply(part)
        moves = [Moved(each.old_rank, each.new_rank, each.is_news) for each in applied.moves]
        assert moves == model.apply(part)
        after = tuple(row[1] for row in rows(model.newest.values()))
        assert (applied.top_before, applied.top_after) == (before, after)
    newest = {each.user_id: each for each in versions}
    found = board.read(offset=0, limit=100)
    assert found is not None
    assert rows_of(found.board) == rows(newest.values())


@effort(10)
@given(
    # When the actions of two players were accepted, in seconds; as many of the one as of the other.
    accepted_s=st.lists(st.integers(0, 200), min_size=2, max_size=8, unique=True).filter(
        lambda some: not len(some) % 2
    ),
    chance=st.randoms(),
)
def test_who_was_first_does_not_depend_on_what_was_settled_first(
    database: Database, catalogue: Catalogue, accepted_s: list[int], chance: random.Random
) -> None:
    ann, bob = add_user(database), add_user(database)
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with database.write() as connection:
        both = sa.update(users).where(users.c.id.in_([ann.id, bob.id]))
        connection.execute(both.values(created_at=long_ago, score_reached_at=long_ago))
    half = len(accepted_s) // 2
    last = {ann.id: max(accepted_s[:half]), bob.id: max(accepted_s[half:])}
    ids = [
        add_accepted(database, player, Accepted(issued_s=second - 310.0, accepted_s=second - 300.0))
        for player, seconds in ((ann.id, accepted_s[:half]), (bob.id, accepted_s[half:]))
        for second in seconds
    ]
    for action_id in chance.sample(ids, len(ids)):
        (settled,) = settle_actions(database, catalogue, [action_id])
        assert settled.outcome.state is State.APPLIED
    with database.read() as connection:
        found = board_store.read_board(connection, offset=0, limit=100)
    mine = [entry.user_id for entry in found.entries if entry.user_id in last]
    assert mine == sorted(last, key=lambda user_id: last[user_id])
    assert verify(database, None).findings == []


def test_a_tie_goes_to_who_was_first_and_then_to_the_lower_id(database: Database, client: redis.Redis) -> None:
    """The contract's words by hand, beside the sorted list that could be wrong as well."""
    low, high = UUID(int=1), UUID(int=2**128 - 1)
    early, late = START, START + timedelta(microseconds=1)
    expected = [
        Standing(high, "more points", 6, late, 1, is_visible=True),
        Standing(UUID(int=7), "first to five", 5, early, 1, is_visible=True),
        Standing(low, "later, lower id", 5, late, 1, is_visible=True),
        Standing(UUID(int=2**127), "later, higher id", 5, late, 1, is_visible=True),
        Standing(UUID(int=3), "fewer points", 4, early, 1, is_visible=True),
    ]
    board = Standings(client)
    make_whole(board)
    write(database, expected[::-1])
    board.apply(expected[::-1])
    for reader in readers(database, client):
        found = reader.read(offset=0, limit=10)
        assert [(each.rank, each.user_id) for each in found.entries] == [
            (rank, each.user_id) for rank, each in enumerate(expected, start=1)
        ]


@pytest.mark.parametrize("score", [-1, SCORE_MAX + 1])
def test_no_score_is_negative_or_more_than_a_double_holds(database: Database, score: int) -> None:
    player = add_user(database)
    with pytest.raises(IntegrityError, match="ck_users_score"), database.write() as connection:
        connection.execute(sa.update(users).where(users.c.id == player.id).values(score=score))


def test_the_highest_scores_are_told_apart(client: redis.Redis) -> None:
    """Two doubles further they would be equal."""
    board = Standings(client)
    make_whole(board)
    best = Standing(uuid4(), "the best", SCORE_MAX, START + timedelta(1), 1, is_visible=True)
    second = replace(best, user_id=uuid4(), username="the second", score=SCORE_MAX - 1, reached_at=START)
    board.apply([second, best])
    found = board.read(offset=0, limit=2)
    assert found is not None
    assert rows_of(found.board) == rows([best, second])
