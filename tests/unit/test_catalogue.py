"""The catalogue: the default loads, a wrong one is refused by name, requests are checked against it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from config import ROOT
from scoreboard.domain.actions import (
    ComputedPoints,
    FixedPoints,
    ReportedPoints,
    Speed,
    TimeBy,
    points_at_most,
    points_for,
    time_at,
)
from scoreboard.domain.errors import ValidationFailed
from scoreboard.services.actions.catalogue import (
    _CHECKED_MAX,
    METADATA_MAX_BYTES,
    Catalogue,
    CatalogueError,
    load_catalogue,
)

DEFAULT = ROOT / "scoreboard" / "catalogue.toml"

TITLE = 'title = "Jump"'
TIMES = "min_time_ms = 0\nmax_time_ms = 1000"
FIXED = 'points = { kind = "fixed", value = 1 }'


def entry(*lines: str, code: str = "JUMP") -> str:
    return "\n".join([f"[actions.{code}]", *lines])


def computed(
    multiply: str = "{ easy = 1, hard = 1.1 }",
    declared: str = '{ enum = ["easy", "hard"] }',
    required: str = '["level"]',
    base: str = "10",
) -> str:
    """An entry whose points depend on ``metadata.level``."""
    return entry(
        TITLE,
        TIMES,
        f'points = {{ kind = "computed", base = {base}, maximum = 50, multiply = {{ level = {multiply} }} }}',
        "[actions.JUMP.metadata]",
        'type = "object"',
        "additionalProperties = false",
        f"required = {required}",
        f"properties = {{ level = {declared} }}",
    )


def timed(
    min_time: str = "{ by = 'level', easy = 1, hard = 2 }",
    speed: str | None = None,
    points: str = FIXED,
    required: str = '["level"]',
    declared: str = '{ enum = ["easy", "hard"] }',
) -> str:
    """An entry whose times depend on ``metadata.level``."""
    return entry(
        TITLE,
        f"min_time_ms = {min_time}",
        "max_time_ms = 1000",
        points,
        f"speed = {speed}" if speed else "",
        "[actions.JUMP.metadata]",
        'type = "object"',
        f"required = {required}",
        f"properties = {{ level = {declared} }}",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "types.toml"


def load(path: Path, text: str) -> Catalogue:
    path.write_text(text, encoding="utf-8")
    return load_catalogue(path)


def test_a_mark_in_front_and_other_line_ends_are_read_over(path: Path) -> None:
    text = (ROOT / "scoreboard/catalogue.toml").read_text(encoding="utf-8")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_catalogue(path).types


def complaint(path: Path, text: str) -> str:
    with pytest.raises(CatalogueError) as caught:
        load(path, text)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_the_default_loads_with_one_type_of_each_kind() -> None:
    types = {each.code: each for each in load_catalogue(DEFAULT)}
    assert {code: type(each.points) for code, each in types.items()} == {
        "COMPLETE_LEVEL": ComputedPoints,
        "SOLVE_PROBLEM": FixedPoints,
        "FINISH_ROUND": ReportedPoints,
        "TAP_NUMBERS": ComputedPoints,
    }
    assert all(0 <= each.min_time_ms <= each.max_time_ms for each in types.values())
    assert points_for(types["COMPLETE_LEVEL"], {"difficulty": "hard"}, None) == 50


def test_times_may_go_by_a_metadata_property(path: Path) -> None:
    speed = "{ full_ms = { by = 'level', easy = 5, hard = 20 }, least_ms = 100, least = 0.5 }"
    jump = load(path, timed(speed=speed)).types["JUMP"]
    assert jump.min_time == TimeBy("level", {"easy": 1, "hard": 2})
    assert jump.min_time_ms == 1
    assert jump.speed == Speed(TimeBy("level", {"easy": 5, "hard": 20}), 100, Fraction(1, 2))
    assert [time_at(jump.min_time, {"level": level}) for level in ("easy", "hard")] == [1, 2]


def test_a_value_without_a_time_is_refused(path: Path) -> None:
    # JSON Schema takes 1.0 for 1; the table of times does not.
    catalogue = load(path, timed("{ by = 'level', 1 = 5 }", declared="{ enum = [1] }"))
    assert catalogue.check_request("JUMP", {"level": 1}).code == "JUMP"
    assert fields(catalogue, "JUMP", {"level": 1.0}) == {"metadata": "metadata.level 1.0 has no time"}


def test_the_default_leaves_time_to_earn_everything() -> None:
    for each in load_catalogue(DEFAULT):
        for level in ("easy", "medium", "hard"):
            metadata = {"difficulty": level}
            most = points_for(each, metadata, 0, time_at(each.min_time, metadata))
            assert isinstance(each.points, ReportedPoints) or most == points_at_most(each, metadata)


def test_factors_are_read_as_they_are_written(path: Path) -> None:
    points = load(path, computed(base="0.1")).types["JUMP"].points
    assert points == ComputedPoints(Fraction(1, 10), {"level": {"easy": Fraction(1), "hard": Fraction(11, 10)}}, 50)


def test_a_factor_may_be_the_metadata_number(path: Path) -> None:
    points = load(path, computed('"value"', '{ type = "integer", maximum = 3 }')).types["JUMP"].points
    assert points == ComputedPoints(Fraction(10), {"level": None}, 50)


def test_an_entry_without_metadata_takes_none(path: Path) -> None:
    catalogue = load(path, entry(TITLE, TIMES, FIXED))
    assert catalogue.check_request("JUMP", {}).code == "JUMP"
    with pytest.raises(ValidationFailed):
        catalogue.check_request("JUMP", {"level": 1})


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (entry(TITLE, TIMES, 'points = { kind = "lottery" }'), "actions.JUMP.points", "'computed'"),
        (entry(TITLE, TIMES, "points = { value = 1 }"), "actions.JUMP.points", "kind"),
        (entry(TITLE, TIMES, 'points = { kind = "fixed", value = 0 }'), "actions.JUMP.points.value", "greater than"),
        (entry(TITLE, TIMES, 'points = { kind = "fixed", value = 1.5 }'), "actions.JUMP.points.value", "integer"),
        (entry(TITLE, TIMES, 'points = { kind = "fixed", value = "1" }'), "actions.JUMP.points.value", "integer"),
        (entry(TITLE, TIMES, 'points = { kind = "reported" }'), "actions.JUMP.points.maximum", "required"),
        (entry(TITLE, TIMES), "actions.JUMP.points", "required"),
        (entry(TIMES, FIXED), "actions.JUMP.title", "required"),
        (entry('title = ""', TIMES, FIXED), "actions.JUMP.title", "at least 1"),
        (entry(TITLE, "min_time_ms = 2\nmax_time_ms = 1", FIXED), "actions.JUMP", "min_time_ms is over max_time_ms"),
        (entry(TITLE, "min_time_ms = -1\nmax_time_ms = 1", FIXED), "actions.JUMP.min_time_ms", "greater than"),
        (entry(TITLE, "min_time_ms = 0\nmax_time_ms = 86400001", FIXED), "actions.JUMP.max_time_ms", "less than"),
        (entry(TITLE, TIMES, FIXED, "colour = 1"), "actions.JUMP.colour", "not permitted"),
        (entry(TITLE, TIMES, FIXED, code="jump"), "actions.jump", "pattern"),
        (entry(TITLE, TIMES, FIXED, 'metadata = { type = "objct" }'), "actions.JUMP", "not a JSON Schema"),
        (entry(TITLE, TIMES, FIXED, 'metadata = { type = "array" }'), "actions.JUMP", 'type = "object"'),
        (
            entry(TITLE, TIMES, FIXED, 'metadata = { type = "object", patternProperties = { "[" = {} } }'),
            "actions.JUMP",
            "not a JSON Schema",
        ),
        ("", "actions", "required"),
        ("[actions]", "actions", "at least 1"),
        (entry(TITLE, TIMES, FIXED) + "\n[extra]", "extra", "not permitted"),
        (computed(required="[]"), "actions.JUMP", "points.multiply.level needs a required property"),
        (computed(required='["level", "other"]').replace("multiply = { level", "multiply = { other"), "actions.JUMP",
         "points.multiply.other needs a required property"),
        (computed(declared='{ enum = ["easy", "hard", "mad"] }'), "actions.JUMP", "has no factor for 'mad'"),
        (computed(declared='{ type = "string" }'), "actions.JUMP", "needs an enum with the values"),
        (computed('"value"', '{ type = "string" }'), "actions.JUMP", 'needs type "integer" or "number"'),
        (computed('"value"', '{ type = "integer" }'), "actions.JUMP", "and a maximum"),
        (timed("{ easy = 1, hard = 2 }"), "actions.JUMP.min_time_ms.by", "required"),
        (timed("{ by = 'level', easy = 1, hard = -2 }"), "actions.JUMP.min_time_ms.hard", "greater than"),
        (timed("{ by = 'level', easy = 1, hard = 1.5 }"), "actions.JUMP.min_time_ms.hard", "integer"),
        (timed("'1'"), "actions.JUMP.min_time_ms", "integer"),
        (timed("{ by = 'level', easy = 1 }"), "actions.JUMP", "min_time_ms has no time for 'hard'"),
        (timed("{ by = 'level', easy = 1, hard = 2, mad = 3 }"), "actions.JUMP", "a time for 'mad'"),
        (timed("{ by = 'other', easy = 1, hard = 2 }"), "actions.JUMP", "needs a required property other"),
        (timed(required="[]"), "actions.JUMP", "min_time_ms needs a required property level"),
        (timed(declared="true"), "actions.JUMP", "min_time_ms needs a required property level"),
        (timed(declared='{ type = "string" }'), "actions.JUMP", "list all its values in an enum"),
        (timed("{ by = 'level', easy = 1, hard = 1001 }"), "actions.JUMP",
         "min_time_ms is over max_time_ms for level hard"),
        (timed(speed="{ full_ms = 1, least_ms = 100, least = 0.5 }"), "actions.JUMP",
         "min_time_ms is over speed.full_ms for level hard"),
        (timed(speed="{ full_ms = 9, least_ms = 9, least = 0.5 }"), "actions.JUMP", "full_ms is not under"),
        (timed(speed="{ full_ms = 9, least_ms = 8, least = 0.5 }"), "actions.JUMP", "full_ms is over speed.least_ms"),
        (timed(speed="{ full_ms = 9, least_ms = 1001, least = 0.5 }"), "actions.JUMP", "least_ms is over max_time_ms"),
        (timed(speed="{ full_ms = 9, least_ms = 10, least = 1 }"), "actions.JUMP.speed.least", "less than"),
        (timed(speed="{ full_ms = 9, least_ms = 10, least = nan }"), "actions.JUMP.speed.least", "greater than"),
        (timed(speed="{ full_ms = 9, least_ms = 10 }"), "actions.JUMP.speed.least", "required"),
        (timed(speed="{ full_ms = 9, least_ms = { by = 'level', easy = 10 }, least = 0 }"), "actions.JUMP",
         "speed.least_ms has no time for 'hard'"),
        (timed(speed="{ full_ms = 9, least_ms = 10, least = 0 }",
               points='points = { kind = "reported", maximum = 9 }'), "actions.JUMP", "not go with reported"),
        (computed(base="0"), "actions.JUMP.points.base", "greater than 0"),
        (computed(base="nan"), "actions.JUMP.points.base", "greater than 0"),
        (computed(base="inf"), "actions.JUMP.points.base", "less than"),
    ],
)  # fmt: skip
def test_a_wrong_entry_is_named(path: Path, text: str, where: str, what: str) -> None:
    message = complaint(path, text)
    assert message.startswith((f"{where}: ", f"{where}.[key]: "))
    assert what in message


@pytest.mark.parametrize("multiply", ["{ easy = -1, hard = 1 }", "{ easy = nan, hard = 1 }", '"other"'])
def test_a_wrong_factor_is_named_in_plain_words(path: Path, multiply: str) -> None:
    message = complaint(path, computed(multiply))
    assert message.startswith("actions.JUMP.points.multiply.level")
    assert "function" not in message


def test_a_property_that_is_no_table_is_named(path: Path) -> None:
    assert complaint(path, computed(declared="true")).startswith("actions.JUMP: ")


def test_a_reference_that_leads_nowhere_is_named(path: Path) -> None:
    schema = 'metadata = { type = "object", properties = { a = { "$ref" = "#/$defs/none" } } }'
    assert complaint(path, entry(TITLE, TIMES, FIXED, schema)).startswith("actions.JUMP")


def test_what_is_not_toml_is_refused(path: Path) -> None:
    assert complaint(path, "[actions.JUMP").startswith("not TOML: ")
    path.write_bytes(b'[actions.A]\ntitle = "\xff"')
    with pytest.raises(CatalogueError, match="not TOML"):
        load_catalogue(path)


def test_a_missing_file_is_refused(path: Path, tmp_path: Path) -> None:
    for missing in (path, tmp_path):
        with pytest.raises(CatalogueError, match=r"No such file|Is a directory"):
            load_catalogue(missing)


@pytest.fixture(scope="module")
def default() -> Catalogue:
    return load_catalogue(DEFAULT)


def fields(catalogue: Catalogue, code: str, metadata: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as caught:
        catalogue.check_request(code, metadata)
    found = caught.value.details["fields"]
    assert isinstance(found, dict)
    return found


def test_a_request_that_fits_gets_its_type(default: Catalogue) -> None:
    assert default.check_request("COMPLETE_LEVEL", {"difficulty": "easy", "levelId": "1"}).code == "COMPLETE_LEVEL"
    assert default.get("COMPLETE_LEVEL") is default.types["COMPLETE_LEVEL"]
    assert default.get("NONE") is None


def test_an_unknown_type_is_told_which_there_are(default: Catalogue) -> None:
    assert fields(default, "NONE", {}) == {
        "actionType": "is not one of COMPLETE_LEVEL, FINISH_ROUND, SOLVE_PROBLEM, TAP_NUMBERS"
    }


def test_each_wrong_metadata_field_is_named(default: Catalogue) -> None:
    assert fields(default, "COMPLETE_LEVEL", {}) == {"metadata": "'difficulty' is a required property"}
    assert fields(default, "COMPLETE_LEVEL", {"difficulty": "mad", "levelId": 7}) == {
        "metadata.difficulty": "'mad' is not one of ['easy', 'medium', 'hard']",
        "metadata.levelId": "7 is not of type 'string'",
    }
    assert "'x' was unexpected" in fields(default, "SOLVE_PROBLEM", {"x": 1})["metadata"]


def test_a_message_repeats_only_the_beginning_of_a_long_value(default: Catalogue) -> None:
    assert len(fields(default, "SOLVE_PROBLEM", {"problem": "x" * 1_000})["metadata.problem"]) == 200


def test_metadata_is_bounded_in_bytes(path: Path) -> None:
    catalogue = load(path, entry(TITLE, TIMES, FIXED, 'metadata = { type = "object" }'))
    room = METADATA_MAX_BYTES - len('{"a":""}')
    catalogue.check_request("JUMP", {"a": "é" * (room // 2)})
    assert fields(catalogue, "JUMP", {"a": "é" * (room // 2 + 1)}) == {"metadata": "has more than 2048 bytes"}


def test_what_was_found_right_is_remembered_by_type_within_a_bound(default: Catalogue) -> None:
    for number in range(_CHECKED_MAX + 10):
        default.check_request("SOLVE_PROBLEM", {"problem": str(number)})
    assert 0 < len(default._checked) <= _CHECKED_MAX
    for _ in range(2):
        assert default.check_request("SOLVE_PROBLEM", {"problem": "1"}).code == "SOLVE_PROBLEM"
        assert fields(default, "FINISH_ROUND", {"problem": "1"})
        assert fields(default, "SOLVE_PROBLEM", {"problem": 1}), "another value, written otherwise"


def test_deeply_nested_metadata_is_refused_like_any_other(default: Catalogue) -> None:
    metadata: dict[str, Any] = {}
    for _ in range(300):
        metadata = {"a": metadata}
    assert list(fields(default, "SOLVE_PROBLEM", metadata)) == ["metadata"]


def test_a_value_that_the_schema_lets_in_without_a_factor_is_refused(path: Path) -> None:
    # JSON Schema takes 1.0 for 1; the table of factors does not.
    catalogue = load(path, computed("{ 1 = 2 }", "{ enum = [1] }"))
    assert catalogue.check_request("JUMP", {"level": 1}).code == "JUMP"
    assert fields(catalogue, "JUMP", {"level": 1.0}) == {"metadata": "metadata.level 1.0 has no factor"}
