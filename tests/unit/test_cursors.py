"""Cursors: opaque, and refused as a whole when they are not ours."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.domain.errors import ValidationFailed
from scoreboard.web.api.cursors import decode_cursor, encode_cursor

URL_SAFE = frozenset(string.ascii_letters + string.digits + "-_")
KINDS: list[list[type]] = [[int], [str], [str, str], [str, int], []]


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


@given(st.lists(st.integers(-(2**63), 2**64 - 1) | st.text(), max_size=4))
def test_a_cursor_reads_back(parts: list[int | str]) -> None:
    cursor = encode_cursor(*parts)
    assert set(cursor) <= URL_SAFE
    assert decode_cursor(cursor, [type(part) for part in parts]) == parts


def test_the_first_page_has_none() -> None:
    assert decode_cursor(None, [int]) is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "0",
        "!!!!",
        "é",
        "\x00",
        encoded(b"7"),
        encoded(b'{"0":7}'),
        encoded(b"[]"),
        encoded(b"[7,8]"),
        encoded(b'["7"]'),
        encoded(b"[7.0]"),
        encoded(b"[true]"),
        encoded(b"[null]"),
        encoded(b"[[7]]"),
        encoded(b"[99999999999999999999999999]"),
        encoded(b"[7"),
        encoded(b"\xff\xfe"),
        encoded(b"[" * 5_000),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        decode_cursor(cursor, [int])
    assert caught.value.details == {"fields": {"cursor": "is not a cursor of this list"}}


foreign = st.text(st.characters(codec=None)) | st.text(sorted(URL_SAFE)) | st.binary().map(encoded)


@given(foreign, st.sampled_from(KINDS))
@example("\ud800", [int])
@example("A", [int])
def test_foreign_text_is_refused_and_raises_nothing_else(cursor: str, kinds: list[type]) -> None:
    try:
        parts = decode_cursor(cursor, kinds)
    except ValidationFailed:
        return
    assert parts is not None
    assert [type(part) for part in parts] == kinds
