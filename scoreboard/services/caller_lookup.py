"""Who a session belongs to, and who a player is, asked for many requests in one question each."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from scoreboard.services.gather import Gather
from scoreboard.store import intake, sessions
from scoreboard.store.engine import Database
from scoreboard.store.intake import Player
from scoreboard.store.sessions import Caller

Found = tuple[Caller, bool] | None
# Ids in one question: an index lookup each, some milliseconds together. A crowd that
# comes back at once costs Postgres some dozen queries.
_BATCH_MAX = 500


class CallerLookup:
    """Both raise ServiceUnavailable when too many wait, and SQLAlchemy's errors when Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Gather[UUID, Found] = Gather(self._find, batch_max=_BATCH_MAX)
        self._players: Gather[UUID, Player | None] = Gather(self._find_players, batch_max=_BATCH_MAX)

    @property
    def waiting(self) -> int:
        """Requests that wait for the next question about sessions."""
        return self._sessions.waiting

    def find(self, session_id: UUID) -> Found:
        """The session's account and whether the session lives; None for no such session."""
        return self._sessions(session_id)

    def find_player(self, user_id: UUID) -> Player | None:
        """The account of this id."""
        return self._players(user_id)

    def _find(self, session_ids: Sequence[UUID]) -> list[Found]:
        with self._database.autocommit() as connection:
            found = sessions.get_callers(connection, set(session_ids))
        return [found.get(each) for each in session_ids]

    def _find_players(self, user_ids: Sequence[UUID]) -> list[Player | None]:
        with self._database.autocommit() as connection:
            found = intake.get_players(connection, set(user_ids))
        return [found.get(each) for each in user_ids]
