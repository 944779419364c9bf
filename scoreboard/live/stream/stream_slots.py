"""Slots for concurrent streams, counted over all web processes by leases in Redis."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple
from uuid import UUID, uuid4

import redis
import structlog

from scoreboard.domain.errors import TooManyStreams
from scoreboard.live.connection import UNAVAILABLE, load_script, redis_time

log = structlog.get_logger(__name__)

# A process that died gives its slots back after this; living ones renew three times as often.
_LEASE_S = 180
_RENEW_S = 60
# Leases renewed in one round trip: some milliseconds of work, after which others have their turn.
_RENEW_BATCH = 500
# A signed-in player has slots of their own; so many times the anonymous slots of an address are for its players.
SIGNED_IN_TIMES = 10
# When a slot gets free is not known; ten seconds keeps a refused browser from hammering.
_RETRY_AFTER_S = 10


class _Cap(NamedTuple):
    """A key in Redis, whose streams it holds, and how many of them at most."""

    key: str
    per: str
    slots: int


class StreamSlots:
    """Caps on open streams per user and per address.

    While Redis is down each process counts for itself alone, so the caps hold per process.
    """

    def __init__(
        self, client: redis.Redis, *, per_user: int, per_ip: int, on_fallback: Callable[[], None] = lambda: None
    ) -> None:
        """``on_fallback`` is told of each slot that only this process knows of."""
        self._client = client
        self._on_fallback = on_fallback
        self._claim = load_script(client, "claim_stream")
        self._per_user, self._per_ip = per_user, per_ip
        self._open: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def claim(self, user_id: UUID | None, ip: str) -> str:
        """Take a slot and return its name for ``release``. Raises TooManyStreams.

        A player's slot counts for the player, and for the players of the address; any other for the address.
        """
        slot = uuid4().hex
        caps = self._caps(user_id, hashlib.sha256(ip.encode()).hexdigest()[:32])
        keys = [cap.key for cap in caps]
        try:
            # The number of the first full one, from 1.
            full = int(self._claim(keys=keys, args=[slot, _LEASE_S, *(cap.slots for cap in caps)]))
        except UNAVAILABLE as error:
            log.warning("stream_slots_unavailable", error=str(error))
            self._on_fallback()
            full = self._first_full_here(caps)
        if full:
            cap = caps[full - 1]
            raise TooManyStreams(_RETRY_AFTER_S, details={"limit": "streams", "per": cap.per, "maximum": cap.slots})
        with self._lock:
            self._open[slot] = keys
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew_forever, name="stream-slots", daemon=True)
                self._renewer.start()
        return slot

    def release(self, slot: str) -> None:
        with self._lock:
            keys = self._open.pop(slot, [])
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.zrem(key, slot)
                pipeline.execute()
        except UNAVAILABLE as error:
            # The lease runs out by itself.
            log.warning("stream_slot_not_released", error=str(error))

    def _caps(self, user_id: UUID | None, address: str) -> list[_Cap]:
        if user_id is None:
            return [_Cap(f"sb:streams:ip:{address}", "address", self._per_ip)]
        return [
            _Cap(f"sb:streams:user:{user_id}", "account", self._per_user),
            _Cap(f"sb:streams:ip-players:{address}", "address", self._per_ip * SIGNED_IN_TIMES),
        ]

    def _first_full_here(self, caps: list[_Cap]) -> int:
        """Its number from 1, 0 when none is full."""
        with self._lock:
            counts = Counter(key for held in self._open.values() for key in held)
        return next((number for number, cap in enumerate(caps, 1) if counts[cap.key] >= cap.slots), 0)

    def _renew_forever(self) -> None:
        while True:
            time.sleep(_RENEW_S)
            try:
                self._renew()
            except UNAVAILABLE as error:
                log.warning("stream_slots_not_renewed", error=str(error))

    def _renew(self) -> None:
        with self._lock:
            # By key, so that the many streams of one address are one command.
            leases = sorted((key, slot) for slot, keys in self._open.items() for key in keys)
        # By the clock that is going to look whether they have run out.
        end = int(redis_time(self._client)) + _LEASE_S
        for start in range(0, len(leases), _RENEW_BATCH):
            with self._client.pipeline(transaction=False) as pipeline:
                for key, held in groupby(leases[start : start + _RENEW_BATCH], key=lambda lease: lease[0]):
                    pipeline.zadd(key, {slot: end for _, slot in held})
                    pipeline.expire(key, _LEASE_S * 2)
                pipeline.execute()
