"""One clock for all processes: the database's, carried on by each process' own steady one.

One process writes a time, another one compares it: tokens, tickets, expiry. The clocks of their
machines may be minutes apart, and may be set while they run; the database has one clock.
"""

from __future__ import annotations

import threading
import time

import sqlalchemy as sa

from scoreboard.store.engine import UNAVAILABLE, Database

# Steady clocks drift by some seconds a day; the database's own may be set.
_ASK_EVERY_S = 30.0
# While Postgres is down the clock goes on from the last answer, and asks again this often at most.
_RETRY_S = 1.0
# The first caller waits for the first answer: as long as connecting may take.
_FIRST_WAIT_S = 3.0
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())")


class DatabaseClock:
    """Call it for the time in Unix seconds; only the first call waits for Postgres.

    Until Postgres has answered for the first time it is this machine's own time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # What to add to the steady clock.
        self._ahead_s = time.time() - time.monotonic()
        self._due_at = float("-inf")
        self._asking = threading.Lock()
        self._has_asked = threading.Event()

    def __call__(self) -> float:
        if time.monotonic() >= self._due_at and self._asking.acquire(blocking=False):
            threading.Thread(target=self._ask, name="database-clock", daemon=True).start()
        if not self._has_asked.is_set():
            self._has_asked.wait(_FIRST_WAIT_S)
        return time.monotonic() + self._ahead_s

    def _ask(self) -> None:
        asked_at = time.monotonic()
        self._due_at = asked_at + _RETRY_S
        try:
            with self._database.read() as connection:
                # Connecting is no part of the measured round trip.
                asked_at = time.monotonic()
                now = float(connection.execute(_NOW).scalar_one())
                answered_at = time.monotonic()
        except UNAVAILABLE:
            return
        else:
            self._ahead_s = now - (asked_at + answered_at) / 2
            self._due_at = answered_at + _ASK_EVERY_S
        finally:
            self._has_asked.set()
            self._asking.release()
