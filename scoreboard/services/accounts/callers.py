"""Looks up sessions and players, for many requests in one query each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from scoreboard.coalesce import Coalescer
from scoreboard.domain.accounts import Status
from scoreboard.store import intake, sessions
from scoreboard.store.engine import Database
from scoreboard.store.intake import ServedPlayer
from scoreboard.store.sessions import Caller, FoundCaller

# Ids in one query: an index lookup each, some milliseconds together. A crowd that
# comes back at once costs Postgres some dozen queries.
_BATCH_MAX = 500
# The callers of some minutes on one process; an entry takes about 500 bytes, so 10 MB at most.
_REMEMBERED_MAX = 20_000


class CallerLookup:
    """Both raise ServiceUnavailable when too many wait, and SQLAlchemy's errors when Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sessions: Coalescer[UUID, FoundCaller | None] = Coalescer(self._find, batch_max=_BATCH_MAX)
        self._players: Coalescer[UUID, ServedPlayer | None] = Coalescer(self._find_players, batch_max=_BATCH_MAX)
        self._remembered: OrderedDict[UUID, Caller] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Requests that wait for the next query of sessions."""
        return self._sessions.waiting

    def find(self, session_id: UUID) -> FoundCaller | None:
        """The session's account and whether the session lives; None for no such session."""
        return self._sessions(session_id)

    def remember(self, caller: Caller) -> None:
        """Keep this session's caller for ``recall``; the least recently used one is dropped first.

        Callers under special limits are not kept: they would still be limited after the limits have ended.
        """
        if caller.status is not Status.ACTIVE:
            return
        self._remembered[caller.session_id] = caller
        while len(self._remembered) > _REMEMBERED_MAX:
            self._remembered.popitem(last=False)

    def recall(self, session_id: UUID) -> Caller | None:
        """The caller as last seen; only for operations whose own statement rechecks it."""
        caller = self._remembered.get(session_id)
        if caller is not None:
            try:
                self._remembered.move_to_end(session_id)
            except KeyError:  # another thread has just dropped it
                return None
        return caller

    def forget(self, session_id: UUID) -> None:
        self._remembered.pop(session_id, None)

    def find_player(self, user_id: UUID) -> ServedPlayer | None:
        """The account of this id."""
        return self._players(user_id)

    def _find(self, session_ids: Sequence[UUID]) -> list[FoundCaller | None]:
        with self._database.autocommit() as connection:
            found = sessions.get_callers(connection, set(session_ids))
        return [found.get(session_id) for session_id in session_ids]

    def _find_players(self, user_ids: Sequence[UUID]) -> list[ServedPlayer | None]:
        with self._database.autocommit() as connection:
            found = intake.get_players(connection, set(user_ids))
        return [found.get(user_id) for user_id in user_ids]
