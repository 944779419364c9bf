"""The catalogue of action types: read from TOML, checked whole, wrong entries named."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from scoreboard.domain.actions import (
    ActionType,
    ComputedPoints,
    FixedPoints,
    Points,
    ReportedPoints,
    Speed,
    Time,
    TimeBy,
    points_at_most,
    time_at,
)
from scoreboard.domain.errors import ValidationFailed

# Metadata is bound into the token and kept with the action; a game's parameters fit many times over.
METADATA_MAX_BYTES = 2_048
# Metadata found right and remembered, per process: the levels of a game many times over, and 4 MB at most. Checking
# takes twenty times as long as looking it up.
_CHECKED_MAX = 2_000
_CODE = r"^[A-Z][A-Z0-9_]{0,49}$"
# One day: an action that takes longer is not one action.
_TIME_MAX_MS = 86_400_000
# Components of pydantic's locations that stand nowhere in the file.
_KINDS = ("fixed", "computed", "reported")
_PositivePoints = Annotated[int, Field(ge=1, le=1_000_000_000)]
_Number = int | float


class CatalogueError(Exception):
    """The catalogue is wrong; the message names the file and the entry."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Fixed(_Model):
    kind: Literal["fixed"]
    value: _PositivePoints

    def points(self) -> Points:
        return FixedPoints(self.value)


class _Computed(_Model):
    kind: Literal["computed"]
    base: Annotated[_Number, Field(gt=0, le=1e9)]
    maximum: _PositivePoints
    multiply: dict[str, dict[str, Annotated[_Number, Field(ge=0, le=1e9)]] | Literal["value"]] = Field(min_length=1)

    def points(self) -> Points:
        multiply = {
            name: None if isinstance(table, str) else {key: Fraction(str(factor)) for key, factor in table.items()}
            for name, table in self.multiply.items()
        }
        return ComputedPoints(Fraction(str(self.base)), multiply, self.maximum)


class _Reported(_Model):
    kind: Literal["reported"]
    maximum: _PositivePoints

    def points(self) -> Points:
        return ReportedPoints(self.maximum)


_Milliseconds = Annotated[int, Field(ge=0, le=_TIME_MAX_MS)]


class _TimeBy(BaseModel):
    """``{ by = "difficulty", easy = 1_000, … }``"""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, _Milliseconds] = Field(init=False)
    by: str

    def time(self) -> Time:
        return TimeBy(self.by, dict(self.__pydantic_extra__ or {}))


# Tags in brackets, as pydantic's other parts of a location that stand nowhere in the file.
_Time = Annotated[
    Annotated[_Milliseconds, Tag("[number]")] | Annotated[_TimeBy, Tag("[table]")],
    Discriminator(lambda value: "[table]" if isinstance(value, dict) else "[number]"),
]


def _time(declared: int | _TimeBy) -> Time:
    return declared if isinstance(declared, int) else declared.time()


class _Speed(_Model):
    full_ms: _Time
    least_ms: _Time
    least: Annotated[_Number, Field(ge=0, lt=1)]

    def speed(self) -> Speed:
        return Speed(_time(self.full_ms), _time(self.least_ms), Fraction(str(self.least)))


class _Entry(_Model):
    title: Annotated[str, Field(min_length=1, max_length=100)]
    min_time_ms: _Time
    max_time_ms: Annotated[int, Field(ge=1, le=_TIME_MAX_MS)]
    points: Annotated[_Fixed | _Computed | _Reported, Field(discriminator="kind")]
    metadata: dict[str, Any] = {"type": "object", "additionalProperties": False}
    speed: _Speed | None = None

    @model_validator(mode="after")
    def _check(self) -> _Entry:
        try:
            Draft202012Validator.check_schema(self.metadata)
        except SchemaError as error:
            raise ValueError(f"metadata is not a JSON Schema: {error.message}") from None
        _check_stands_alone(self.metadata)
        if self.metadata.get("type") != "object":
            raise ValueError('metadata must have type = "object"')
        if isinstance(self.points, _Computed):
            _check_factors(self.points, self.metadata)
        _check_times(self)
        return self


def _check_factors(points: _Computed, schema: Mapping[str, Any]) -> None:
    """Every metadata that the schema lets in must have a price."""
    for name, table in points.multiply.items():
        if name not in schema.get("required", []) or name not in schema.get("properties", {}):
            raise ValueError(f"points.multiply.{name} needs a required property of that name in metadata")
        declared = schema["properties"][name]
        if not isinstance(declared, dict):
            raise ValueError(f"metadata.properties.{name} must be a table")
        if table == "value":
            if declared.get("type") not in ("integer", "number") or "maximum" not in declared:
                raise ValueError(f'metadata.properties.{name} needs type "integer" or "number" and a maximum')
        elif "enum" not in declared:
            raise ValueError(
                f"metadata.properties.{name} needs an enum with the values that points.multiply.{name} lists"
            )
        elif missing := [value for value in declared["enum"] if str(value) not in table]:
            raise ValueError(f"points.multiply.{name} has no factor for {missing[0]!r}")


