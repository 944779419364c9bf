"""How a view gives its connection away, and how the connection loop hears of it: two marks on the greenlet."""

from __future__ import annotations

from typing import Any

import gevent

_MAY_GIVE_AWAY = "scoreboard_may_give_away"
_GIVEN_AWAY = "scoreboard_gave_away"


def allow_giving_away(*, is_allowed: bool) -> None:
    """Say whether the connection that this greenlet serves may be taken over."""
    setattr(gevent.getcurrent(), _MAY_GIVE_AWAY, is_allowed)


def may_give_away(environ: dict[str, Any]) -> bool:
    """Whether this request's connection can be taken over: a plain socket of a StreamWorker, with a chunked body."""
    return (
        getattr(gevent.getcurrent(), _MAY_GIVE_AWAY, False)
        and environ.get("gunicorn.socket") is not None
        and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        and environ["REQUEST_METHOD"] == "GET"
    )


def give_away() -> None:
    """Tell the worker that somebody else has a duplicate of this greenlet's connection and goes on writing."""
    setattr(gevent.getcurrent(), _GIVEN_AWAY, True)


def was_given_away() -> bool:
    return getattr(gevent.getcurrent(), _GIVEN_AWAY, False)
