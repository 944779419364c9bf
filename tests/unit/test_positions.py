"""A place in the event stream, as browsers send it back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.live.stream.events import Position


@given(st.integers(0, 10**16 - 1), st.integers(0, 10**16 - 1))
def test_a_position_reads_back(epoch: int, offset: int) -> None:
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position
    assert position.stream_id == f"{epoch}-{offset}"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        ":",
        "1",
        "1:",
        ":1",
        "1:2:3",
        "1-2",
        "-1:2",
        "1:-2",
        "+1:2",
        " 1:2",
        "1:2 ",
        "1:2\n",
        "1_0:2",
        "1.0:2",
        "0x1:2",
        "1e3:2",
        "²:2",
        "1:٣",
        "１:２",
        "\x00:1",
        "null",
        "NaN:1",
        f"{10**16}:1",
        f"1:{10**16}",
        "9" * 5_000 + ":1",
        "1:" + "9" * 5_000,
        "0" * 17 + ":1",
    ],
)
def test_noise_is_no_position(raw: str) -> None:
    assert Position.parse(raw) is None


@given(st.text(st.characters(codec=None)) | st.text("0123456789:-+ ", max_size=40))
@example("0" * 16 + ":" + "9" * 16)
def test_any_text_is_a_position_or_none(raw: str) -> None:
    position = Position.parse(raw)
    if position is not None:
        assert 0 <= position.epoch < 10**16
        assert 0 <= position.offset < 10**16
        assert [str(int(part)) for part in raw.split(":")] == [str(position.epoch), str(position.offset)]


def test_positions_grow_by_epoch_then_offset() -> None:
    ordered = [Position(0, 9), Position(1, 0), Position(1, 1), Position(1, 10), Position(2, 0)]
    mixed = [ordered[place] for place in (3, 0, 4, 2, 1)]
    assert sorted(mixed) == ordered
