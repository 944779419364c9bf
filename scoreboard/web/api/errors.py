"""Translates exceptions into answers. No answer shows a stack trace, SQL or a server's name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus

import structlog
from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from scoreboard import metrics
from scoreboard.domain import errors
from scoreboard.domain.errors import RetryLater, ScoreboardError
from scoreboard.live.connection import UNAVAILABLE as REDIS_UNAVAILABLE
from scoreboard.store.engine import UNAVAILABLE as POSTGRES_UNAVAILABLE
from scoreboard.store.refusals import explain
from scoreboard.web.api.answers import Answer, json_answer
from scoreboard.web.api.operation import operation_of
from scoreboard.web.api.refusals import INTERNAL_ERROR, STATUS, ErrorInfo, refusal, refusal_by_status

log = structlog.get_logger(__name__)

# Our own paths are under 100 characters; the log keeps enough of others to recognise them.
PATH_MAX = 300
# A restart of PostgreSQL takes about this long.
_UNAVAILABLE_RETRY_S = 2


def register_errors(app: Flask) -> None:
    # Each path has one spelling: for `//` there would be a redirect in HTML, to an address made of the Host header.
    app.url_map.merge_slashes = False
    app.register_error_handler(ScoreboardError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    for part, kinds in (("postgres", POSTGRES_UNAVAILABLE), ("redis", REDIS_UNAVAILABLE)):
        for kind in kinds:
            app.register_error_handler(kind, partial(_unavailable, part))
    app.register_error_handler(Exception, _unexpected)


def refusal_within(error: Exception) -> ErrorInfo:
    """The same error as a part of an answer that succeeds, for what may fail beside it: code, message, details."""
    if isinstance(error, (*POSTGRES_UNAVAILABLE, *REDIS_UNAVAILABLE)):
        error = _as_unavailable("postgres" if isinstance(error, POSTGRES_UNAVAILABLE) else "redis", error)
    if not isinstance(error, ScoreboardError):
        log.error("part_failed", path=request.path[:PATH_MAX], exc_info=error)
        error = ScoreboardError()
    metrics.REFUSALS.labels(error.code).inc()
    return {"code": error.code, "message": error.message, "details": error.details}


def _refused(error: ScoreboardError) -> ResponseReturnValue:
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    headers = {}
    if isinstance(error, RetryLater):
        headers["Retry-After"] = str(error.retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(status, error.code, error.message, error.details, headers)


def _http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if status < HTTPStatus.BAD_REQUEST:
        return error
    code, message = refusal_by_status(status, otherwise=error.name)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and request.max_content_length:
        message = f"The body is larger than {request.max_content_length // 1024:,} KB."
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE and len(types := _body_types()) > 1:
        message = f"The Content-Type must be {' or '.join(types)}."
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers.setdefault("Retry-After", "1")
    return _answer(status, code, message, {}, headers)


def _body_types() -> Sequence[str]:
    """The types of body that the operation of this request takes."""
    operation = operation_of(current_app.view_functions.get(request.endpoint or ""))
    return operation.body_types if operation else ()


def _unavailable(part: str, error: Exception) -> ResponseReturnValue:
    return _refused(_as_unavailable(part, error))


def _as_unavailable(part: str, error: Exception) -> ScoreboardError:
    metrics.DEGRADED.labels(part, "request").inc()
    log.warning("dependency_unavailable", error=explain(error), kind=type(error).__name__)
    return errors.ServiceUnavailable(_UNAVAILABLE_RETRY_S)


def _unexpected(error: Exception) -> ResponseReturnValue:
    log.error("request_failed", path=request.path[:PATH_MAX], exc_info=error)
    return _answer(500, *INTERNAL_ERROR, {}, {})


def _answer(status: int, code: str, message: str, details: dict[str, object], headers: dict[str, str]) -> Answer:
    metrics.REFUSALS.labels(code).inc()
    response = json_answer(refusal(code, message, details), status)
    response.headers.update(headers)
    response.error_code = code
    return response
