"""Actions that can't be settled, in one batch with others: each is set aside alone, and none gets lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg2
import redis

from scoreboard.live.queue.app import QUEUE, Ringer, make_celery
from tests.faults.attempts import Log
from tests.faults.conftest import StartTrial
from tests.faults.driver import Driver
from tests.faults.scale import Scale
from tests.functional.client import QUICK, Player, completion, create_staff, eventually, metric, pages, register
from tests.service import Service

NEIGHBOURS = 12
# What shares a batch with poison is settled by the next sweep at the latest: every two seconds, for rows that are three
# seconds old; halving takes some twenty transactions. Busy cores get six times as long.
NOT_HELD_UP_S = 30.0
FAILED = "scoreboard_settled_actions_total"


@dataclass(frozen=True)
class Sent:
    """An action that its player completed, and was told 202 for."""

    player: Player
    id: str

    @property
    def status(self) -> str:
        return str(self.player.action(self.id)["status"])


class Database:
    """What an operator, an old release or a bad disk may do to the tables; all of it is undone at the end."""

    def __init__(self, service: Service) -> None:
        self._url = service.direct_env["DATABASE_URL"]

    def execute(self, statement: str, *arguments: object) -> None:
        with psycopg2.connect(self._url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments)
        connection.close()

    @contextmanager
    def unknown_type(self, action: Sent) -> Iterator[None]:
        """As after a release whose catalogue has one type less."""
        self.execute("UPDATE actions SET action_type = 'GONE' WHERE id = %s", action.id)
        try:
            yield
        finally:
            self.execute("UPDATE actions SET action_type = %s WHERE id = %s", QUICK, action.id)

    @contextmanager
    def wrong_metadata(self, action: Sent) -> Iterator[None]:
        """The points can't be worked out: there is no factor for this word."""
        change = "UPDATE actions SET action_type = %s, metadata = %s WHERE id = %s"
        self.execute(change, "COMPLETE_LEVEL", '{"difficulty": "unheard of"}', action.id)
        try:
            yield
        finally:
            self.execute(change, QUICK, "{}", action.id)

    @contextmanager
    def refused(self, table: str, column: str, action: Sent) -> Iterator[None]:
        """PostgreSQL refuses every row of this table that is about the action."""
        name = f"refuse_{table}"
        self.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.{column} = '{UUID(action.id)}' THEN RAISE EXCEPTION 'refused by a test'; END IF; "
            "RETURN NEW; END $$"
        )
        try:
            self.execute(
                f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
            )
            yield
        finally:
            self.execute(f"DROP FUNCTION {name}() CASCADE")

    @contextmanager
    def locked(self, player: Player) -> Iterator[None]:
        """An operator's transaction holds an account's row for long."""
        connection = psycopg2.connect(self._url)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", (player.id,))
                yield
        finally:
            connection.close()


@dataclass
class Batch:
    """Actions accepted while the worker stands still: poison of every kind, and neighbours before and after it."""

    unknown: Sent
    wrong: Sent
    unwritable: Sent
    stuck: Sent
    locked: Sent
    neighbours: list[Sent]

    @property
    def in_order(self) -> list[Sent]:
        half = len(self.neighbours) // 2
        poison = [self.unknown, self.wrong, self.unwritable, self.stuck, self.locked]
        return [*self.neighbours[:half], *poison, *self.neighbours[half:]]

    @contextmanager
    def poisoned(self, database: Database) -> Iterator[None]:
        with ExitStack() as undoing:
            undoing.enter_context(database.unknown_type(self.unknown))
            undoing.enter_context(database.wrong_metadata(self.wrong))
            undoing.enter_context(database.refused("score_history", "action_id", self.unwritable))
            undoing.enter_context(database.refused("actions", "id", self.stuck))
            undoing.enter_context(database.locked(self.locked.player))
            yield


def send(player: Player, log: Log) -> Sent:
    action = player.request_action()
    attempt = log.attempt(action["actionId"], player.id, player.access_token)
    log.sent(attempt)
    answer = player.send(completion(action), wait_s=None)
    log.answered(attempt, answer.status_code, answer.json())
    return Sent(player, action["actionId"])


def statuses(actions: Sequence[Sent]) -> list[str]:
    return [action.status for action in actions]


def forget_messages(service: Service) -> None:
    """The broker loses what it holds: everything accepted is left to the sweep, in one batch."""
    client = redis.Redis.from_url(service.redis_url)
    client.delete(QUEUE)
    client.close()


def ring(service: Service, actions: Sequence[Sent]) -> None:
    """One message for all of them, as a busy doorbell sends."""
    with make_celery(service.redis_url) as celery:
        Ringer(celery)([UUID(action.id) for action in actions])


def test_poison_is_set_aside(fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale) -> None:
    for by_message in scale.pick((False,), (False, True)):
        set_aside(fault_service, driver, start_trial, by_message=by_message)


def set_aside(fault_service: Service, driver: Driver, start_trial: StartTrial, *, by_message: bool) -> None:
    way = "in one message" if by_message else "in one sweep"
    log = Log()
    players = [register(fault_service.url) for _ in range(NEIGHBOURS + 5)]
    database, poisoned = Database(fault_service), ExitStack()
    failed_before = metric(fault_service.url, FAILED, state="failed")
    with start_trial(
        f"poisoned actions {way}",
        "an unknown type, metadata without a factor, a refused ledger entry, a row that can't be changed, a player "
        "locked by an open transaction; then the causes go and `scoreboard retry`",
        "neighbours are settled at once; three end as failed, two stay accepted; then all are applied",
    ) as trial:
        with driver.frozen("worker"):
            unknown, wrong, unwritable, stuck, locked, *neighbours = [send(player, log) for player in players]
            batch = Batch(unknown, wrong, unwritable, stuck, locked, neighbours)
            forget_messages(fault_service)
            poisoned.enter_context(batch.poisoned(database))
        with poisoned:
            if by_message:
                ring(fault_service, batch.in_order)
            eventually(lambda: set(statuses(neighbours)), lambda found: found == {"applied"}, NOT_HELD_UP_S)
            failed = [unknown, wrong, unwritable]
            eventually(lambda: set(statuses(failed)), lambda found: found == {"failed"}, NOT_HELD_UP_S)
            # A later player is not held up either.
            newcomer = players[-1]
            send(newcomer, log)
            eventually(lambda: newcomer.score()["score"], lambda score: score == 2, NOT_HELD_UP_S)
            assert statuses([stuck, locked]) == ["accepted", "accepted"]
            assert_shown(fault_service, failed, failed_before)
        trial.hit(len(batch.in_order) - NEIGHBOURS)
        done = fault_service.run("retry")
        assert done.returncode == 0, done.stderr
        trial.count(fault_service, log)
        assert set(statuses(batch.in_order)) == {"applied"}


def assert_shown(service: Service, failed: Sequence[Sent], failed_before: float) -> None:
    """Operators see the actions set aside, and that some are stuck."""
    # Workers send their counts every two seconds.
    eventually(lambda: metric(service.url, FAILED, state="failed"), lambda count: count == failed_before + len(failed))
    assert metric(service.url, "scoreboard_unsettled_actions") == 2
    assert all(action.player.action(action.id)["reason"] == "INTERNAL_ERROR" for action in failed)
    events = pages(create_staff(service).api, "/v1/admin/audit", event="action.failed")
    assert {action.id for action in failed} <= {event["details"]["actionId"] for event in events}
