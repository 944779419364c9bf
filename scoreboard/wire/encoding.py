"""JSON as the service writes it: ids and times as their own types, times in UTC with a ``Z``."""

from __future__ import annotations

import orjson


def to_json(value: object) -> bytes:
    """One line of JSON. Times must be in UTC, as those of the database's sessions and of ``datetime.now(UTC)`` are."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
