"""Processes whose clocks are wrong, and the time as each of them has it."""

from __future__ import annotations

import os
from pathlib import Path

SKEW = Path(__file__).with_name("skew")


def shifted(seconds: float) -> dict[str, str]:
    """The environment of a process whose wall clock is this far ahead (or behind)."""
    path = os.pathsep.join(filter(None, (str(SKEW), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "CLOCK_SHIFT_S": str(seconds)}
