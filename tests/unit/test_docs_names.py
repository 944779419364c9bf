"""What the documents name exists, and what exists is named: settings, codes, metrics, events, commands, paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app import create_app
from config import ROOT, Settings
from scoreboard.cli import COMMANDS
from scoreboard.domain.accounts import Role, Status
from scoreboard.domain.actions import SETTLED, State
from scoreboard.domain.rules import RULES
from scoreboard.services.actions.catalogue import load_catalogue
from scoreboard.web.api.refusals import CODES, STATUSES_AND_CODES
from tests.unit.test_docs import API, OPERATIONS, PAGES, rows

EMBEDDING = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
PYTHON = "\n".join(
    path.read_text(encoding="utf-8")
    for folder in ("scoreboard", "workers", "deploy")
    for path in sorted((ROOT / folder).rglob("*.py"))
)
# What is written for people who operate, build or play; decisions may name what is no more.
LIVING = [page for page in PAGES if page.parent.name != "adr" and page.name != "CHANGELOG.md"]

SETTINGS = {name.upper() for name in Settings.model_fields}
REASONS = {rule.reason for rule in RULES}
# Capitals that are neither a setting nor a code of ours.
OTHER_CAPITALS = {
    # of create-admin, compose.yaml and the make targets
    *("ADMIN_USERNAME", "ADMIN_EMAIL", "ADMIN_PASSWORD", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"),
    *("AUDIT_OPTIONS", "TEST_SERVERS", "MODEL_EFFORT", "LOCK_OPTIONS", "TEST_PROCESSES"),
    # codes that only the browser's module knows
    *("QUEUE_FULL", "NETWORK", "TIMEOUT"),
    # names in the code and its constants
    *("DEFAULT_BOARD", "SCHED_BATCH"),
}


def named(pattern: str, pages: list[Path] = LIVING) -> dict[str, set[str]]:
    """What matches in the pages, with the pages in which it does."""
    found: dict[str, set[str]] = {}
    for page in pages:
        for name in re.findall(pattern, page.read_text(encoding="utf-8")):
            found.setdefault(name, set()).add(page.name)
    return found


def test_every_name_in_capitals_is_a_setting_a_code_or_an_action() -> None:
    actions = {each.code for each in load_catalogue(ROOT / "scoreboard/catalogue.toml")}
    actions |= set(named(r"\[actions\.([A-Z_]+)\]"))
    known = SETTINGS | CODES | REASONS | actions | OTHER_CAPITALS
    names = named(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:=[^`]*)?`") | named(r"(?<![\w`.])([A-Z]{3,}_[A-Z_]+)(?![\w`])")
    assert {name: pages for name, pages in names.items() if name not in known} == {}


def test_the_error_table_is_that_of_the_code() -> None:
    table = rows(API, "Errors")
    documented = [(int(status), code) for row in table for status in row[0].split(", ") for code in row[1].split(", ")]
    assert sorted(documented) == sorted(STATUSES_AND_CODES)
    assert [row[0] for row in table] == sorted(row[0] for row in table)
    assert all(meaning for _, _, meaning in table)


def test_every_metric_that_a_page_names_exists() -> None:
    exist = {re.sub(r"[`* ]", "", name) for name, *_ in rows(OPERATIONS, "Metrics")}
    names = named(r"\b(scoreboard_[a-z_]+[a-z])\b")
    assert {name: pages for name, pages in names.items() if name not in exist} == {}


def test_the_events_of_the_stream_are_those_of_the_code() -> None:
    events = set(re.findall(r'"((?:leaderboard|score|rank|action):[a-z]+|heartbeat|reset)"', PYTHON))
    assert {row[0].strip("`") for row in rows(API, "The live stream")} == events
    embedded = {row[0].strip("`") for row in rows(EMBEDDING, "Events")}
    assert {event for event in events if ":" in event and not event.startswith("leaderboard")} <= embedded


def test_the_audit_events_are_those_of_the_code() -> None:
    in_code = set(re.findall(r'"((?:user|score|token|action|leaderboard)\.[a-z_]+)"', PYTHON))
    in_code |= {f"action.{state}" for state in SETTLED}
    section = API.split("\nAudit events:", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", section)) == in_code


def test_every_command_that_a_page_names_exists() -> None:
    names = named(r"(?:`|bin/|-m |^ {4})scoreboard ([a-z][a-z-]+)")
    assert set(names) == set(COMMANDS)


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    names = named(r"`make (?:[A-Z_]+=(?:\"[^\"]*\"|\S+) )*([a-z-]+)`")
    assert {name: pages for name, pages in names.items() if name not in targets} == {}


def test_every_path_that_a_page_names_exists() -> None:
    settings = Settings.load(database_url="postgresql://nobody@127.0.0.1/none", redis_url="redis://127.0.0.1:1")
    routes = {re.sub(r"<[^>]+>", "*", rule.rule) for rule in create_app(settings).url_map.iter_rules()}
    names = named(r"(?:(?<=[`\s/$I0e(])|(?<=API))(/v1/[a-zA-Z0-9/{}$_-]+)")
    shapes = {re.sub(r"\{[^}]+\}|\$id|\bme(?=/|$)", "*", name.rstrip("/")): pages for name, pages in names.items()}
    shapes = {path: pages for path, pages in shapes.items() if not any(_matches(path, route) for route in routes)}
    # What OpenTelemetry appends to a collector's address.
    assert shapes == {"/v1/traces": {"operations.md"}}


def _matches(path: str, route: str) -> bool:
    """Whether the route is this path, or below it: a page may name the group."""
    return re.fullmatch(re.escape(path).replace(r"\*", "[^/]+") + "(/.*)?", route.replace("*", "x")) is not None or (
        re.fullmatch(re.escape(route).replace(r"\*", "[^/]+"), path.replace("*", "x")) is not None
    )


def test_the_operations_of_the_api_are_all_on_its_page() -> None:
    settings = Settings.load(database_url="postgresql://nobody@127.0.0.1/none", redis_url="redis://127.0.0.1:1")
    paths = {rule.rule for rule in create_app(settings).url_map.iter_rules() if rule.rule.startswith("/v1/")}
    text = re.sub(r"\{[^}]+\}", "*", API)
    missing = []
    for path in paths:
        shape = re.sub(r"<[^>]+>", "*", path)
        tail = "…/" + shape.rsplit("/", 1)[1]
        if shape not in text and tail not in text and shape.replace("/v1/leaderboard/", "/") not in text:
            missing.append(path)
    assert missing == []


def test_every_log_event_to_look_for_is_logged() -> None:
    section = OPERATIONS.split("Events to\nlook for:", 1)[-1].split("\n## ", 1)[0]
    names = {
        name for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for name in re.findall(r"`([a-z_]+)`", row)
    }
    assert names
    assert {name for name in names if f'"{name}"' not in PYTHON} == set()


def test_the_parts_of_health_are_those_of_the_code() -> None:
    figures = (ROOT / "scoreboard/services/upkeep/health.py").read_text(encoding="utf-8")
    parts = set(re.findall(r'^ {8}(?:questions\[)?"([a-z]+)"(?:\] =|:) lambda', figures, re.MULTILINE))
    assert parts
    assert {row[0] for row in rows(OPERATIONS, "Health")} == parts


@pytest.mark.parametrize("word", [*Role, *Status, *State])
def test_the_glossary_or_the_api_page_explains_every_role_and_state(word: str) -> None:
    glossary = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{word}\b", glossary) or re.search(rf"^\| {word} \|", API, re.MULTILINE)


def test_the_glossary_has_each_term_once() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*([^*]+)\*\*", glossary, re.MULTILINE)
    assert len(terms) > 50
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("page", LIVING, ids=lambda page: page.name)
def test_no_sentence_is_bent_around_whoever(page: Path) -> None:
    assert re.findall(r"(?i)\bwhoever\b|\bthat is none\b|\bnobody's\b", page.read_text(encoding="utf-8")) == []
