"""A copy of the tree in which a safeguard is taken out, and what the tests say to that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from xml.etree import ElementTree

from config import ROOT
from tests.mutations.safeguards import Edit, Mutation
from tests.service import open_folder

# Not needed to run tests, and some of it is large.
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "var", "build", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info"
)
# The chosen tests take seconds; several times that on a machine with other work, and then something hangs.
_TESTS_TIMEOUT_S = 240.0
_PACKAGES = ("app", "config", "scoreboard", "workers", "tests")
_WHERE = f"import {', '.join(_PACKAGES)}; print(*(each.__file__ for each in ({', '.join(_PACKAGES)},)), sep='\\n')"


class StaleMutationError(Exception):
    """The code has changed, and the text of a mutation is not there exactly once any more."""


class Outcome(StrEnum):
    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    #: The tests did not get so far as to fail: the mutation proves nothing.
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Verdict:
    """What the tests said: ``noticed_by`` the first that failed, ``output`` the end of what pytest printed."""

    outcome: Outcome
    noticed_by: str
    seconds: float
    output: str


class Workshop:
    """A copy of the tree in a temporary folder, whose tests run the copy's code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=_LEFT_OUT, symlinks=True)
        self._check_that_the_copy_runs()

    def judge(self, mutation: Mutation) -> Verdict:
        """Take the safeguard out, run its tests, and put it back. Raises StaleMutationError."""
        with self._mutated(mutation):
            return self.test(mutation.tests)

    def test(self, tests: Sequence[str]) -> Verdict:
        """Run tests of the copy until one fails; SURVIVED means that all have passed."""
        began = time.monotonic()
        report = self.folder / "mutation-report.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "--maxfail=1", "-p", "pytest_timeout", "-p", "no:cacheprovider", f"--junitxml={report}"]
        try:
            run = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *tests],
                cwd=self.folder,
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TESTS_TIMEOUT_S,
                check=False,
            )
            status, output = run.returncode, run.stdout
        except subprocess.TimeoutExpired as error:
            status, output = -1, f"{error.output}\nno end after {_TESTS_TIMEOUT_S} s"
        outcome, noticed_by = _read_report(report, status)
        return Verdict(outcome, noticed_by, time.monotonic() - began, output[-4_000:])

    @contextmanager
    def _mutated(self, mutation: Mutation) -> Iterator[None]:
        before = {each.path: self._path(each).read_text(encoding="utf-8") for each in mutation.edits}
        after = dict(before)
        for edit in mutation.edits:
            after[edit.path] = replace_once(after[edit.path], edit)
        try:
            self._write(after)
            yield
        finally:
            self._write(before)

    def _path(self, edit: Edit) -> Path:
        return self.folder / edit.path

    def _write(self, texts: dict[str, str]) -> None:
        for path, text in texts.items():
            file = self.folder / path
            # Compiled code is taken for a file's own if size and second are the same, as they may be after an edit.
            newer_ns = file.stat().st_mtime_ns + 2_000_000_000
            file.write_text(text, encoding="utf-8")
            os.utime(file, ns=(newer_ns, newer_ns))

    def _environment(self) -> dict[str, str]:
        """The copy's code comes before the installed one, in every process; nothing of a surrounding pytest.

        Of pytest's plugins only the one that the settings name: loading the others takes longer than the tests.
        """
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return {**own, "PYTHONPATH": str(self.folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def _check_that_the_copy_runs(self) -> None:
        found = subprocess.run(
            [sys.executable, "-P", "-c", _WHERE],
            cwd="/",
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        for line in found.stdout.split():
            if not Path(line).is_relative_to(self.folder):
                raise RuntimeError(f"a process of the copy would run {line}")


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    with open_folder() as folder:
        yield Workshop(folder / "tree")


def replace_once(text: str, edit: Edit) -> str:
    """Raises StaleMutationError unless the old text is there exactly once."""
    count = text.count(edit.old)
    if count != 1:
        raise StaleMutationError(f"{edit.path} has this {count} times instead of once: {edit.old!r}")
    return text.replace(edit.old, edit.new)


def check_edits(mutation: Mutation) -> None:
    """Whether the tree still has what the mutation replaces. Raises StaleMutationError."""
    for edit in mutation.edits:
        replace_once((ROOT / edit.path).read_text(encoding="utf-8"), edit)


def _read_report(report: Path, status: int) -> tuple[Outcome, str]:
    """A test must have run and failed; one that could not be set up or collected has noticed nothing."""
    if status == 0:
        return Outcome.SURVIVED, ""
    if status != 1 or not report.exists():
        return Outcome.BROKEN, ""
    cases = ElementTree.parse(report).iter("testcase")  # noqa: S314  # our own pytest has written it
    failed = [case.get("name", "") for case in cases if case.find("failure") is not None]
    return (Outcome.CAUGHT, failed[0]) if failed else (Outcome.BROKEN, "")
