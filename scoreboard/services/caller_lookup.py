"""Who a session belongs to, asked for many requests in one question.

Every request with a credential asks. Those that come while a question is under way
wait for the next one, which asks for all of them: a lone request waits for nobody,
and a crowd that comes back at once costs Postgres some dozen queries.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from uuid import UUID

from scoreboard.domain.errors import ServiceUnavailable
from scoreboard.store import sessions
from scoreboard.store.engine import Database
from scoreboard.store.sessions import Caller

Found = tuple[Caller, bool] | None
# Ids in one question: an index lookup each, some milliseconds together.
_BATCH_MAX = 500
# Requests that may wait; more than a process can serve in the time they would wait.
_QUEUE_MAX = 5_000
# Longer than Postgres is given for any statement, so that its own error arrives first.
_WAIT_S = 20.0


class CallerLookup:
    """``find`` from any thread or greenlet; one background thread asks Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: queue.Queue[tuple[UUID, Future[Found]]] = queue.Queue(_QUEUE_MAX)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for the next question."""
        return self._waiting.qsize()

    def find(self, session_id: UUID) -> Found:
        """The session's account and whether the session lives; None for no such session.

        Raises ServiceUnavailable when too many wait, and SQLAlchemy's errors when Postgres is down.
        """
        answer: Future[Found] = Future()
        try:
            self._waiting.put_nowait((session_id, answer))
        except queue.Full:
            raise ServiceUnavailable(1) from None
        if self._thread is None:
            self._start()
        return answer.result(_WAIT_S)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="caller-lookup", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _BATCH_MAX:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            self._answer(batch)

    def _answer(self, batch: list[tuple[UUID, Future[Found]]]) -> None:
        try:
            with self._database.read() as connection:
                found = sessions.get_callers(connection, {session_id for session_id, _ in batch})
        except Exception as error:  # each of those who wait gets it; the thread must go on
            for _, answer in batch:
                answer.set_exception(error)
            return
        for session_id, answer in batch:
            answer.set_result(found.get(session_id))
