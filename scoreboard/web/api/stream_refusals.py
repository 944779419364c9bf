"""A refused stream, told so that EventSource hears why.

EventSource shows scripts neither the status nor the headers of a refusal, and gives up for good. With
``?refusals=event`` the refusal is a stream of one event instead, ``refused``, with the status and what the plain answer
says: a page learns it from the same call that was refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from flask import Response

STREAM_PATH = "/v1/leaderboard/stream"
MIMETYPE = "text/event-stream"
# Refusals that a client can't mend in its request. The others are mistakes in the client, shown to its author.
_STATUSES = frozenset({401, 403, 429, 503})
# An EventSource left to itself comes back by this; the module closes it and keeps the time.
_RETRY_DEFAULT_S = 5


def is_wanted(path: str, query: str, status: int) -> bool:
    """Whether this answer is to be an event."""
    if path != STREAM_PATH or status not in _STATUSES:
        return False
    try:
        return parse_qs(query, max_num_fields=10).get("refusals") == ["event"]
    except ValueError:
        # More fields than any client of the stream sends.
        return False


def refused_frame(status: int, error: Mapping[str, Any], retry_after_s: int | None) -> bytes:
    """The whole body. ``error`` is what stands under that name in the plain answer."""
    data = orjson.dumps({"status": status, **error, "retryAfter": retry_after_s}).decode()
    retry_ms = (retry_after_s or _RETRY_DEFAULT_S) * 1000
    return f"retry: {retry_ms}\nevent: refused\ndata: {data}\n\n".encode()


def become_event(response: Response) -> None:
    """Turn a finished refusal into its event, in place."""
    error = response.get_json()["error"]
    retry_after = response.headers.get("Retry-After")
    response.set_data(refused_frame(response.status_code, error, int(retry_after) if retry_after else None))
    response.status_code = 200
    response.mimetype = MIMETYPE
    response.headers["Cache-Control"] = "no-store, no-transform"
    response.headers["X-Accel-Buffering"] = "no"
    # Both belong to the refusal's own status.
    for name in ("Retry-After", "WWW-Authenticate"):
        response.headers.pop(name, None)
