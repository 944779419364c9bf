"""Action types, what a completion is worth, and the proof that comes with it."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import ClassVar, Literal
from uuid import UUID

from scoreboard.domain.errors import ScoreValidationFailed, ValidationFailed

DATA_MAX_BYTES = 2_048
# The largest integer that JavaScript and a Redis sorted set hold exactly.
MAX_SAFE_INTEGER = 2**53 - 1
# Ids stay in their order while completion times are true; a false one moves its player's next id by so much at most.
_ID_AHEAD_MAX_MS = 300_000


class State(StrEnum):
    """The state of an action. ``expired`` is an issued one whose token has expired."""

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
    kind: ClassVar[Literal["fixed"]] = "fixed"

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
    kind: ClassVar[Literal["computed"]] = "computed"


@dataclass(frozen=True)
class ReportedPoints:
    maximum: int
    kind: ClassVar[Literal["reported"]] = "reported"


Points = FixedPoints | ComputedPoints | ReportedPoints


@dataclass(frozen=True)
class TimeBy:
    """A time in milliseconds for each value of one metadata property."""

    name: str
    times_ms: Mapping[str, int]

    def at(self, metadata: Mapping[str, object]) -> int:
        """Raises ValueError when the metadata has no value that is listed."""
        value = metadata.get(self.name)
        if str(value) not in self.times_ms:
            raise ValueError(f"metadata.{self.name} {value!r} has no time")
        return self.times_ms[str(value)]


Time = int | TimeBy


def time_at(time: Time, metadata: Mapping[str, object]) -> int:
    """Milliseconds; raises ValueError when they depend on a value that the metadata lacks."""
    return time if isinstance(time, int) else time.at(metadata)


@dataclass(frozen=True)
class Speed:
    """All points up to ``full_ms``, then evenly fewer, down to the share ``least`` from ``least_ms`` on."""

    full_ms: Time
    least_ms: Time
    least: Fraction

    def share(self, metadata: Mapping[str, object], elapsed_ms: int) -> Fraction:
        """The part of the points that is left after this time; exact, so that judging again gives the same."""
        full_ms, least_ms = time_at(self.full_ms, metadata), time_at(self.least_ms, metadata)
        late = Fraction(min(max(elapsed_ms, full_ms), least_ms) - full_ms, least_ms - full_ms)
        return 1 - (1 - self.least) * late


@dataclass(frozen=True)
class ActionType:
    """One entry of the catalogue; times in milliseconds, bounds inclusive."""

    code: str
    title: str
    points: Points
    min_time: Time
    max_time_ms: int
    metadata_schema: Mapping[str, object] = field(default_factory=dict)
    speed: Speed | None = None

    @property
    def min_time_ms(self) -> int:
        """The least time that any metadata allows."""
        return self.min_time if isinstance(self.min_time, int) else min(self.min_time.times_ms.values())


def points_for(
    action_type: ActionType, metadata: Mapping[str, object], reported: int | None, elapsed_ms: int = 0
) -> int:
    """What a completion is worth, rounded down, ``elapsed_ms`` after its issue by the service's clock.

    Raises ValueError when metadata or report do not fit the type.
    """
    points = action_type.points
    if isinstance(points, ReportedPoints):
        if reported is None or not 0 <= reported <= points.maximum:
            raise ValueError(f"reported points {reported!r} are not within 0 and {points.maximum}")
        return reported
    if isinstance(points, FixedPoints):
        worth = Fraction(points.value)
    else:
        worth = min(Fraction(points.maximum), max(Fraction(0), points.base * _product(points, metadata)))
    if action_type.speed:
        worth *= action_type.speed.share(metadata, elapsed_ms)
    return math.floor(worth)


def points_at_most(action_type: ActionType, metadata: Mapping[str, object]) -> int:
    """The most that an action with this metadata can bring; shown as ``maxPoints``."""
    if isinstance(action_type.points, ReportedPoints):
        return action_type.points.maximum
    return points_for(action_type, metadata, None)


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
    """The client's evidence of the action; ``completion_time_ms`` is its own claim."""

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


def check_reported_points(action_type: ActionType, reported: int | None, *, field: str = "proof.points") -> None:
    """Refuse points where they are not asked for, missing ones, and those over the maximum.

    ``field`` is where they stand in what was sent.
    """
    points = action_type.points
    if not isinstance(points, ReportedPoints):
        if reported is not None:
            raise ValidationFailed({field: "this action type does not take points"})
        return
    if reported is None:
        raise ValidationFailed({field: "this action type needs the points reached"})
    if reported > points.maximum:
        raise ScoreValidationFailed(points.maximum)


def next_action_id(action_id: UUID, completion_time_ms: int) -> UUID:
    """The id of the action that a completion of this one may bring: always the same, so there is at most one.

    A UUID of version 7: the time of the completed one's id plus the time that it took by its player's word, so that
    rows issued at the same time lie together; the rest is a digest of the completed one's id.
    """
    issued_ms = action_id.int >> 80
    at_ms = (issued_ms + min(max(0, completion_time_ms), _ID_AHEAD_MAX_MS)) % (1 << 48)
    digest = hashlib.sha256(b"next action" + action_id.bytes).digest()
    noise = int.from_bytes(digest[:10], "big")
    return UUID(int=at_ms << 80 | 7 << 76 | (noise >> 68) << 64 | 2 << 62 | noise & (1 << 62) - 1)
