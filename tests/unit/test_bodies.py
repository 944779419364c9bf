"""Bodies: whole, within their bounds, or not at all."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import gevent
import pytest
from gunicorn.http.errors import InvalidChunkSize, NoMoreData

from scoreboard.web.server.bodies import BODY_MAX_BYTES, LARGER_BODIES, Bodies, BodyNotTaken, WholeBody

HASTY_S = 0.02


def environ_of(body: bytes, length: int | None = None, **more: object) -> dict[str, Any]:
    """A request whose length is stated, by default truly."""
    return {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body) if length is None else length), **more}


def chunked(body: bytes) -> dict[str, Any]:
    """A request whose length shows in the end; the server takes the chunks apart."""
    return {"wsgi.input": BytesIO(body), "HTTP_TRANSFER_ENCODING": "chunked"}


class Silent:
    """A connection on which nothing more comes."""

    def read(self, size: int) -> bytes:
        gevent.sleep(60)
        return b""


class Broken:
    """A connection whose bytes are no HTTP, or that has ended."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, size: int) -> bytes:
        raise self._error


def test_a_body_is_there_when_the_application_asks() -> None:
    for environ in (environ_of(b"hello"), chunked(b"hello")):
        assert Bodies().take(environ)
        assert environ["wsgi.input"].read() == b"hello"
        assert environ["CONTENT_LENGTH"] == "5"
        assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}])
def test_where_there_is_no_body_nothing_is_read(environ: dict[str, Any]) -> None:
    assert Bodies().take(environ)
    assert "wsgi.input" not in environ


def test_a_body_that_came_with_its_head_waits_for_nobody() -> None:
    bodies = Bodies(arriving_max=0)
    environ = {"wsgi.input": WholeBody(b"hello"), "CONTENT_LENGTH": "5"}
    whole = environ["wsgi.input"]
    assert bodies.take(environ)
    assert environ["wsgi.input"] is whole


def test_a_body_that_states_too_much_stays_where_it_is() -> None:
    environ = environ_of(b"x", BODY_MAX_BYTES + 1)
    unread = environ["wsgi.input"]
    assert Bodies().take(environ)
    assert environ["wsgi.input"] is unread


def test_a_body_of_unknown_length_is_taken_to_a_byte_over_the_limit() -> None:
    environ = chunked(b"x" * (3 * BODY_MAX_BYTES))
    assert Bodies().take(environ)
    assert environ["CONTENT_LENGTH"] == str(BODY_MAX_BYTES + 1)


def test_a_body_that_ends_early_is_not_taken() -> None:
    bodies = Bodies()
    with pytest.raises(BodyNotTaken):
        bodies.take(environ_of(b"x", 2))
    assert bodies.arriving == 0


@pytest.mark.parametrize("error", [InvalidChunkSize(b"ZZ"), NoMoreData(), ConnectionResetError()])
def test_what_is_no_body_is_not_taken(error: Exception) -> None:
    bodies = Bodies()
    with pytest.raises(BodyNotTaken):
        bodies.take({"wsgi.input": Broken(error), "CONTENT_LENGTH": "5"})
    assert bodies.arriving == 0


def test_a_body_that_does_not_come_in_time_is_not_taken() -> None:
    bodies = Bodies(wait_s=HASTY_S)
    with pytest.raises(BodyNotTaken):
        bodies.take({"wsgi.input": Silent(), "CONTENT_LENGTH": "5"})
    assert bodies.arriving == 0


def test_only_so_many_bodies_may_be_on_their_way() -> None:
    bodies = Bodies(wait_s=10 * HASTY_S, arriving_max=1)
    waiting = gevent.spawn(wait_in_vain, bodies)
    gevent.sleep(0)
    assert bodies.arriving == 1
    assert not bodies.take(environ_of(b"hello"))
    waiting.get(timeout=10)
    assert bodies.take(environ_of(b"hello"))


# -- larger ones, on the path that takes them ------------------------------------------------

PATH, MEGABYTE = next(iter(LARGER_BODIES.items()))


def larger(size: int) -> dict[str, Any]:
    return environ_of(b"x" * size, PATH_INFO=PATH, HTTP_AUTHORIZATION="Bearer x")


def test_one_path_takes_larger_bodies_of_callers_with_credentials() -> None:
    for environ in (larger(MEGABYTE), {**larger(MEGABYTE), "HTTP_AUTHORIZATION": "", "HTTP_COOKIE": "a=b"}):
        bodies = Bodies()
        assert bodies.take(environ)
        assert len(environ["wsgi.input"].read()) == MEGABYTE
        assert bodies.larger == 1
        bodies.give_back(environ)
        bodies.give_back(environ)
        assert bodies.larger == 0


@pytest.mark.parametrize(
    "more", [{"HTTP_AUTHORIZATION": ""}, {"PATH_INFO": "/v1/actions/complete"}, {"PATH_INFO": PATH + "/"}]
)
def test_others_are_left_where_they_are(more: dict[str, str]) -> None:
    environ = {**larger(BODY_MAX_BYTES + 1), **more}
    unread = environ["wsgi.input"]
    assert Bodies().take(environ)
    assert environ["wsgi.input"] is unread


def test_a_larger_one_has_a_limit_too() -> None:
    environ = larger(MEGABYTE + 1)
    unread = environ["wsgi.input"]
    assert Bodies().take(environ)
    assert environ["wsgi.input"] is unread
    unknown = {**chunked(b"x" * (2 * MEGABYTE)), "PATH_INFO": PATH, "HTTP_AUTHORIZATION": "Bearer x"}
    assert Bodies().take(unknown)
    assert unknown["CONTENT_LENGTH"] == str(MEGABYTE + 1)


def test_larger_bodies_have_room_for_so_many() -> None:
    bodies = Bodies(larger_max=2)
    held = [larger(BODY_MAX_BYTES + 1) for _ in range(2)]
    assert all(bodies.take(environ) for environ in held)
    assert not bodies.take(larger(BODY_MAX_BYTES + 1))
    assert bodies.take(larger(BODY_MAX_BYTES)), "others still have room"
    bodies.give_back(held[0])
    assert bodies.take(larger(BODY_MAX_BYTES + 1))


def test_a_larger_body_that_ends_early_gives_its_room_back() -> None:
    bodies = Bodies(larger_max=1)
    environ = larger(10)
    environ["CONTENT_LENGTH"] = str(MEGABYTE)
    with pytest.raises(BodyNotTaken):
        bodies.take(environ)
    bodies.give_back(environ)
    assert bodies.larger == 0


def wait_in_vain(bodies: Bodies) -> None:
    with pytest.raises(BodyNotTaken):
        bodies.take({"wsgi.input": Silent(), "HTTP_TRANSFER_ENCODING": "chunked"})
