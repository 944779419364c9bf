"""A request's head: from bytes to a WSGI environ, or refused.

llhttp (through httptools) says what is HTTP; the rules behind it are gunicorn's and a few of our own. Nothing
is taken that gunicorn's own parser would refuse: ``tests/loops`` asks both. No sockets here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gunicorn.http.errors import (
    ConfigurationProblem,
    ExpectationFailed,
    InvalidHeader,
    InvalidHTTPVersion,
    InvalidRequestLine,
    InvalidRequestMethod,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.util import split_request_uri, unquote_to_wsgi_str
from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

END = b"\r\n\r\n"
# A whole head, as nginx takes it by default. An honest one has a token of 4 KB and as many cookies at most.
HEAD_MAX_BYTES = 32 * 1024
# gunicorn's rule for a method.
_UNKNOWN_METHOD = re.compile(rb"([A-Z0-9!$%&'*+\-.^_`|~]{3,20}) ")
_VERSIONS = {b"HTTP/1.1": "HTTP/1.1", b"HTTP/1.0": "HTTP/1.0"}
# Fields that cannot be joined with a comma: a second one makes the request mean two things.
_SINGLE = frozenset({"HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"})
# What would change the meaning of a request that has been read already (RFC 9110, 6.5.1).
_NOT_IN_TRAILERS = frozenset(
    {"HTTP_HOST", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_TRAILER", "HTTP_AUTHORIZATION", "HTTP_TE"}
)
_WRONG: dict[type[HttpParserError], Callable[[str], ParseException]] = {
    HttpParserInvalidURLError: InvalidRequestLine,
}


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """gunicorn's settings of these names: bytes of the request line, number of fields, bytes of each."""

    line: int
    fields: int
    field_size: int


@dataclass(slots=True)
class RequestHead:
    """The facts of a request that the server needs; the rest is in its environ."""

    environ: dict[str, Any]
    # Bytes of its body; None when it comes in chunks.
    length: int | None
    keeps_alive: bool
    expects_continue: bool

    @property
    def method(self) -> str:
        method: str = self.environ["REQUEST_METHOD"]
        return method

    @property
    def protocol(self) -> str:
        protocol: str = self.environ["SERVER_PROTOCOL"]
        return protocol

    @property
    def path(self) -> str:
        path: str = self.environ["PATH_INFO"]
        return path


class HeadParser:
    """Takes one head, in as many pieces as it comes, and refuses it at the first wrong byte."""

    __slots__ = ("_fields", "_limits", "_method", "_parser", "is_complete")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._fields: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        # One that llhttp does not know; the application says what it takes instead.
        self._method = b""
        self._parser = HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools' callback."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools' callback."""
        self.is_complete = True

    def feed(self, data: bytes) -> None:
        """The next bytes, none of them behind the head's end. Raises ParseException."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            # As gunicorn: no upgrade is made, and what follows a CONNECT is never read.
            pass
        except HttpParserInvalidMethodError as error:
            unknown = None if self._method else _UNKNOWN_METHOD.match(data)
            if unknown is None:
                raise InvalidRequestMethod(str(error)) from None
            self._method = unknown[1]
            self._parser = HttpRequestParser(self)
            self.feed(b"GET" + data[len(self._method) :])
        except HttpParserError as error:
            raise _WRONG.get(type(error), InvalidHeader)(str(error)) from None

    def finish(self, head: bytes, base: dict[str, Any]) -> RequestHead:
        """The request whose ``head`` was fed, empty line included; ``base`` is copied. Raises ParseException."""
        environ = base.copy()
        method, target, version = self.request_line(head)
        environ["REQUEST_METHOD"] = method
        environ["RAW_URI"] = target
        environ["SERVER_PROTOCOL"] = version
        _put_target(environ, method, target)
        self.put_fields(head, environ)
        return _framed(environ)

    def put_fields(self, head: bytes, environ: dict[str, Any]) -> None:
        """The header fields under their names in an environ. Raises ParseException."""
        if not self.is_complete:
            raise InvalidRequestLine("no end")
        self._check_size(head)
        for name, value in self._fields:
            key = _environ_key(name)
            if not key:
                continue
            text = value.decode("latin-1").rstrip(" \t")
            if key not in environ:
                environ[key] = text
            elif key in _SINGLE:
                raise InvalidHeader(key)
            else:
                environ[key] = f"{environ[key]},{text}"

    def request_line(self, head: bytes) -> tuple[str, str, str]:
        """Method, target and version: llhttp allows more spaces, protocols and versions. Raises ParseException."""
        end = head.find(b"\n") - 1
        if head[end : end + 1] != b"\r":
            raise InvalidRequestLine("no CR before the LF")
        if end > self._limits.line:
            raise LimitRequestLine(end, self._limits.line)
        method, _, rest = head[:end].partition(b" ")
        target, _, protocol = rest.partition(b" ")
        if not target or method != (self._method or self._parser.get_method()):
            # llhttp skips empty lines and blanks where they do not belong.
            raise InvalidRequestLine("not three words")
        if (version := _VERSIONS.get(protocol)) is None:
            raise InvalidHTTPVersion(protocol.decode("latin-1"))
        return method.decode("ascii"), target.decode("ascii"), version

    def _check_size(self, head: bytes) -> None:
        if len(self._fields) > self._limits.fields:
            raise LimitRequestHeaders("too many fields")
        # A line counts with its end.
        most = self._limits.field_size - 2
        if len(head) > most and any(len(line) > most for line in head.split(b"\r\n")[1:]):
            raise LimitRequestHeaders("a field is too long")


