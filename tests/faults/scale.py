"""How much of a scenario is played: seconds inside `make test`, minutes in `make test-faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """Short by default, long with ``--long``."""

    is_long: bool

    def pick(self, short: T, long: T) -> T:
        return long if self.is_long else short
