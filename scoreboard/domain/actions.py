"""Action types, what a completion is worth, and the proof that comes with it."""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from scoreboard.domain.errors import ScoreValidationFailed, ValidationFailed

DATA_MAX_BYTES = 2_048
# The largest integer that JavaScript and a Redis sorted set hold exactly.
MAX_SAFE_INTEGER = 2**53 - 1


class State(StrEnum):
    """Where an action stands. ``expired`` is an issued one whose token's life is over."""

    ISSUED = "issued"
    ACCEPTED = "accepted"
    APPLIED = "applied"
    HELD = "held"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"


SETTLED = frozenset({State.APPLIED, State.HELD, State.REJECTED, State.FAILED})


@dataclass(frozen=True)
class FixedPoints:
    value: int
    kind = "fixed"

    @property
    def maximum(self) -> int:
        return self.value


@dataclass(frozen=True)
class ComputedPoints:
    """``base`` times a factor for each name in ``multiply``, rounded down, at most ``maximum``.

    A factor is a table from metadata value to number, or None to take the metadata number itself.
    """

    base: Fraction
    multiply: Mapping[str, Mapping[str, Fraction] | None]
    maximum: int
    kind = "computed"


@dataclass(frozen=True)
class ReportedPoints:
    maximum: int
    kind = "reported"


Points = FixedPoints | ComputedPoints | ReportedPoints


@dataclass(frozen=True)
class ActionType:
    """One entry of the catalogue; times in milliseconds, bounds inclusive."""

    code: str
    title: str
    points: Points
    min_time_ms: int
    max_time_ms: int
    metadata_schema: Mapping[str, object] = field(default_factory=dict)


def points_for(action_type: ActionType, metadata: Mapping[str, object], reported: int | None) -> int:
    """What a completion is worth. Raises ValueError when metadata or report do not fit the type."""
    points = action_type.points
    if isinstance(points, FixedPoints):
        return points.value
    if isinstance(points, ReportedPoints):
        if reported is None or not 0 <= reported <= points.maximum:
            raise ValueError(f"reported points {reported!r} are not within 0 and {points.maximum}")
        return reported
    return min(points.maximum, max(0, math.floor(points.base * _product(points, metadata))))


def points_at_most(action_type: ActionType, metadata: Mapping[str, object]) -> int:
    """The most that an action with this metadata can bring; shown as ``maxPoints``."""
    if isinstance(action_type.points, ComputedPoints):
        return points_for(action_type, metadata, None)
    return action_type.points.maximum


def _product(points: ComputedPoints, metadata: Mapping[str, object]) -> Fraction:
    product = Fraction(1)
    for name, table in points.multiply.items():
        value = metadata.get(name)
        if table is None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"metadata.{name} is not a number")
            # As it was written: 0.29 means 29 hundredths, not the nearest binary fraction.
            product *= Fraction(str(value))
        elif str(value) in table:
            product *= table[str(value)]
        else:
            raise ValueError(f"metadata.{name} {value!r} has no factor")
    return product


@dataclass(frozen=True)
class Proof:
    """What the client sends to show that it did the action; ``completion_time_ms`` is its own claim."""

    completion_time_ms: int
    checksum: str
    points: int | None = None
    data: str | None = None


def proof_checksum(proof_key: str, action_id: str, proof: Proof) -> str:
    """Lower-case hex HMAC-SHA256 over ``actionId:completionTime:points:data``, an absent part empty."""
    points = "" if proof.points is None else str(proof.points)
    message = f"{action_id}:{proof.completion_time_ms}:{points}:{proof.data or ''}"
    return hmac.digest(proof_key.encode(), message.encode(), "sha256").hex()


def has_valid_checksum(proof_key: str, action_id: str, proof: Proof) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(proof_checksum(proof_key, action_id, proof).encode(), proof.checksum.encode())


def check_reported_points(action_type: ActionType, reported: int | None) -> None:
    """Refuse points where they are not asked for, missing ones, and those over the maximum."""
    points = action_type.points
    if not isinstance(points, ReportedPoints):
        if reported is not None:
            raise ValidationFailed({"proof.points": "this action type does not take points"})
        return
    if reported is None:
        raise ValidationFailed({"proof.points": "this action type needs the points reached"})
    if reported > points.maximum:
        raise ScoreValidationFailed(points.maximum)
