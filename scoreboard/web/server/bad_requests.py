"""Answers where the application can't: gunicorn fails before there is a request, or after the answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from gunicorn.http import errors

from config import Settings
from scoreboard import metrics
from scoreboard.domain.errors import ValidationFailed
from scoreboard.logs import UNIX_PEER
from scoreboard.web.api.refusals import BY_STATUS, INTERNAL_ERROR, bare_answer
from scoreboard.web.server.security_headers import steady_headers

log = structlog.get_logger(__name__)

_TOO_LONG: dict[type[BaseException], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
}
_NOT_HTTP = (ValidationFailed.code, "The request is not valid HTTP.")
# These say that something is wrong with us. The stubs don't know the last two yet.
_OUR_OWN = (
    errors.ConfigurationProblem,
    errors.InvalidResponseHeader,  # type: ignore[attr-defined]
    errors.InvalidResponseHeaderName,  # type: ignore[attr-defined]
)


def refuse(settings: Settings, request: Any, address: Any, error: BaseException) -> bytes:
    """The whole answer, logged and counted; ``address`` is the peer's own, as there are no headers to say more.

    gunicorn's own would be a page that quotes the request, without the service's headers, and
    its log would have the query string, with a ticket in it.
    """
    if isinstance(error, errors.ParseException) and not isinstance(error, _OUR_OWN):
        status = _TOO_LONG.get(type(error), HTTPStatus.BAD_REQUEST)
        code, message = BY_STATUS[status] if type(error) in _TOO_LONG else _NOT_HTTP
        # The kind says enough; the rest of the error is the sender's own words.
        log.warning("malformed_request", kind=type(error).__name__, ip=_host(address))
    else:
        status, (code, message) = HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR
        log.error("connection_failed", path=getattr(request, "path", None), ip=_host(address), exc_info=error)
    metrics.REFUSALS.labels(code).inc()
    headers, body = bare_answer(code, message)
    headers += [("Connection", "close"), *steady_headers(settings)]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("ascii") + body


def _host(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else UNIX_PEER
