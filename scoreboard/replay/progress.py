"""Show how far a replay has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from tqdm import tqdm

# Plain lines: one per tenth, so that a log file stays short even for a long replay.
STEPS = 10


class ProgressBar:
    """Counts up to ``total`` on standard error; a context manager."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started_at = time.monotonic()
        # None disables the bar where standard error is no terminal.
        self._bar = tqdm(total=total, desc=title, disable=None, dynamic_ncols=True, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and self._done * STEPS // self._total > (self._done - 1) * STEPS // self._total:
            seconds = time.monotonic() - self._started_at
            print(f"{self._title}: {self._done} of {self._total}, {seconds:.1f} s", file=sys.stderr, flush=True)
