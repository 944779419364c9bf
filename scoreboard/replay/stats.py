"""Counts and latencies of a running replay."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class CallStats:
    """Counts of calls, and seconds each took by label; at most a few numbers per action of the log."""

    calls: int = 0
    retries: int = 0
    rate_limited: int = 0
    network_errors: int = 0
    server_errors: int = 0
    refreshes: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    lateness_s: list[float] = field(default_factory=list)

    def record_latency(self, label: str, seconds: float) -> None:
        self.latencies_s.setdefault(label, []).append(seconds)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, ``share`` from 0 to 1; 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
