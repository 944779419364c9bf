"""The code that stands in the pages of the documentation, so that tests can run what readers copy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEADING = re.compile(r"^#+ (.+)$")
_OPENING = re.compile(r"^( *)```(\w+)$")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: the heading it stands under, its language and its text."""

    heading: str
    language: str
    text: str


def snippets(page: Path) -> list[Snippet]:
    """Every fenced block with a language, in the order of the page."""
    found, heading, lines = [], "", iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if title := _HEADING.match(line):
            heading = title[1]
        elif opening := _OPENING.match(line):
            indent, language = opening.groups()
            block = []
            for inside in lines:
                if inside == f"{indent}```":
                    break
                block.append(inside.removeprefix(indent))
            found.append(Snippet(heading, language, "\n".join(block) + "\n"))
    return found


def texts(page: Path, heading: str, language: str) -> list[str]:
    """The blocks of one language under one heading."""
    return [each.text for each in snippets(page) if (each.heading, each.language) == (heading, language)]
