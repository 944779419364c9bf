"""The documents say what is true of the code: settings, commands, metrics, codes, links, worked examples."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from config import ROOT, Settings
from scoreboard import metrics
from scoreboard.cli import COMMANDS
from scoreboard.domain.rules import RULES
from scoreboard.web.api.cross_origin import ALLOWED_HEADERS, EXPOSED_HEADERS

README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))

_UNSET = "–"
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under this heading, without its head."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table, f"no table under {heading}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[0].splitlines()[2:]]


def shown(default: object) -> str:
    """A default as the table shows it: the way it would be written in the environment, a dash for unset."""
    if default is None or default == ():
        return _UNSET
    if isinstance(default, Path):
        return f"`{default.relative_to(ROOT)}/`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_settings_table_names_every_setting_with_its_default_and_no_other() -> None:
    documented = {name.strip("`"): default for name, default, _ in rows(SETTINGS, "Table")}
    assert documented == {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}


def test_every_setting_is_explained() -> None:
    assert all(meaning for _, _, meaning in rows(SETTINGS, "Table"))


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = {name.strip("`").split()[1] for name, _ in rows(README, "The scoreboard command")}
    assert listed == set(COMMANDS)


def test_the_operators_page_lists_every_metric_and_no_other() -> None:
    documented = {re.sub(r"[`* ]", "", name) for name, *_ in rows(OPERATIONS, "Metrics")}
    described = [
        each for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase) for each in metric.describe()
    ]
    counted = {each.name + ("_total" if each.type == "counter" else "") for each in described}
    # Those that are asked for at the time of a scrape are named where they are made.
    scraped = (ROOT / "scoreboard/web/views/metrics.py").read_text(encoding="utf-8")
    assert documented == counted | set(re.findall(r'"(scoreboard_[a-z_]+)"', scraped))


@pytest.mark.parametrize("reason", [rule.reason for rule in RULES])
def test_the_api_page_explains_every_reason(reason: str) -> None:
    assert f"| {reason} |" in API


def test_the_checksums_of_the_api_page_are_right() -> None:
    key = re.search(r"All with the key `([^`]+)`", API)
    examples = re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", API, re.MULTILINE)
    assert key
    assert len(examples) >= 3
    for message, checksum in examples:
        assert hmac.new(key[1].encode(), message.encode(), hashlib.sha256).hexdigest() == checksum


def anchors(page: Path) -> set[str]:
    """The names that headings get on the usual forges: lower case, spaces to hyphens, other signs dropped."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_decisions_are_numbered_once_each() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_its_number_and_three_parts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_the_library_table_names_every_library_of_the_requirements() -> None:
    required = re.findall(
        r"^([A-Za-z][\w-]*)", (ROOT / "requirements/service.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    decision = (ROOT / "docs/adr/0002-libraries.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| ([A-Za-z][\w-]*) \|", decision, re.MULTILINE)) - {"library"} == set(required)


def test_the_embedding_page_names_the_headers_of_other_sites() -> None:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    sent, _, read = page.partition("may send")[2].partition("They can read")
    assert set(re.findall(r"`([A-Za-z-]+)`", sent)) == set(ALLOWED_HEADERS)
    assert set(re.findall(r"`([A-Za-z-]+)`", read.partition("also of refusals")[0])) == set(EXPOSED_HEADERS)
