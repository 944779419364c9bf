"""Ask a vulnerability service about everything that the lock files name.

Exits with 0 when the service knew every package and none is known to be vulnerable, 1 when some are, and 3 when it
could not be asked about all of them: no news is not good news.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# requirements/dev.txt holds all of the others but pip's and the tools' own; requirements/tools.txt holds pip.
LOCKS = ("requirements/dev.txt", "requirements/tools.txt")
DEPLOYED = "requirements.txt"
# One request a package, and about 200 packages: a service that answers at all is done in a minute or two.
ANSWER_WAIT_S = 300
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


class Verdict(IntEnum):
    """The exit status."""

    CLEAN = 0
    VULNERABLE = 1
    NOT_ASKED = 3  # 2 is what argument parsers and make use


@dataclass
class Findings:
    """What was learned about the packages."""

    asked: set[str] = field(default_factory=set)
    vulnerable: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        if self.vulnerable:
            return Verdict.VULNERABLE
        return Verdict.NOT_ASKED if self.unknown or not self.asked else Verdict.CLEAN


def pinned(lock: str) -> dict[str, str]:
    """The packages of a lock file's text and their versions."""
    return {canonical(name): version for name, version in _PINNED.findall(lock)}


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_report(report: Mapping[str, Any], wanted: Iterable[str], deployed: Iterable[str]) -> Findings:
    """Findings from pip-audit's JSON report; what it skipped or left out counts as not asked."""
    findings = Findings()
    for package in report["dependencies"]:
        name = canonical(package["name"])
        if "skip_reason" in package:
            findings.unknown.append(f"{name}: {package['skip_reason']}")
            continue
        findings.asked.add(name)
        use = "deployed" if name in set(deployed) else "development only"
        for flaw in package["vulns"]:
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            findings.vulnerable.append(f"{name} {package['version']} ({use}): {flaw['id']}, mended in {fixed}")
    seen = findings.asked | {line.partition(":")[0] for line in findings.unknown}
    findings.unknown += [f"{name}: not in the report" for name in sorted(set(wanted) - seen)]
    return findings


def ask(lock: Path, options: Sequence[str]) -> tuple[Mapping[str, Any] | None, str]:
    """pip-audit's report on a lock file, or None and the reason why there is none."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", str(lock), "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", *options]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WAIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {ANSWER_WAIT_S} s"
    try:
        return json.loads(answer.stdout), ""
    except ValueError:
        lines = [line for line in answer.stderr.splitlines() if line.strip()]
        return None, lines[-1][:300] if lines else f"pip-audit ended with {answer.returncode}"


def main(options: Sequence[str]) -> Verdict:
    """Audit every lock file and say what came out; ``options`` go to pip-audit, such as ``-s osv``."""
    deployed = pinned((ROOT / DEPLOYED).read_text(encoding="utf-8"))
    total = Findings()
    for name in LOCKS:
        wanted = pinned((ROOT / name).read_text(encoding="utf-8"))
        report, reason = ask(ROOT / name, options)
        if report is None:
            total.unknown.append(f"all {len(wanted)} packages of {name}: {reason}")
            continue
        found = read_report(report, wanted, deployed)
        total.asked |= found.asked
        total.vulnerable += found.vulnerable
        total.unknown += found.unknown
    for line in [*total.vulnerable, *(f"not asked about {each}" for each in total.unknown)]:
        print(line)
    print(
        f"{len(total.asked)} packages audited, {len(total.vulnerable)} vulnerabilities, "
        f"{len(total.unknown)} lines of what could not be audited: {total.verdict.name}"
    )
    return total.verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
