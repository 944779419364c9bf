"""docs/catalogue.md is right: its examples load and are worth what it says, its mistakes are refused in its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from config import ROOT
from scoreboard.domain.actions import points_for
from scoreboard.services.catalogue import CatalogueError, load_catalogue
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
    HEAD.replace("7_200_000", "90_000_000") + FIXED,
    HEAD + COMPUTED + "multiply.difficulty = { easy = 1, hard = 5 }\n",
    HEAD
    + COMPUTED
    + "multiply.difficulty = { easy = 1, hard = 5 }\n"
    + SCHEMA
    + 'type = "object"\nrequired = ["difficulty"]\n'
    + 'properties.difficulty = { enum = ["easy", "medium", "hard"] }\n',
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


@pytest.mark.parametrize(
    "heading",
    [each.heading for each in snippets(PAGE) if each.language == "toml" and each.heading != "A first catalogue"],
)
def test_an_example_is_worth_what_its_table_says(heading: str, tmp_path: Path) -> None:
    (text,) = (each.text for each in snippets(PAGE) if (each.heading, each.language) == (heading, "toml"))
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    catalogue = load_catalogue(tmp_path / "my.toml")
    (action_type,) = catalogue
    for metadata, *cells in table(heading):
        says = json.loads(metadata)
        catalogue.check_request(action_type.code, says)
        reported, points = (int(cells[0]), int(cells[1])) if heading == "Reported" else (None, int(cells[0]))
        assert points_for(action_type, says, reported) == points


def test_the_first_catalogue_loads(tmp_path: Path) -> None:
    text = next(each.text for each in snippets(PAGE) if each.language == "toml")
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    assert [each.code for each in load_catalogue(tmp_path / "my.toml")] == ["READ_CHAPTER"]