def _check_times(entry: _Entry) -> None:
    """Every metadata that the schema lets in must have its times, and leave time to earn all the points."""
    declared = {"min_time_ms": entry.min_time_ms}
    if entry.speed:
        if isinstance(entry.points, _Reported):
            raise ValueError("speed does not go with reported points: the client says what they are")
        declared |= {"speed.full_ms": entry.speed.full_ms, "speed.least_ms": entry.speed.least_ms}
    tables = {name: time for name, time in declared.items() if isinstance(time, _TimeBy)}
    for name, table in tables.items():
        _check_table(name, table, entry.metadata)
    orders = [*declared.items(), ("max_time_ms", entry.max_time_ms)]
    for metadata in _cases({table.by: entry.metadata["properties"][table.by]["enum"] for table in tables.values()}):
        where = f" for {', '.join(f'{name} {value}' for name, value in metadata.items())}" if metadata else ""
        times = [(name, time_at(_time(time), metadata)) for name, time in orders]
        for (name, time), (next_name, next_time) in pairwise(times):
            if time > next_time:
                raise ValueError(f"{name} is over {next_name}{where}")
            if time == next_time and name == "speed.full_ms":
                raise ValueError(f"speed.full_ms is not under speed.least_ms{where}")


def _check_table(name: str, table: _TimeBy, schema: Mapping[str, Any]) -> None:
    property_of = schema.get("properties", {}).get(table.by)
    if table.by not in schema.get("required", []) or not isinstance(property_of, dict):
        raise ValueError(f"{name} needs a required property {table.by} in metadata")
    values = [str(value) for value in property_of.get("enum", [])]
    if not values:
        raise ValueError(f"{name} goes by {table.by}: list all its values in an enum")
    times = table.__pydantic_extra__ or {}
    if missing := [value for value in values if value not in times]:
        raise ValueError(f"{name} has no time for {missing[0]!r}")
    if unknown := [value for value in times if value not in values]:
        raise ValueError(f"{name} has a time for {unknown[0]!r}, which the enum of {table.by} does not list")


def _cases(enums: Mapping[str, list[object]]) -> list[dict[str, object]]:
    """All combinations of the values that times depend on; one empty case where they depend on none."""
    return [dict(zip(enums, values, strict=True)) for values in product(*enums.values())]


def _check_stands_alone(part: object) -> None:
    """A schema names all its parts itself: references could lead nowhere, in a circle, or to another site."""
    if isinstance(part, list):
        for item in part:
            _check_stands_alone(item)
    if not isinstance(part, dict):
        return
    for keyword in ("$ref", "$dynamicRef"):
        if isinstance(part.get(keyword), str):
            raise ValueError(f"metadata uses {keyword} to {part[keyword]!r}; write that part out instead")
    for item in part.values():
        _check_stands_alone(item)


class _File(_Model):
    actions: dict[Annotated[str, Field(pattern=_CODE)], _Entry] = Field(min_length=1)


@dataclass(frozen=True)
class Catalogue:
    """The known action types by code."""

    types: Mapping[str, ActionType]

    def get(self, code: str) -> ActionType | None:
        return self.types.get(code)

    def __iter__(self) -> Iterator[ActionType]:
        return iter(self.types.values())

    @cached_property
    def _validators(self) -> dict[str, Draft202012Validator]:
        return {code: Draft202012Validator(dict(each.metadata_schema)) for code, each in self.types.items()}

    @cached_property
    def _checked(self) -> set[tuple[str, bytes]]:
        """Types with metadata, as JSON, that were found right."""
        return set()

    def check_request(self, code: str, metadata: Mapping[str, object]) -> ActionType:
        """The type of an action about to be issued. Raises ValidationFailed naming the field."""
        action_type = self.types.get(code)
        if action_type is None:
            raise ValidationFailed({"actionType": f"is not one of {', '.join(sorted(self.types))}"})
        try:
            written = orjson.dumps(metadata)
        except TypeError:
            raise ValidationFailed({"metadata": "is nested too deeply"}) from None
        if (code, written) in self._checked:
            return action_type
        if len(written) > METADATA_MAX_BYTES:
            raise ValidationFailed({"metadata": f"has more than {METADATA_MAX_BYTES} bytes"})
        self._check_metadata(action_type, metadata)
        if len(self._checked) >= _CHECKED_MAX:
            self._checked.clear()
        self._checked.add((code, written))
        return action_type

    def _check_metadata(self, action_type: ActionType, metadata: Mapping[str, object]) -> None:
        fields: dict[str, str] = {}
        for error in self._validators[action_type.code].iter_errors(metadata):
            path = ".".join(["metadata", *(str(part) for part in error.absolute_path)])
            fields.setdefault(path, error.message[:200])
        if fields:
            raise ValidationFailed(fields)
        try:
            points_at_most(action_type, metadata)
            time_at(action_type.min_time, metadata)
        except ValueError as error:
            raise ValidationFailed({"metadata": str(error)}) from None


def load_catalogue(path: Path) -> Catalogue:
    """Read and check a catalogue file. Raises CatalogueError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from None
    # RecursionError: ten thousand opening brackets.
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogueError(f"{path}: not TOML: {error}") from None
    try:
        entries = _File.model_validate(raw).actions
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if str(part) not in _KINDS and "[" not in str(part))
        raise CatalogueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    return Catalogue({code: _action_type(code, entry) for code, entry in entries.items()})


def _action_type(code: str, entry: _Entry) -> ActionType:
    return ActionType(
        code=code,
        title=entry.title,
        points=entry.points.points(),
        min_time=_time(entry.min_time_ms),
        max_time_ms=entry.max_time_ms,
        metadata_schema=entry.metadata,
        speed=entry.speed.speed() if entry.speed else None,
    )
