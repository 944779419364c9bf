"""The Prefer header: how long a caller will wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import create_environ

from scoreboard.web.door.preferences import WAIT_MAX_S, preferred_wait_s


def wait_of(*headers: str) -> float | None:
    environ = create_environ(headers=[("Prefer", header) for header in headers])
    return preferred_wait_s(environ.get("HTTP_PREFER"))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("wait=0", 0),
        ("wait=10", 10),
        ("wait=11", 10),
        ("wait=999999", 10),
        ("WAIT=5", 5),
        ("wait = 5", 5),
        ('wait="5"', 5),
        ("wait=5; foo=bar", 5),
        ("respond-async, wait=5", 5),
        ("respond-async,wait=5,return=minimal", 5),
        ("wait=3, wait=7", 3),
        ("wait=007", 7),
    ],
)
def test_a_wait_is_understood_and_bounded(header: str, seconds: float) -> None:
    assert wait_of(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "",
        "respond-async",
        "wait",
        "wait=",
        "wait=-1",
        "wait=1.5",
        "wait=soon",
        "await=5",
        "waiting=5",
        "foo; wait=5",
        "=5",
    ],
)
def test_anything_else_is_no_wait(header: str) -> None:
    assert wait_of(header) is None


def test_without_the_header_nobody_waits() -> None:
    assert wait_of() is None


def test_several_headers_are_one_list() -> None:
    assert wait_of("respond-async", "wait=4", "wait=8") == 4


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=60))
def test_any_header_is_a_bounded_wait_or_none(header: str) -> None:
    seconds = wait_of(header)
    assert seconds is None or 0 <= seconds <= WAIT_MAX_S


@given(st.integers(0, 10**12))
def test_a_long_wait_is_the_longest_there_is(seconds: int) -> None:
    assert wait_of(f"wait={seconds}") == min(seconds, WAIT_MAX_S)
