"""What is known of a request while it passes the door: one record, which ``enter`` writes."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

from flask import Request

from scoreboard.web.door.identity import NOBODY, Identity
from scoreboard.web.door.limiter import UNCOUNTED, Counting

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from scoreboard.store.intake import ServedPlayer
    from scoreboard.web.door.subject import Subject

_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_ID_BYTES = 16


class Record:
    """Under which id a request is logged, who calls, what was counted, and what it was refused with."""

    __slots__ = (
        "counting",
        "error_code",
        "identity",
        "request_id",
        "retry_after_s",
        "served_player",
        "started_at",
        "subject",
    )

    def __init__(self, asked_id: str | None) -> None:
        """``asked_id`` is the client's own, taken when it is a short plain word."""
        self.started_at = time.perf_counter()
        is_usable = asked_id is not None and _REQUEST_ID.match(asked_id)
        self.request_id: str = asked_id if asked_id and is_usable else os.urandom(_ID_BYTES).hex()
        self.identity: Identity = NOBODY
        self.subject: Subject | None = None
        self.served_player: ServedPlayer | None = None
        self.counting: Counting = UNCOUNTED
        self.error_code: str | None = None
        self.retry_after_s: int | None = None


class RecordedRequest(Request):
    """Flask's request with its record."""

    record: Record

    def __init__(self, environ: WSGIEnvironment, *arguments: Any, **options: Any) -> None:
        self.record = Record(environ.get("HTTP_X_REQUEST_ID"))
        super().__init__(environ, *arguments, **options)


def record_of(http: Request) -> Record:
    """The record of this request, also through Flask's proxy."""
    record: Record = http.record  # type: ignore[attr-defined]  # the application's request class has it
    return record
