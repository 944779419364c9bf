"""The threat model: every line has its test, every chapter and item its line; and lines tested nowhere else."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from config import ROOT
from scoreboard.live.queue.app import make_celery
from tests.functional.client import Api, assert_refused, completion, create_staff, pages, register
from tests.service import Service
from tests.unit.test_layers import modules

MODEL = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
HEAD = "| threat | what we do | ASVS | API | test |"
# Numbers of ASVS 5.0.0: chapter, section, requirement.
REQUIREMENT = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{1,2})")
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
CHAPTERS = 17
ITEMS = 10
# Libraries that call addresses. A replay is a client of the service, and tracing and reports go where the settings say.
CALLERS = {"httpx", "requests", "urllib3", "aiohttp", "urllib.request", "http.client", "smtplib", "ftplib"}


def lines() -> list[list[str]]:
    """The cells of every line of the tables of threats."""
    found = []
    for table in MODEL.split(HEAD)[1:]:
        rows = table.lstrip("\n").split("\n\n", 1)[0].splitlines()[1:]
        found += [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return found


@cache
def names_in(path: str) -> set[str]:
    """The names of the test functions in a file below tests/, also those in classes."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_line_is_whole() -> None:
    assert len(lines()) >= 60
    for line in lines():
        assert len(line) == 5, line
        threat, defence, asvs, api, tests = line
        assert threat
        assert defence
        assert REQUIREMENT.search(asvs), threat
        assert api == "–" or re.fullmatch(r"API\d+(, API\d+)*", api), threat
        assert TEST.search(tests), threat


@pytest.mark.parametrize("named", sorted(set(TEST.findall(MODEL))), ids="::".join)
def test_every_test_that_is_named_exists(named: tuple[str, str]) -> None:
    path, name = named
    assert name.startswith("test_")
    assert (ROOT / "tests" / path).exists()
    assert name in names_in(path)


def test_nothing_that_looks_like_a_test_is_left_unchecked() -> None:
    mentioned = re.findall(r"\btest_\w+", TEST.sub("", MODEL))
    assert mentioned == []


def test_every_item_of_the_top_ten_is_listed_and_has_its_lines() -> None:
    wanted = {f"API{number}" for number in range(1, ITEMS + 1)}
    listed = re.findall(r"^\| (API\d+) ", MODEL, re.MULTILINE)
    assert listed == sorted(wanted, key=lambda item: int(item[3:]))
    assert {item for line in lines() for item in re.findall(r"API\d+", line[3])} == wanted


def test_every_chapter_applies_with_lines_or_says_why_not() -> None:
    listed = re.findall(r"^\| V(\d+) [^|]+ \| (.+) \|$", MODEL, re.MULTILINE)
    assert [int(number) for number, _ in listed] == list(range(1, CHAPTERS + 1))
    with_lines = {int(chapter) for line in lines() for chapter, *_ in REQUIREMENT.findall(line[2])}
    for number, words in listed:
        assert int(number) in with_lines or "does not apply" in words, f"V{number}"


# -- lines that have no better place --------------------------------------------------------


def test_a_refused_token_is_in_the_audit_log(service: Service) -> None:
    admin, player = create_staff(service), register(service.url)
    body = completion(player.request_action())
    body["actionToken"] = body["actionToken"][:-4] + "AAAA"
    assert_refused(player.send(body), 400, "INVALID_ACTION_TOKEN")
    (event,) = pages(admin.api, "/v1/admin/audit", userId=player.id, event="action.token_refused")
    assert event["actorId"] == player.id


@pytest.mark.parametrize(
    "query",
    [
        "/v1/leaderboard?limit=1&limit=2",
        "/v1/leaderboard/top10?a=1&a=1",
        "/v1/leaderboard?limit=1&limit=",
    ],
)
def test_a_parameter_given_twice_is_refused(service: Service, query: str) -> None:
    assert_refused(Api(service.url).call("GET", query), 400, "VALIDATION_FAILED")


def test_the_service_calls_nobody() -> None:
    """Only commands have the means to call an address: the replay, a client, and the one that asks its own health."""
    found = {
        module.name
        for module in modules().values()
        if any(f"{name}.".startswith(f"{each}.") for name in module.imports for each in CALLERS)
    }
    assert "scoreboard.cli.run" in found, "the walk sees imports"
    assert {name for name in found if not name.startswith(("scoreboard.replay", "scoreboard.cli."))} == set()


def test_the_broker_takes_json_only() -> None:
    """A pickled message would run a program of anyone with write access to Redis."""
    celery = make_celery("redis://127.0.0.1:1/0")
    assert list(celery.conf.accept_content) == ["json"]
    assert celery.conf.task_serializer == "json"
    assert set(celery.conf.result_accept_content or ["json"]) == {"json"}
