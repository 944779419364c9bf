"""Answers: Flask's response, without the copies that it makes of its headers on the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from flask import Response
from werkzeug.datastructures import Headers

from scoreboard.wire.encoding import to_json

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The others have no body, or none of their own.
_PLAIN_STATUSES = range(200, 600)
_WITHOUT_BODY = frozenset({204, 304})


class Answer(Response):
    """The application's response class."""

    #: The code of a refusal, for the log.
    error_code: str | None = None
    #: Headers that the last step adds, after everybody who looks at headers.
    late_headers: Sequence[tuple[str, str]] = ()

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        headers = super().get_wsgi_headers(environ)
        for name, value in self.late_headers:
            headers.add(name, value)
        return headers

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        body = self.response
        # Asking the headers themselves makes an exception for each that is missing.
        names = {name.lower() for name, _ in self.headers}
        is_plain = (
            type(body) is list
            and len(body) == 1
            and environ["REQUEST_METHOD"] != "HEAD"
            and self.status_code in _PLAIN_STATUSES
            and self.status_code not in _WITHOUT_BODY
            and "location" not in names
            and "content-length" in names
        )
        if not is_plain:
            return super().__call__(environ, start_response)
        start_response(self.status, [*self.headers, *self.late_headers])
        return body  # type: ignore[return-value]  # one piece of bytes


def answer(data: Mapping[str, object], status: int = 200) -> Answer:
    """A successful answer; private ones are not to be kept by any cache."""
    return json_answer({"success": True, "data": data}, status)


def json_answer(content: Mapping[str, object], status: int) -> Answer:
    """These contents, which no cache may keep."""
    body = to_json(content)
    headers = Headers(
        [
            ("Cache-Control", "no-store"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ]
    )
    return Answer([body], status, headers)
