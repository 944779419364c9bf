"""What a completion is worth, and the checksum that binds the proof to the action."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.domain.actions import (
    SETTLED,
    ActionType,
    ComputedPoints,
    FixedPoints,
    Points,
    Proof,
    ReportedPoints,
    Speed,
    State,
    TimeBy,
    check_reported_points,
    has_valid_checksum,
    points_at_most,
    points_for,
    proof_checksum,
)
from scoreboard.domain.errors import ScoreValidationFailed, ValidationFailed

DIFFICULTY = {
    "easy": Fraction(1),
    "medium": Fraction("1.1"),
    "hard": Fraction("2.5"),
    "2": Fraction(3),
    "tiny": Fraction("0.29"),
}


def worth(points: Points) -> ActionType:
    return ActionType("A", "An action", points, 0, 1_000)


def computed(
    base: str, maximum: int = 1_000, multiply: Mapping[str, Mapping[str, Fraction] | None] | None = None
) -> ActionType:
    return worth(ComputedPoints(Fraction(base), multiply or {"difficulty": DIFFICULTY}, maximum))


def test_fixed_points_ask_for_nothing() -> None:
    assert points_for(worth(FixedPoints(7)), {"anything": 3}, None) == 7
    assert points_at_most(worth(FixedPoints(7)), {}) == 7


@pytest.mark.parametrize(
    ("base", "difficulty", "points"),
    [
        ("10", "easy", 10),
        ("10", "medium", 11),  # in floating point 10 × 1.1 is 11.000000000000002
        ("3", "medium", 3),  # 3.3
        ("30", "medium", 33),  # in floating point 33.00000000000000355
        ("1.1", "hard", 2),  # 2.75
        ("0.4", "hard", 1),
        ("0.39", "hard", 0),  # 0.975
        ("10", 2, 30),
        ("100", "tiny", 29),  # in floating point 28.999999999999996
    ],
)
def test_computed_points_are_exact_and_rounded_down(base: str, difficulty: object, points: int) -> None:
    assert points_for(computed(base), {"difficulty": difficulty}, None) == points


SPEED = Speed(TimeBy("difficulty", {"easy": 5_000, "hard": 20_000}), 60_000, Fraction(1, 2))


@pytest.mark.parametrize(
    ("difficulty", "elapsed_ms", "points"),
    [
        ("easy", 0, 10),
        ("easy", 5_000, 10),
        ("easy", 5_001, 9),
        ("easy", 32_500, 7),  # half way: 7.5
        ("easy", 59_999, 5),
        ("easy", 10**12, 5),
        ("hard", 20_000, 25),
        ("hard", 40_000, 18),  # half way: 18.75
        ("hard", 60_000, 12),  # 12.5
    ],
)
def test_speed_is_rewarded_evenly_between_its_bounds(difficulty: str, elapsed_ms: int, points: int) -> None:
    action_type = replace(computed("10"), speed=SPEED)
    assert points_for(action_type, {"difficulty": difficulty}, None, elapsed_ms) == points


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_slower_is_never_worth_more_and_nothing_is_over_the_maximum(one: int, other: int) -> None:
    for action_type in (replace(computed("10", 17), speed=SPEED), replace(worth(FixedPoints(7)), speed=SPEED)):
        quick, slow = (
            points_for(action_type, {"difficulty": "hard"}, None, ms) for ms in (min(one, other), max(one, other))
        )
        assert points_at_most(action_type, {"difficulty": "hard"}) >= quick >= slow >= 0


@pytest.mark.parametrize(
    ("value", "points"), [(0, 0), (3, 300), (0.5, 50), (1.1, 110), (0.29, 29), (0.57, 57), (1.15, 115), (4.35, 435)]
)
def test_a_factor_from_the_metadata_counts_as_it_is_written(value: float, points: int) -> None:
    action_type = computed("100", multiply={"stars": None})
    assert points_for(action_type, {"stars": value}, None) == points
    assert points_at_most(action_type, {"stars": value}) == points


def test_factors_multiply() -> None:
    action_type = computed("10", multiply={"difficulty": DIFFICULTY, "stars": None})
    assert points_for(action_type, {"difficulty": "hard", "stars": 3}, None) == 75


@given(st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False))
def test_computed_points_stay_within_zero_and_the_maximum(value: float) -> None:
    assert 0 <= points_for(computed("10", 500, {"stars": None}), {"stars": value}, None) <= 500


@pytest.mark.parametrize(
    "metadata", [{}, {"stars": None}, {"stars": "3"}, {"stars": True}, {"stars": float("nan")}, {"stars": float("inf")}]
)
def test_a_factor_that_is_no_number_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"metadata\.stars is not a number"):
        points_for(computed("10", multiply={"stars": None}), metadata, None)


@pytest.mark.parametrize("metadata", [{}, {"difficulty": "extreme"}, {"difficulty": None}, {"difficulty": ["easy"]}])
def test_a_value_without_factor_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"metadata\.difficulty .* has no factor"):
        points_for(computed("10"), metadata, None)


@pytest.mark.parametrize("points", [0, 1, 99, 100])
def test_reported_points_count_within_their_bounds(points: int) -> None:
    action_type = worth(ReportedPoints(100))
    check_reported_points(action_type, points)
    assert points_for(action_type, {}, points) == points
    assert points_at_most(action_type, {}) == 100


@pytest.mark.parametrize("points", [None, -1, 101])
def test_reported_points_outside_their_bounds_are_worth_nothing(points: int | None) -> None:
    with pytest.raises(ValueError, match="not within 0 and 100"):
        points_for(worth(ReportedPoints(100)), {}, points)


def test_a_report_over_the_maximum_has_an_error_of_its_own() -> None:
    with pytest.raises(ScoreValidationFailed) as caught:
        check_reported_points(worth(ReportedPoints(100)), 101)
    assert caught.value.details == {"maximum": 100}


@pytest.mark.parametrize("points", [FixedPoints(5), ComputedPoints(Fraction(1), {"difficulty": DIFFICULTY}, 10)])
def test_points_are_refused_where_they_are_not_asked_for(points: Points) -> None:
    check_reported_points(worth(points), None)
    for reported in (0, 5):
        with pytest.raises(ValidationFailed) as caught:
            check_reported_points(worth(points), reported)
        assert caught.value.details == {"fields": {"proof.points": "this action type does not take points"}}


def test_zero_points_are_a_report_and_none_are_not() -> None:
    check_reported_points(worth(ReportedPoints(100)), 0)
    with pytest.raises(ValidationFailed) as caught:
        check_reported_points(worth(ReportedPoints(100)), None)
    assert caught.value.details == {"fields": {"proof.points": "this action type needs the points reached"}}


def signed(key: str, message: str) -> str:
    return hmac.digest(key.encode(), message.encode(), "sha256").hex()


# The first digest was computed with openssl, so that not only Python's own word is taken for it.
@pytest.mark.parametrize(
    ("key", "action_id", "proof", "message"),
    [
        ("key", "id", Proof(1500, ""), "id:1500::"),
        ("key", "id", Proof(1500, "", points=0), "id:1500:0:"),
        ("key", "id", Proof(1500, "", points=42), "id:1500:42:"),
        ("key", "id", Proof(1500, "", data="moves"), "id:1500::moves"),
        ("key", "id", Proof(1500, "", data=""), "id:1500::"),
        ("key", "id", Proof(0, "", points=7, data="a:b:c"), "id:0:7:a:b:c"),
        ("clé", "id", Proof(1, "", data="données ☃ 🎉"), "id:1::données ☃ 🎉"),
    ],
)
def test_the_checksum_covers_every_part(key: str, action_id: str, proof: Proof, message: str) -> None:
    assert proof_checksum(key, action_id, proof) == signed(key, message)


def test_the_checksum_agrees_with_openssl() -> None:
    known = "2db7c4dedee332304309f71acf61f1f1bd96437d8549960903fc7946d1e4dc37"
    assert proof_checksum("key", "id", Proof(1500, "")) == known


proofs = st.builds(
    Proof,
    st.integers(0, 2**53),
    st.just(""),
    points=st.none() | st.integers(0, 2**53),
    data=st.none() | st.text(max_size=50),
)


@given(st.text(), st.uuids().map(str), proofs)
def test_the_checksum_is_hmac_sha256_of_the_joined_parts(key: str, action_id: str, proof: Proof) -> None:
    parts = [action_id, str(proof.completion_time_ms), "" if proof.points is None else str(proof.points), proof.data]
    expected = hmac.new(key.encode(), ":".join(part or "" for part in parts).encode(), hashlib.sha256)
    assert proof_checksum(key, action_id, proof) == expected.hexdigest()


def test_only_the_very_checksum_is_valid() -> None:
    right = proof_checksum("key", "id", Proof(1500, "", points=1))

    def is_valid(checksum: str, points: int | None = 1) -> bool:
        return has_valid_checksum("key", "id", Proof(1500, checksum, points=points))

    assert is_valid(right)
    assert not is_valid(right, points=2)
    assert not is_valid(right, points=None)
    for wrong in ("", right[:-1], right + "0", right.upper(), "é" * 64, "0" * 64):
        assert not is_valid(wrong)


def test_points_of_zero_and_no_points_have_different_checksums() -> None:
    assert proof_checksum("key", "id", Proof(1, "", points=0)) != proof_checksum("key", "id", Proof(1, ""))


def test_settled_states_are_final() -> None:
    assert {State.APPLIED, State.HELD, State.REJECTED, State.FAILED} == SETTLED
