"""What the audit and the bill of materials make of the reports they are given, and that all is locked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from config import ROOT
from supply import sbom
from supply.audit import Findings, Verdict, canonical, pinned, read_report

LOCK = """
# via something
flask==3.1.3 \\
    --hash=sha256:00
zope-event==6.0 ; python_version > "3" \\
    --hash=sha256:11
"""
CLEAN = {"name": "Flask", "version": "3.1.3", "vulns": []}
FLAW = {"id": "PYSEC-1", "fix_versions": ["3.2"], "aliases": [], "description": ""}


def findings(*packages: dict[str, Any], wanted: str = "flask") -> Findings:
    return read_report({"dependencies": list(packages), "fixes": []}, wanted.split(), ["flask"])


def test_a_lock_file_is_read() -> None:
    assert pinned(LOCK) == {"flask": "3.1.3", "zope-event": "6.0"}
    assert canonical("zope.Event_x") == "zope-event-x"


def test_known_and_harmless_is_clean() -> None:
    assert findings(CLEAN).verdict is Verdict.CLEAN


@pytest.mark.parametrize(
    ("packages", "wanted", "named"),
    [
        ([], "flask", "flask: not in the report"),
        ([CLEAN], "flask jinja2", "jinja2: not in the report"),
        ([{"name": "Flask", "skip_reason": "not found"}], "flask", "flask: not found"),
    ],
)
def test_what_could_not_be_asked_is_not_clean(packages: list[dict[str, Any]], wanted: str, named: str) -> None:
    found = findings(*packages, wanted=wanted)
    assert found.verdict is Verdict.NOT_ASKED
    assert found.unknown == [named]


def test_nothing_asked_at_all_is_not_clean() -> None:
    assert Findings().verdict is Verdict.NOT_ASKED


def test_a_vulnerability_outweighs_what_could_not_be_asked() -> None:
    found = findings({**CLEAN, "vulns": [FLAW]}, wanted="flask jinja2")
    assert found.verdict is Verdict.VULNERABLE
    assert found.vulnerable == ["flask 3.1.3 (deployed): PYSEC-1, mended in 3.2"]


def part(name: str = "Flask", version: str = "3.1.3", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, **more}


def bill(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"components": list(parts)}


DISTRIBUTION = {"type": "distribution", "hashes": [{"alg": "SHA-256", "content": "00"}]}
BSD = {"license": {"id": "BSD-3-Clause"}}


def test_the_bill_takes_the_hashes_of_the_lock() -> None:
    merged = sbom.merge(bill(part(licenses=[BSD])), bill(part("flask", externalReferences=[DISTRIBUTION])))
    assert sbom.problems(merged, {"flask": "3.1.3"}) == []


def test_a_licence_read_by_hand_fills_a_gap() -> None:
    merged = sbom.merge(bill(part("protobuf")), bill(part("protobuf", externalReferences=[DISTRIBUTION])))
    assert sbom.licences(merged["components"][0]) == {"BSD-3-Clause"}


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"expression": "MPL-2.0 AND (Apache-2.0 OR MIT)"}, {"MPL-2.0", "Apache-2.0", "MIT"}),
        ({"license": {"id": "MIT"}}, {"MIT"}),
        ({"license": {"name": "License :: OSI Approved :: BSD License"}}, {"BSD-3-Clause"}),
        ({"license": {"name": "Ask me"}}, {"Ask me"}),
    ],
)
def test_licences_are_read_in_every_way_they_are_put(entry: dict[str, Any], named: set[str]) -> None:
    assert sbom.licences(part(licenses=[entry])) == named


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (part(licenses=[BSD]), "flask has no hash"),
        (part(externalReferences=[DISTRIBUTION]), "flask is under no stated licence"),
        (
            part(externalReferences=[DISTRIBUTION], licenses=[{"expression": "MIT OR AGPL-3.0-only"}]),
            "flask is under AGPL-3.0-only",
        ),
        (part(version="2", externalReferences=[DISTRIBUTION], licenses=[BSD]), "flask 2 is installed, locked is 3.1.3"),
        (
            part("other", externalReferences=[DISTRIBUTION], licenses=[BSD]),
            "flask 3.1.3 is locked, but not in the bill",
        ),
    ],
)
def test_what_is_wrong_with_a_bill_is_said(found: dict[str, Any], line: str) -> None:
    assert line in sbom.problems(bill(found), {"flask": "3.1.3"})


LOCKS = ["requirements.txt", *sorted(f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt"))]


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_has_a_version_and_hashes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if not re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


def test_the_locks_agree() -> None:
    """Each list is installed on top of another."""
    versions: dict[str, set[str]] = {}
    for name in (each for each in LOCKS if each != "requirements/tools.txt"):
        for package, version in pinned((ROOT / name).read_text(encoding="utf-8")).items():
            versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", [ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci/run"], ids=lambda path: path.name)
def test_nothing_is_installed_without_its_hash(path: Path) -> None:
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    installs = re.findall(r"^.*(?:pip|PIP\)) install .*$", text, re.MULTILINE)
    own = "install --no-deps --no-build-isolation --editable ."
    parts = [part for line in installs for part in line.split("&&") if " install " in part and own not in part]
    assert [part for part in parts if "--require-hashes" not in part] == []
    assert bool(parts) == (path.name != "run")
