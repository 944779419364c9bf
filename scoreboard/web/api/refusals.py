"""The body of a refusal, the same from a view, the gate before the application, and the server itself."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import orjson

# A failure of ours; no answer says more about it.
INTERNAL_ERROR = ("INTERNAL_ERROR", "Something went wrong on our side.")


def refusal(code: str, message: str, details: Mapping[str, object] | None = None) -> dict[str, object]:
    """The body."""
    return {"success": False, "error": {"code": code, "message": message, "details": details or {}}}


def bare_answer(code: str, message: str) -> tuple[list[tuple[str, str]], bytes]:
    """Headers and body where no hook of the application sees the answer; the steady headers come on top."""
    body = orjson.dumps(refusal(code, message))
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Request-ID", uuid4().hex),
    ]
    return headers, body
