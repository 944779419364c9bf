"""docs/catalogue.md is right: its examples load and are worth what it says, its mistakes are refused in its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config import ROOT, Settings
from scoreboard.domain.actions import ActionType, points_for
from scoreboard.services.actions.catalogue import Catalogue, CatalogueError, load_catalogue
from tests.snippets import snippets

PAGE = ROOT / "docs/catalogue.md"
TEXT = PAGE.read_text(encoding="utf-8")

HEAD = """[actions.READ_CHAPTER]
title = "Read a chapter"
min_time_ms = 60_000
max_time_ms = 7_200_000
"""
FIXED = 'points = { kind = "fixed", value = 5 }\n'
COMPUTED = '[actions.READ_CHAPTER.points]\nkind = "computed"\nbase = 10\nmaximum = 50\n'
SCHEMA = "[actions.READ_CHAPTER.metadata]\n"
SIZE = 'type = "object"\nrequired = ["size"]\nproperties.size = { enum = ["small", "large"] }\n'
DIFFICULTY = 'type = "object"\nrequired = ["difficulty"]\n'

# What people write, one for each row under "Common mistakes".
MISTAKES = (
    (HEAD + FIXED).replace("actions", "action"),
    (HEAD + FIXED).replace("READ_CHAPTER", "read-chapter"),
    (HEAD + FIXED).replace("min_time_ms", "min_time"),
    HEAD + FIXED + 'colour = "red"\n',
    HEAD + FIXED.replace("5", '"5"'),
    HEAD + FIXED.replace("5", "0"),
    HEAD + FIXED.replace("fixed", "fix"),
    HEAD.replace("60_000", "60_000_000") + FIXED,
    HEAD.replace("60_000", '{ by = "size", small = 5_000 }') + FIXED + SCHEMA + SIZE,
    HEAD.replace("60_000", '{ by = "size", small = 5_000, large = 6_000 }') + FIXED,
    HEAD + FIXED + "speed = { full_ms = 60_000, least_ms = 60_000, least = 0 }\n",
    HEAD + 'points = { kind = "reported", maximum = 5 }\nspeed = { full_ms = 60_000, least_ms = 90_000, least = 0 }\n',
    HEAD.replace("7_200_000", "90_000_000") + FIXED,
    HEAD + COMPUTED + "multiply.difficulty = { easy = 1, hard = 5 }\n",
    HEAD
    + COMPUTED
    + "multiply.difficulty = { easy = 1, hard = 5 }\n"
    + SCHEMA
    + DIFFICULTY
    + 'properties.difficulty = { enum = ["easy", "medium", "hard"] }\n',
    HEAD
    + COMPUTED
    + "multiply.difficulty = { easy = 1, hard = 5 }\n"
    + SCHEMA
    + DIFFICULTY
    + 'properties.difficulty = { type = "string" }\n',
    HEAD
    + COMPUTED
    + 'multiply.pages = "value"\n'
    + SCHEMA
    + 'type = "object"\nrequired = ["pages"]\nproperties.pages = { type = "integer" }\n',
    HEAD + FIXED + SCHEMA + "additionalProperties = false\n",
    HEAD + FIXED + SCHEMA + 'type = "object"\nproperties.chapter = { type = "text" }\n',
    HEAD + FIXED + SCHEMA + 'type = "object"\nproperties.chapter = { "$ref" = "#/$defs/chapter" }\n',
    HEAD + FIXED.replace(",", ""),
    HEAD + FIXED + HEAD,
)


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    section = re.split(rf"^#+ {heading}$", TEXT, flags=re.MULTILINE)[1]
    rows = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert rows
    return [[cell.strip(" `") for cell in line.strip("|\n").split(" | ")] for line in rows[0].splitlines()[2:]]


def message(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_the_mistakes_are_refused_in_these_words(tmp_path: Path) -> None:
    printed = [message(tmp_path / "my.toml", mistake) for mistake in MISTAKES]
    assert printed == [row[0] for row in table("Common mistakes")]


def toml_under(heading: str) -> str:
    return next(each.text for each in snippets(PAGE) if (each.heading, each.language) == (heading, "toml"))


def loaded(folder: Path, heading: str) -> tuple[Catalogue, ActionType]:
    """The example under this heading, as a catalogue of its own."""
    (folder / "my.toml").write_text(toml_under(heading), encoding="utf-8")
    catalogue = load_catalogue(folder / "my.toml")
    (action_type,) = catalogue
    return catalogue, action_type


@pytest.mark.parametrize(
    "heading", ["Fixed", "Computed from a table", "Computed from a number", "Reported", "Points for speed"]
)
def test_an_example_is_worth_what_its_table_says(heading: str, tmp_path: Path) -> None:
    catalogue, action_type = loaded(tmp_path, heading)
    for metadata, *cells in table(heading):
        says = json.loads(metadata)
        catalogue.check_request(action_type.code, says)
        reported = int(cells[0]) if heading == "Reported" else None
        elapsed_ms = int(cells[0]) if heading == "Points for speed" else 0
        points = int(cells[1] if reported is not None or elapsed_ms else cells[0])
        assert points_for(action_type, says, reported, elapsed_ms) == points


def test_the_first_catalogue_is_started_with_tokens_that_live_as_long_as_its_action(tmp_path: Path) -> None:
    _, action_type = loaded(tmp_path, "A first catalogue")
    (start,) = (each.text for each in snippets(PAGE) if "make run" in each.text)
    ttl_s = re.search(r"ACTION_TOKEN_TTL_S=(\d+)", start)
    assert int(ttl_s[1] if ttl_s else Settings().action_token_ttl_s) * 1_000 >= action_type.max_time_ms


def test_the_other_examples_load(tmp_path: Path) -> None:
    assert loaded(tmp_path, "A first catalogue")[1].code == "READ_CHAPTER"
    assert loaded(tmp_path, "Time bounds")[1].min_time_ms == 5_000
    headings = [each.heading for each in snippets(PAGE) if each.language == "toml"]
    assert len(headings) == len(set(headings)) == 7
