"""Pages of other sites: the named ones may call with bearer tokens and tickets; cookies stay with this site.

They may send and read every header that docs/api.md tells them to, also of a refusal that the gate
gives before the application: without that a browser shows them nothing but a broken connection.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from flask import Flask
from flask_cors import CORS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

ALLOWED_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Prefer",
    "X-CSRF-TOKEN",
    "X-Request-ID",
)
EXPOSED_HEADERS = (
    # By this an age is shown as the service's clock has it, not as the device's.
    "Date",
    "ETag",
    "Preference-Applied",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-ID",
)
_PATHS = ("/v1/", "/static/")
# The longest that Chromium keeps an answer; a preflight is a round trip before the first call of each kind.
PREFLIGHT_KEPT_S = 7_200


def allow_origins(app: Flask, origins: Collection[str]) -> None:
    """Let pages of these sites call. Register it when all views are there."""
    methods = {method for rule in app.url_map.iter_rules() for method in rule.methods or ()} - {"OPTIONS"}
    CORS(
        app,
        resources={f"{path}*": {"origins": list(origins)} for path in _PATHS},
        allow_headers=list(ALLOWED_HEADERS),
        expose_headers=list(EXPOSED_HEADERS),
        # All that there is; and to callers that name no origin of their own, nothing is said about those of others.
        methods=sorted(methods),
        always_send=False,
        max_age=PREFLIGHT_KEPT_S,
    )


def is_preflight(environ: Mapping[str, object]) -> bool:
    """Whether a browser only asks if a page may call: the answer costs no more than a refusal does."""
    return environ.get("REQUEST_METHOD") == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ


def refusal_headers(environ: WSGIEnvironment, origins: Collection[str]) -> list[tuple[str, str]]:
    """What lets a page of these sites read an answer that the application has not seen."""
    if not origins:
        return []
    vary = ("Vary", "Origin")
    origin = environ.get("HTTP_ORIGIN")
    if origin not in origins or not str(environ.get("PATH_INFO", "")).startswith(_PATHS):
        return [vary]
    return [
        vary,
        ("Access-Control-Allow-Origin", str(origin)),
        ("Access-Control-Expose-Headers", ", ".join(EXPOSED_HEADERS)),
    ]
