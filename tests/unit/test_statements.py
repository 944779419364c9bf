"""SQL stands in named files of the store, and only there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import ROOT
from scoreboard.store.statements import Source, Statement

SQL = ROOT / "scoreboard" / "store" / "sql"
NAMES = sorted(path.stem for path in SQL.iterdir())
MODULES = sorted(
    path
    for folder in ("scoreboard", "workers")
    for path in (ROOT / folder).rglob("*.py")
    # A migration is frozen when it is released, with all that it says.
    if "migrations/versions" not in path.as_posix()
)
# As many lines as SQL may have between lines of Python.
INLINE_MAX = 6
KINDS = {"Statement", "Prepared"}
_SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|COPY|SET|LOCK|CREATE|ALTER|DROP|TRUNCATE)\s+\S")
# Beside the store: a caller gets a connection and hands it on, and may see why a write was refused.
_OF_SQLALCHEMY = {"Connection", "exc"}


def literals(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """The texts in a module, those with fields in them as far as they are known."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values), node


def used_names() -> Iterator[str]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno} computes a name"
                yield str(name.value)


def test_each_file_is_used_once() -> None:
    assert sorted(used_names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_file_says_what_it_does(name: str) -> None:
    text = (SQL / f"{name}.sql").read_text(encoding="utf-8")
    assert re.match(r"-- \w.{10,}", text)
    assert text.endswith("\n")
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
    assert all(len(line) <= 120 for line in text.splitlines())
    source = Source.load(name)
    assert ";" not in source.sql
    # What is behind the statement on its line would be sent too; a text may hold two hyphens.
    assert "--" not in re.sub(r"'[^']*'", "", source.sql)
    if re.match(r"SELECT|WITH", source.sql) or "RETURNING" in source.sql.rpartition(")")[2]:
        assert re.search(r"^-- Rows: ", text, re.MULTILINE), f"{name}.sql does not say what its rows are"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_long_statement_stands_in_python(path: Path) -> None:
    for text, node in literals(path):
        if _SQL.match(text):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= INLINE_MAX, f"{path}:{node.lineno} belongs into a file of {SQL}"


@pytest.mark.parametrize(
    "path",
    # The local servers make their own database.
    [path for path in MODULES if not path.is_relative_to(ROOT / "scoreboard" / "store") and "local" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_sql_stands_beside_the_store(path: Path) -> None:
    for text, literal in literals(path):
        assert not _SQL.match(text), f"{path}:{literal.lineno}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sa":
            assert node.attr in _OF_SQLALCHEMY, f"{path}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert node.module != "scoreboard.store.tables", f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "text",
    [
        "-- Nothing declared.\nSELECT :id",
        "-- :id uuid\nSELECT 1",
        "-- :id uuid\n-- :id text\nSELECT :id",
        "-- Declared in the statement only.\nSELECT :id\n-- :id uuid\n",
    ],
)
def test_parameters_are_declared_once_and_used(text: str) -> None:
    with pytest.raises(ValueError, match="the parameters"):
        Source.parse("wrong", text)


def test_parameters_are_numbered_by_the_header_and_sent_by_place() -> None:
    text = """-- Compare.
--
-- :scores bigint[]
-- :id uuid          whose
SELECT ':' || id::text, '10%' FROM users WHERE id = :id AND score = ANY (:scores) OR id > :id
"""
    source = Source.parse("compare", text)
    assert source.types == {"scores": "bigint[]", "id": "uuid"}
    assert source.numbered().endswith("WHERE id = $2 AND score = ANY ($1) OR id > $2")
    assert source.for_driver() == (
        "SELECT ':' || id::text, '10%%' FROM users "
        "WHERE id = CAST(%s AS uuid) AND score = ANY (CAST(%s AS bigint[])) OR id > CAST(%s AS uuid)"
    )
    assert source.placeholders == ["id", "scores", "id"]


def test_arguments_that_it_does_not_take_are_refused() -> None:
    statement = Statement("one", tuple, text="-- :id uuid\nSELECT :id")
    for arguments in ({}, {"id": 1, "limit": 2}, {"ids": 1}):
        with pytest.raises(TypeError, match="one takes id"):
            statement.fetch(None, **arguments)  # type: ignore[arg-type]  # refused before it is looked at
