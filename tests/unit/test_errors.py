"""Every refusal has a code of its own and a status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.domain import errors
from scoreboard.domain.errors import RetryLater, ScoreboardError, ServiceUnavailable, ValidationFailed
from scoreboard.web.api.refusals import STATUS

# The contract's table, without what Flask refuses by itself.
CONTRACT = {
    400: {"VALIDATION_FAILED", "INVALID_ACTION_TOKEN", "ACTION_TOKEN_EXPIRED", "SCORE_VALIDATION_FAILED"},
    401: {"INVALID_CREDENTIALS", "INVALID_TOKEN", "TOKEN_EXPIRED"},
    403: {"INSUFFICIENT_PERMISSIONS", "ACCOUNT_BANNED", "CSRF_FAILED"},
    404: {"NOT_FOUND"},
    409: {"ACTION_ALREADY_COMPLETED", "USERNAME_TAKEN", "EMAIL_TAKEN"},
    422: {"IDEMPOTENCY_MISMATCH"},
    429: {"RATE_LIMIT_EXCEEDED", "TOO_MANY_OPEN_ACTIONS", "TOO_MANY_STREAMS"},
    503: {"SERVICE_UNAVAILABLE"},
}


def subclasses(kind: type[ScoreboardError]) -> Iterator[type[ScoreboardError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


# RetryLater is a family without a code; all others are raised.
REFUSALS = [kind for kind in subclasses(ScoreboardError) if kind is not RetryLater]


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_every_refusal_has_a_status_a_code_and_a_message(kind: type[ScoreboardError]) -> None:
    assert kind in STATUS
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)
    assert kind.code != ScoreboardError.code
    assert kind.message != ScoreboardError.message
    assert kind.message.endswith(".")


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in REFUSALS]
    assert sorted(codes) == sorted(set(codes))


def test_statuses_and_codes_are_those_of_the_contract() -> None:
    found: dict[int, set[str]] = {}
    for kind, status in STATUS.items():
        found.setdefault(status, set()).add(kind.code)
    assert found == CONTRACT


def test_whatever_can_be_retried_says_when() -> None:
    retriable = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    for kind, status in STATUS.items():
        assert issubclass(kind, RetryLater) == (status in retriable)


@given(st.floats(0, 1e6))
@example(0)
@example(1)
@example(1.0005)
@example(2.001)
def test_the_wait_is_whole_seconds_and_never_too_short(seconds: float) -> None:
    error = ServiceUnavailable(seconds)
    assert isinstance(error.retry_after_s, int)
    assert error.retry_after_s >= max(1, seconds)
    assert error.retry_after_s < seconds + 2
    assert error.details == {"retryAfter": error.retry_after_s}


def test_nobody_is_told_to_come_back_at_once() -> None:
    assert [ServiceUnavailable(seconds).retry_after_s for seconds in (0, 0.2, 1, 1.5, 2)] == [1, 1, 1, 2, 2]


def test_a_refusal_carries_its_own_words() -> None:
    assert str(errors.NotFound()) == errors.NotFound.message
    assert str(errors.NotFound("No such player.")) == "No such player."
    assert errors.NotFound.message == "This does not exist, or it is not yours."


def test_details_are_not_shared_between_refusals() -> None:
    one, other = errors.NotFound(), errors.NotFound()
    one.details["x"] = 1
    assert other.details == {}


def test_a_validation_names_the_fields() -> None:
    assert ValidationFailed({"a.b": "is wrong"}).details == {"fields": {"a.b": "is wrong"}}
    assert ValidationFailed(message="The body is not JSON.").details == {}
