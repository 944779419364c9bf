"""A schedule that is always in a finalizer, where Python ignores exceptions; ``celery beat --scheduler`` names it."""

from __future__ import annotations

import time
from typing import Any

from workers.schedule import BoundedScheduler

SAID = "in a finalizer"


class LateScheduler(BoundedScheduler):
    """Says so, and stays there for longer than a test waits."""

    def tick(self, *_: Any, **__: Any) -> float:
        _Kept()
        return 0.0


class _Kept:
    def __del__(self) -> None:
        print(SAID, flush=True)
        time.sleep(60)
