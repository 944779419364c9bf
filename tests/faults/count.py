"""The count after a fault: what clients know against PostgreSQL, Redis and the API, each asked directly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx
import redis
import sqlalchemy as sa

from scoreboard.live.standings import Standings
from scoreboard.services.upkeep.verify import verify
from scoreboard.store.engine import Database, make_engine
from tests.faults.attempts import Log
from tests.faults.tally import KEPT, Tally, find_doubled, find_ghosts, find_lost
from tests.service import Service

# After the end of the longest fault: a sweep every two seconds, a rebuild, a worker that takes its time to reconnect,
# and other tests on the same two cores. What is well later than that is not well.
WELL_WITHIN_S = 120.0
_LOOK_S = 0.1
# Actions whose state is also asked through the API, spread over all that were acknowledged.
_ASKED_MAX = 40
# More than the database connections of all web processes together.
_ASKED_AGAIN_MAX = 50

_ACTIONS = sa.text(
    """
    SELECT id::text, state, accepted_at IS NOT NULL AS is_accepted, score_increment, previous_score, new_score
    FROM actions WHERE user_id = ANY (CAST(:users AS uuid[])) AND state <> 'issued'
    """
)
_LEDGER = sa.text(
    """
    SELECT user_id::text, action_id::text, increment, previous_score, new_score
    FROM score_history WHERE user_id = ANY (CAST(:users AS uuid[])) ORDER BY user_id, seq
    """
)
_SCORES = sa.text("SELECT id::text, score, total_actions FROM users WHERE id = ANY (CAST(:users AS uuid[]))")
_BOARD = sa.text(
    "SELECT id::text, score FROM users WHERE status <> 'banned' AND NOT is_hidden "
    "ORDER BY score DESC, score_reached_at, id"
)
_UNDONE = sa.text(
    """
    SELECT (SELECT count(*) FROM actions WHERE state = 'accepted')
         + (SELECT count(*) FROM settlements WHERE announced_at IS NULL)
         + (SELECT count(*) FROM standing_outbox)
    """
)


class Auditor:
    """Asks one service's PostgreSQL and Redis, past any proxy, and its API."""

    def __init__(self, service: Service) -> None:
        self._service = service
        url = service.direct_env["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
        self._database = Database(make_engine(url, 4, name="auditor"))
        self._redis = redis.Redis.from_url(service.direct_env["REDIS_URL"], socket_timeout=5)
        self._http = httpx.Client(base_url=service.url, timeout=10)

    def close(self) -> None:
        self._http.close()
        self._redis.close()
        self._database.dispose()

    # -- waiting until all is well -------------------------------------------------------

    def wait_until_well(self, since: float, within_s: float = WELL_WITHIN_S) -> float:
        """Seconds from ``since`` (monotonic) until health says ok, all is settled and told, and the board is right."""
        deadline = time.monotonic() + within_s
        while (missing := self._missing()) is not None:
            assert time.monotonic() < deadline, f"not well within {within_s:.0f} s: {missing}; {self._health()}"
            time.sleep(_LOOK_S)
        return max(0.0, time.monotonic() - since)

    def _missing(self) -> str | None:
        """What is still wrong; None when all is well. Cheapest question first."""
        try:
            if undone := self._undone():
                return f"{undone} actions, settlements or standings are on their way"
            if (health := self._health()) != "ok":
                return f"health says {health}"
            if self._board_in_redis() != self._board_in_postgres():
                return "the board in Redis is not the one in PostgreSQL"
        except (sa.exc.DBAPIError, redis.RedisError, httpx.HTTPError) as error:
            return str(error).splitlines()[0]
        return None

    def _undone(self) -> int:
        with self._database.read() as connection:
            return int(connection.execute(_UNDONE).scalar_one())

    def _health(self) -> str:
        token = self._service.settings_env.get("OPERATOR_TOKEN")
        answer = self._http.get(
            "/health/detailed", headers={"Authorization": f"Bearer {token}"} if token else {}
        ).json()
        data = answer.get("data") or answer["error"]["details"]
        return "ok" if data["status"] == "ok" else str(data)

    def _board_in_postgres(self) -> list[tuple[str, int]] | None:
        with self._database.read() as connection:
            return [(row.id, row.score) for row in connection.execute(_BOARD)]

    def _board_in_redis(self) -> list[tuple[str, int]] | None:
        """Players in the order of the sorted set itself; None when nobody may be served from it."""
        if not Standings(self._redis).is_whole():
            return None
        rows: Any = self._redis.zrange("sb:{all}:standings", 0, -1, withscores=True)
        return [(str(UUID(bytes=member[8:])), -int(score)) for member, score in rows]

    # -- counting ------------------------------------------------------------------------

    def count(self, log: Log, kept: frozenset[str] = KEPT) -> Tally:
        """Compare what the clients know with everything there is; the service has to be well."""
        tally = Tally(len(log.acknowledged), len(log.unknown))
        with self._database.read() as connection:
            users = {"users": sorted(log.users)}
            actions = {row.id: row for row in connection.execute(_ACTIONS, users)}
            ledger = connection.execute(_LEDGER, users).all()
            scores = {row.id: row for row in connection.execute(_SCORES, users)}
        find_lost(tally, log, actions, ledger, kept)
        find_doubled(tally, ledger)
        find_ghosts(tally, log, actions, ledger)
        self._find_disagreements(tally, scores, ledger)
        self._ask_about(tally, log, actions)
        tally.findings += [f"{each.what} was answered {each.status}: {each.body}" for each in log.surprises]
        tally.findings += verify(self._database, Standings(self._redis)).findings
        return tally

    def _find_disagreements(self, tally: Tally, scores: dict[str, Any], ledger: Sequence[Any]) -> None:
        sums, entries = Counter[str](), Counter[str]()
        for entry in ledger:
            sums[entry.user_id] += entry.increment
            entries[entry.user_id] += entry.action_id is not None
        in_redis, in_api = dict(self._board_in_redis() or ()), self._board_in_api()
        for user_id, row in scores.items():
            said = (in_redis.get(user_id), row.score, sums[user_id], in_api.get(user_id))
            if len(set(said)) > 1:
                tally.disagreements.append(f"player {user_id}: Redis, PostgreSQL, ledger and API say {said}")
            if row.total_actions != entries[user_id]:
                tally.doubled.append(f"player {user_id}: {row.total_actions} actions, {entries[user_id]} in the ledger")

    def _board_in_api(self) -> dict[str, int]:
        scores: dict[str, int] = {}
        while True:
            answer = self._ask(f"/v1/leaderboard?limit=100&offset={len(scores)}")
            answer.raise_for_status()
            rows = answer.json()["data"]["leaderboard"]
            scores |= {row["userId"]: row["score"] for row in rows}
            if len(rows) < 100:
                return scores

    def _ask(self, path: str, **headers: str) -> httpx.Response:
        """As every client would: 503 means to ask again. Each pooled connection that a fault has cut gives one."""
        for _ in range(_ASKED_AGAIN_MAX):
            answer = self._http.get(path, headers=headers)
            if answer.status_code != 503:
                break
        return answer

    def _ask_about(self, tally: Tally, log: Log, actions: dict[str, Any]) -> None:
        """What the players themselves are told of their actions, for some of them."""
        told = [each for each in log.acknowledged if each.token]
        for attempt in told[:: max(1, len(told) // _ASKED_MAX)][:_ASKED_MAX]:
            answer = self._ask(f"/v1/actions/{attempt.action_id}", Authorization=f"Bearer {attempt.token}")
            row = actions.get(attempt.action_id)
            status = answer.json()["data"]["status"] if answer.is_success else answer.status_code
            if row is None or status != row.state:
                tally.disagreements.append(f"action {attempt.action_id}: the API says {status}")
