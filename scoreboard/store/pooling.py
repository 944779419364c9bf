"""Sets timeouts and time zone of each connection by means that connection poolers neither refuse nor lose.

PgBouncer refuses start-up options. Pooling by session, it keeps what a session sets, so
they are set once, behind the connect. Pooling by transaction, it hands the next transaction
to another server connection: then they are set for each transaction, in one message with
its first statement, and nothing is prepared by name.
"""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import event

from scoreboard.store.timeouts import CONNECT_S, answer_timeout

#: How a pooler between the service and PostgreSQL hands out connections; ``session`` also without a pooler.
Pooler = Literal["session", "transaction"]

#: For connections and transactions whose statements find rows by their keys. Left to itself PostgreSQL plans the larger
#: statements anew for each call, which costs it more than running them on ten rows; and in a young database it reads
#: ``actions`` from end to end until the first ANALYZE, a minute later.
#: Without statistics it also takes any index with a fitting predicate for as good as the right one, and then prefers
#: one that is a level lower: levels are priced by the cost of an operator.
PLANNED_ONCE = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "cpu_operator_cost": "0"}

#: Of ``connection.info`` where each transaction has to set its own: the statements that do so.
LOCAL_SETTINGS = "local_settings"
# There too, from a transaction's first statement to the next beginning.
_ARE_SET = "local_settings_are_set"


def apply_settings(engine: sa.Engine, settings: dict[str, str], pooler: Pooler) -> None:
    """Give each connection or each transaction of this engine these settings of the server."""
    if pooler == "session":
        statements = "; ".join(f"SET {name} = '{value}'" for name, value in settings.items())
        event.listen(engine, "connect", lambda connection, _record: _set_for_session(connection, statements))
        return
    statements = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items()) + "; "

    def remember(_connection: Any, record: Any) -> None:
        record.info[LOCAL_SETTINGS] = statements

    event.listen(engine, "connect", remember)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _set_with_statement, retval=True)


def settings_due(connection: sa.Connection, cursor: Any) -> str:
    """The settings to send in front of the next statement; empty when the session has them.

    An autocommitting connection sends them each time: both are one transaction.
    """
    info = connection.info
    statements: str = info.get(LOCAL_SETTINGS, "")
    if not statements or (info.get(_ARE_SET) and not cursor.connection.autocommit):
        return ""
    info[_ARE_SET] = True
    return statements


def _set_for_session(connection: Any, statements: str) -> None:
    is_autocommit, connection.autocommit = connection.autocommit, True
    # This is part of connecting and has the same timeout.
    with answer_timeout(CONNECT_S), connection.cursor() as cursor:
        cursor.execute(statements)
    connection.autocommit = is_autocommit


def _begin(connection: sa.Connection) -> None:
    connection.info.pop(_ARE_SET, None)


def _set_with_statement(
    connection: sa.Connection, cursor: Any, statement: str, parameters: Any, _context: Any, executemany: bool
) -> tuple[str, Any]:
    due = settings_due(connection, cursor)
    if due and (executemany or cursor.name):
        # Neither takes a second statement in its message.
        with cursor.connection.cursor() as before:
            before.execute(due)
        due = ""
    return due + statement, parameters
