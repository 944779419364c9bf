"""A request's head: the environ made of it, in pieces of any size, and never one that gunicorn refuses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.http.wsgi import create

from scoreboard.web.server.request_head import END, HeadLimits, HeadParser, RequestHead, check_trailers
from tests.loops.mutate import mutated

LIMITS = HeadLimits(line=8_190, fields=60, field_size=8_190)
BASE: dict[str, Any] = {"SCRIPT_NAME": "", "SERVER_NAME": "service.test", "SERVER_PORT": "80"}
CASES = 20_000
GUNICORNS = Config()
GUNICORNS.set("limit_request_fields", 60)
GUNICORNS.set("forwarded_allow_ips", "")


def parse(head: bytes, *cuts: int, base: dict[str, Any] | None = None) -> RequestHead:
    parser = HeadParser(LIMITS)
    ends = [*cuts, len(head)]
    for begin, end in zip([0, *cuts], ends, strict=True):
        parser.feed(head[begin:end])
    return parser.finish(head, BASE if base is None else base)


def request(*lines: str, start: str = "GET /a?b=c HTTP/1.1") -> bytes:
    return "\r\n".join((start, "Host: service.test", *lines, "", "")).encode("latin-1")


def by_gunicorn(head: bytes) -> dict[str, Any]:
    """The environ that gunicorn's own parser makes of it. Raises ParseException, NoMoreData or StopIteration."""
    parsed = Request(GUNICORNS, IterUnreader([head]), ("192.0.2.1", 1))
    # There is nobody to tell to go on.
    parsed._expected_100_continue = False  # type: ignore[attr-defined]  # the stubs don't know it
    no_socket: Any = None
    _, environ = create(parsed, no_socket, ("192.0.2.1", 1), ("service.test", 80), GUNICORNS)
    return dict(environ)


def test_a_head_becomes_the_environ() -> None:
    head = parse(request("Content-Type: text/plain", "Content-Length: 5", "X-Some-Name:  value \t", "X-Empty:"))
    assert head.environ == {
        **BASE,
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a?b=c",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=c",
        "HTTP_HOST": "service.test",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "HTTP_X_SOME_NAME": "value",
        "HTTP_X_EMPTY": "",
    }
    assert (head.length, head.keeps_alive, head.expects_continue) == (5, True, False)


def test_it_is_the_same_in_whatever_pieces_it_comes() -> None:
    head = request("X-A: 1", "X-B:", "Cookie: a=b; c=d", "Transfer-Encoding: chunked", "Expect: 100-continue")
    whole = parse(head)
    assert whole.length is None
    assert whole.expects_continue
    for first in range(1, len(head)):
        assert parse(head, first) == whole
    assert parse(head, *range(1, len(head))) == whole


def test_what_gunicorn_refuses_is_refused_and_the_rest_is_read_alike() -> None:
    """Without sockets, so thousands of heads take seconds."""
    served = 0
    for seed in range(CASES):
        head, end, _ = mutated(seed).partition(END)
        try:
            ours = parse(head + end).environ
        except ParseException:
            continue
        served += 1
        try:
            theirs = by_gunicorn(head + end)
        except (ParseException, NoMoreData, StopIteration) as error:
            pytest.fail(f"gunicorn refuses {head + end!r}: {error!r}")
        assert {name: theirs.get(name) for name in ours} == ours, head
        assert {name for name in theirs if name.startswith(("HTTP_", "CONTENT_"))} <= ours.keys(), head
    assert served > CASES / 4


@pytest.mark.parametrize(
    ("protocol", "connection", "keeps"),
    [
        ("1.1", None, True),
        ("1.1", "keep-alive", True),
        ("1.1", "Close", False),
        ("1.1", "x, close", False),
        ("1.1", "upgrade", True),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_whether_another_request_may_follow(protocol: str, connection: str | None, *, keeps: bool) -> None:
    lines = [] if connection is None else [f"Connection: {connection}"]
    assert parse(request(*lines, start=f"GET / HTTP/{protocol}")).keeps_alive is keeps


def test_behind_a_connect_nothing_is_read() -> None:
    assert not parse(request(start="CONNECT service.test:443 HTTP/1.1")).keeps_alive


def test_a_name_with_an_underscore_is_dropped() -> None:
    assert "HTTP_X_USER" not in parse(request("X_User: admin")).environ
    assert parse(request("X_User: admin", "X-User: me")).environ["HTTP_X_USER"] == "me"


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "Script-Name", "Path-Info", "Remote-Addr", "wsgi.input"])
def test_no_header_takes_the_place_of_the_servers_own_words(name: str) -> None:
    environ = parse(request(f"{name}: /evil"), base={**BASE, "REMOTE_ADDR": "192.0.2.1"}).environ
    own = {key: value for key, value in environ.items() if not key.startswith("HTTP_")}
    assert "/evil" not in own.values()


def test_the_bounds_are_exact() -> None:
    parse(request(start=f"GET /{'a' * (8_190 - 14)} HTTP/1.1"))
    with pytest.raises(LimitRequestLine):
        parse(request(start=f"GET /{'a' * (8_190 - 13)} HTTP/1.1"))
    parse(request(*(f"X-{number}: a" for number in range(59))))
    with pytest.raises(LimitRequestHeaders):
        parse(request(*(f"X-{number}: a" for number in range(60))))
    parse(request("X: " + "a" * (8_190 - 5)))
    with pytest.raises(LimitRequestHeaders):
        parse(request("X: " + "a" * (8_190 - 4)))
    with pytest.raises(LimitRequestHeaders):
        parse(request("X:" + " " * 8_190 + "a"))


def test_a_script_name_is_taken_off_the_path() -> None:
    environ = parse(request(), base={**BASE, "SCRIPT_NAME": "/a"}).environ
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/a", "")
    with pytest.raises(ParseException):
        parse(request(start="GET /b HTTP/1.1"), base={**BASE, "SCRIPT_NAME": "/a"})


@pytest.mark.parametrize(
    "line", ["Content-Length: 5", "Host: a", "Transfer-Encoding: x", "X : y", " X: y", "X", "X: \0"]
)
def test_trailers_obey_the_rules_of_a_head(line: str) -> None:
    check_trailers(b"X-Checksum: 1", LIMITS)
    with pytest.raises(ParseException):
        check_trailers(line.encode(), LIMITS)


def test_random_bytes_are_refused_quietly() -> None:
    chance = random.Random(1)
    for _ in range(2_000):
        with pytest.raises(ParseException):
            parse(chance.randbytes(40) + END)
