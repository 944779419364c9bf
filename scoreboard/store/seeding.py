"""Many players and sessions at once, by COPY: a fifth of the cost of inserting them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime

import psycopg2
import sqlalchemy as sa

from scoreboard.domain.ledger import GENESIS
from scoreboard.store.driver_errors import give_up

# Characters with a meaning of their own in COPY's text format.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_PLAYER_COLUMNS = "id, username, username_key, password_hash, score_reached_at, created_at, ledger_hash"


def copy_players(
    connection: sa.Connection,
    players: Iterable[tuple[str, str]],
    *,
    password_hash: str,
    at: datetime,
) -> None:
    """Players by id and case-folded name, with one password and no points.

    Raises the driver's IntegrityError when one is there already.
    """
    # Two backslashes: the first is COPY's, the second begins the bytes.
    rest = f"{password_hash.translate(_ESCAPES)}\t{at.isoformat()}\t{at.isoformat()}\t\\\\x{GENESIS.hex()}\n"
    lines = []
    for user_id, username in players:
        name = username.translate(_ESCAPES)
        lines.append(f"{user_id}\t{name}\t{name}\t{rest}")
    _copy(connection, f"users ({_PLAYER_COLUMNS})", lines)


def copy_sessions(connection: sa.Connection, sessions: Iterable[tuple[str, str, str]], *, expires_at: datetime) -> None:
    """Sessions by id, player and refresh id."""
    end = f"\t{expires_at.isoformat()}\n"
    lines = ["\t".join(session) + end for session in sessions]
    _copy(connection, "sessions (id, user_id, refresh_id, expires_at)", lines)


def _copy(connection: sa.Connection, target: str, lines: list[str]) -> None:
    copy = f"COPY {target} FROM STDIN"
    try:
        with closing(connection.connection.cursor()) as cursor:
            cursor.copy_expert(copy, io.StringIO("".join(lines)))
    except psycopg2.Error as error:
        raise give_up(connection, copy, error) from error