def check_trailers(lines: bytes, limits: HeadLimits) -> None:
    """Fields behind a body in chunks obey the rules of a head, although none is used. Raises ParseException."""
    parser = HeadParser(limits)
    head = b"GET / HTTP/1.1\r\n" + lines + END
    fields: dict[str, str] = {}
    parser.feed(head)
    parser.put_fields(head, fields)
    if not _NOT_IN_TRAILERS.isdisjoint(fields):
        raise InvalidHeader("not in trailers")


def _put_target(environ: dict[str, Any], method: str, target: str) -> None:
    if target.startswith("/") and "#" not in target and not target.startswith("//"):
        path, _, query = target.partition("?")
    else:
        path, query = _odd_target(method, target)
    if script_name := environ.get("SCRIPT_NAME"):
        if not path.startswith(script_name):
            raise ConfigurationProblem("the path does not start with SCRIPT_NAME")
        path = path[len(script_name) :]
    environ["QUERY_STRING"] = query
    environ["PATH_INFO"] = unquote_to_wsgi_str(path) if "%" in path else path


def _odd_target(method: str, target: str) -> tuple[str, str]:
    """Path and query of a target that is not simply a path."""
    if target == "*" and method != "OPTIONS":
        raise InvalidRequestLine("* is for OPTIONS")
    try:
        parts = split_request_uri(target)
    except ValueError:
        raise InvalidRequestLine("not an address") from None
    return parts.path or "", parts.query or ""


# Clients use a few dozen names; a flood of others costs a microsecond a field, and no more memory.
@lru_cache(maxsize=1_024)
def _environ_key(name: bytes) -> str:
    """Empty for a name with an underscore, which would pass for another with a hyphen."""
    if b"_" in name:
        return ""
    key = name.decode("ascii").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _framed(environ: dict[str, Any]) -> RequestHead:
    """How long the body is, and whether another request may follow. Raises ParseException at the least doubt."""
    is_new = environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    if is_new and "HTTP_HOST" not in environ:
        # RFC 9112, 3.2.
        raise InvalidHeader("no Host")
    expectation = environ.get("HTTP_EXPECT")
    if expectation is not None and expectation.lower() != "100-continue":
        raise ExpectationFailed(expectation)
    return RequestHead(
        environ=environ,
        length=_body_length(environ, is_new=is_new),
        keeps_alive=_keeps_alive(environ.get("HTTP_CONNECTION", ""), is_new=is_new)
        and environ["REQUEST_METHOD"] != "CONNECT",
        expects_continue=is_new and expectation is not None,
    )


def _body_length(environ: dict[str, Any], *, is_new: bool) -> int | None:
    length: str | None = environ.get("CONTENT_LENGTH")
    coding: str | None = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None:
        if coding.lower() != "chunked":
            # Bodies are not unpacked here, and smuggling is made of stacked codings.
            raise UnsupportedTransferCoding(coding)
        if length is not None or not is_new:
            raise InvalidHeader("TRANSFER-ENCODING")
        return None
    if length is None:
        return 0
    if not (length.isascii() and length.isdigit()):
        raise InvalidHeader("CONTENT-LENGTH")
    return int(length)


@lru_cache(maxsize=64)
def _keeps_alive(connection: str, *, is_new: bool) -> bool:
    options = {option.strip(" \t").lower() for option in connection.split(",")}
    return "close" not in options and (is_new or "keep-alive" in options)
