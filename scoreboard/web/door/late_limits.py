"""The limits of completing, for completions that a game server tells of late: per player, by the time of completion.

Each counts as though its call had come when it was completed: today's share the counters of single calls, earlier ones
have counters of their own time. While Redis is down each process counts for itself, with its part of the rates.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import redis
import structlog
from limits import RateLimitItem, parse_many
from limits.storage import RedisStorage

from config import Settings
from scoreboard import metrics
from scoreboard.domain.errors import RateLimitExceeded
from scoreboard.domain.standings import microseconds
from scoreboard.live.completion_counter import Breach, CompletionCounter, CompletionsInMemory, LateWindow, Told
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.rate_counter import KEY_PREFIX
from scoreboard.services.actions.batch import Play

log = structlog.get_logger(__name__)

# The operation whose counters these are.
_SCOPE = "actions.complete_action"
# Stands for the player while a key is taken apart; no part of it holds it.
_PLAYER = "\0"
# A Redis that gave no answer is asked again after this: a time-out for each batch would hold up all.
_DOWN_S = 5.0


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str
    item: RateLimitItem

    def window(self, processes: int = 1) -> LateWindow:
        """As one of so many processes counts it."""
        key = f"{RedisStorage.PREFIX}:{self.item.key_for(KEY_PREFIX, _PLAYER, _SCOPE)}"
        head, _, tail = key.partition(_PLAYER)
        allows = max(1, self.item.amount // processes)
        return LateWindow(head, tail, allows, self.item.get_expiry(), self.name == "complete_flagged")

    def refusal(self, breach: Breach) -> RateLimitExceeded:
        """Told as that of a single call."""
        details = {"limit": self.name, "per": "player", "rate": str(self.item)}
        return RateLimitExceeded(breach.reset_in_s, details=details)


class LateLimits:
    """Counts late completions for one process."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        rates = {"complete": settings.rate_limit_complete, "complete_flagged": settings.rate_limit_complete_flagged}
        self._limits = [_Limit(name, item) for name, rate in rates.items() for item in parse_many(rate)]
        self._windows = [limit.window() for limit in self._limits]
        self._parts = [limit.window(settings.web_concurrency) for limit in self._limits]
        self._counter, self._memory = CompletionCounter(client), CompletionsInMemory()
        self._is_down_until = 0.0

    def count(self, account_id: UUID, now: datetime, plays: Sequence[Play]) -> list[RateLimitExceeded | None]:
        """Count those that have room in all limits of their players; the refusals of the others."""
        told = [
            Told(
                f"user:{play.user_id}",
                microseconds(play.completed_at) // 1_000,
                play.is_flagged,
                f"{account_id.hex}{play.digest.hex()}",
            )
            for play in plays
        ]
        breaches = self._count(microseconds(now) // 1_000, told)
        return [breach and self._limits[breach.nth].refusal(breach) for breach in breaches]

    def _count(self, now_ms: int, told: Sequence[Told]) -> list[Breach | None]:
        if time.monotonic() >= self._is_down_until:
            try:
                return self._counter.count(now_ms, self._windows, told)
            except UNAVAILABLE as error:
                self._is_down_until = time.monotonic() + _DOWN_S
                log.warning("late_limits_in_memory", error=str(error))
        metrics.LIMIT_FALLBACKS.inc()
        return self._memory.count(self._parts, told)
