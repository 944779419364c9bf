"""The meaning of each header that the API reads or answers, with its schema and an example."""

from __future__ import annotations

from typing import Any

#: Request headers: text, schema, example.
HEADERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "X-Request-ID": (
        "id of the request in the logs: up to 64 letters, digits, `.`, `_`, `-`; without it the service makes one",
        {"type": "string"},
        "checkout-17",
    ),
    "X-CSRF-TOKEN": (
        "with cookies only: the value of the cookie `csrf_access_token` (for a refresh `csrf_refresh_token`)",
        {"type": "string"},
        "5f0c1e4e-8a53-4a3c-9a7e-1f1f6d1e6a11",
    ),
    "Prefer": ("`wait=N`: wait up to N seconds for the outcome, at most 10", {"type": "string"}, "wait=5"),
    "If-None-Match": ("the `ETag` that you have: 304 while nothing has changed", {"type": "string"}, 'W/"5d41402a"'),
    "Last-Event-ID": (
        "the last received id: events missed since then come first",
        {"type": "string"},
        "1795788309250:42",
    ),
    "Idempotency-Key": (
        "the same request under the same key changes nothing for a day and gets the first answer",
        {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[\\x20-\\x7e]+$"},
        "2f1c9d54-6c0b-4f0e-9a3f-0d1a5b7c8e90",
    ),
}

#: Response headers: text, schema, example.
RESPONSE_HEADERS: dict[str, tuple[str, dict[str, Any], Any]] = {
    "X-Request-ID": ("id of the request in the logs", {"type": "string"}, "checkout-17"),
    "Date": ("the server's time", {"type": "string"}, "Fri, 27 Nov 2026 14:05:09 GMT"),
    "ETag": ("names this state of the answer", {"type": "string"}, 'W/"5d41402a"'),
    "Preference-Applied": ("the preference that was followed", {"type": "string"}, "wait=5"),
    "Retry-After": ("seconds after which to try again", {"type": "integer", "minimum": 1}, 2),
    "WWW-Authenticate": ("how to sign in", {"type": "string"}, "Bearer"),
    "Set-Cookie": ("the cookies, where they were asked for", {"type": "string"}, "access_token_cookie=…; HttpOnly"),
    "X-RateLimit-Limit": ("calls per window", {"type": "integer"}, 60),
    "X-RateLimit-Remaining": ("calls left in the window", {"type": "integer"}, 59),
    "X-RateLimit-Reset": ("end of the window, in seconds since 1970", {"type": "number"}, 1795788360),
}
