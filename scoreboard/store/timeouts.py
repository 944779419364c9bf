"""The longest waits for Postgres; after them it counts as down.

libpq waits without end for a server that is frozen: the kernel below it answers keepalives, and no time-out of
Postgres' own runs while Postgres doesn't. So the waiting is done here, and has a bound.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from psycopg2 import OperationalError
from psycopg2.extensions import (
    POLL_OK,
    POLL_READ,
    POLL_WRITE,
    STATUS_BEGIN,
    STATUS_PREPARED,
    STATUS_READY,
    set_wait_callback,
)

#: Waits until the descriptor is ready (to be written to, if the second is true), and says whether it is in time.
Wait = Callable[[int, bool, float], bool]

# Between two steps of connecting, each a round trip. libpq's own connect_timeout counts only where it waits itself.
CONNECT_S = 3.0
# More than Postgres gives any statement (see make_engine): its own error comes first, if there is one to come.
_MORE_THAN_STATEMENT_S = 2.0
_CONNECTED = (STATUS_READY, STATUS_BEGIN, STATUS_PREPARED)

_answer_timeout_s: ContextVar[float | None] = ContextVar("answer_timeout_s", default=None)


def give_up_on_silence(wait: Wait, statement_timeout_s: float) -> None:
    """Make silence an OperationalError in this process: no byte for longer than a statement may take.

    psycopg2 then closes the connection, and the statement may have been done or not.
    """
    answer_s = statement_timeout_s + _MORE_THAN_STATEMENT_S

    def wait_for(connection: Any) -> None:
        state = connection.poll()
        while state != POLL_OK:
            if state not in (POLL_READ, POLL_WRITE):
                raise OperationalError(f"unknown state of a connection: {state}")
            timeout_s = _answer_timeout_s.get() or answer_s
            bound_s = timeout_s if connection.status in _CONNECTED else min(CONNECT_S, timeout_s)
            if not wait(connection.fileno(), state == POLL_WRITE, bound_s):
                raise OperationalError(f"no answer within {bound_s:.0f} s")
            state = connection.poll()

    set_wait_callback(wait_for)


def wait_in_thread(descriptor: int, is_writing: bool, timeout_s: float) -> bool:
    """Blocks its thread: for processes without an event loop."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT if is_writing else select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


@contextmanager
def answer_timeout(seconds: float) -> Iterator[None]:
    """Wait so long for each answer in this thread or greenlet: less while a client waits, more for big work."""
    token = _answer_timeout_s.set(seconds)
    try:
        yield
    finally:
        _answer_timeout_s.reset(token)
