"""Places for concurrent streams, counted over all web processes by leases in Redis."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from uuid import UUID, uuid4

import redis
import structlog

from scoreboard.domain.errors import TooManyStreams
from scoreboard.live.connection import UNAVAILABLE, load_script, redis_time

log = structlog.get_logger(__name__)

# A process that died gives its places back after this; living ones renew three times as often.
_LEASE_S = 180
_RENEW_S = 60
# Leases renewed in one round trip: some milliseconds of work, after which others have their turn.
_RENEW_BATCH = 500
# When a place gets free is not known; ten seconds keeps a refused browser from hammering.
_RETRY_AFTER_S = 10


class StreamPlaces:
    """Caps on open streams per user and per address.

    While Redis is down each process counts for itself alone, so the caps hold per process.
    """

    def __init__(
        self, client: redis.Redis, *, per_user: int, per_ip: int, on_fallback: Callable[[], None] = lambda: None
    ) -> None:
        """``on_fallback`` is told of each place that only this process knows of."""
        self._client = client
        self._on_fallback = on_fallback
        self._claim = load_script(client, "claim_stream")
        self._caps = {"user": per_user, "ip": per_ip}
        self._open: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def claim(self, user_id: UUID | None, ip: str) -> str:
        """Take a place and return its name for ``release``. Raises TooManyStreams."""
        place = uuid4().hex
        keys = {f"sb:streams:ip:{hashlib.sha256(ip.encode()).hexdigest()[:32]}": self._caps["ip"]}
        if user_id:
            keys[f"sb:streams:user:{user_id}"] = self._caps["user"]
        try:
            refused = self._claim(keys=list(keys), args=[place, _LEASE_S, *keys.values()])
        except UNAVAILABLE as error:
            log.warning("stream_places_unavailable", error=str(error))
            self._on_fallback()
            refused = self._is_full_here(keys)
        if refused:
            raise TooManyStreams(_RETRY_AFTER_S)
        with self._lock:
            self._open[place] = list(keys)
            if self._renewer is None:
                self._renewer = threading.Thread(target=self._renew_forever, name="stream-places", daemon=True)
                self._renewer.start()
        return place

    def release(self, place: str) -> None:
        with self._lock:
            keys = self._open.pop(place, [])
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.zrem(key, place)
                pipeline.execute()
        except UNAVAILABLE as error:
            # The lease runs out by itself.
            log.warning("stream_place_not_released", error=str(error))

    def _is_full_here(self, keys: dict[str, int]) -> bool:
        with self._lock:
            counts = Counter(key for held in self._open.values() for key in held)
        return any(counts[key] >= cap for key, cap in keys.items())

    def _renew_forever(self) -> None:
        while True:
            time.sleep(_RENEW_S)
            try:
                self._renew()
            except UNAVAILABLE as error:
                log.warning("stream_places_not_renewed", error=str(error))

    def _renew(self) -> None:
        with self._lock:
            # By key, so that the many streams of one address are one command.
            leases = sorted((key, place) for place, keys in self._open.items() for key in keys)
        # By the clock that is going to look whether they have run out.
        end = int(redis_time(self._client)) + _LEASE_S
        for start in range(0, len(leases), _RENEW_BATCH):
            with self._client.pipeline(transaction=False) as pipeline:
                for key, held in groupby(leases[start : start + _RENEW_BATCH], key=lambda lease: lease[0]):
                    pipeline.zadd(key, {place: end for _, place in held})
                    pipeline.expire(key, _LEASE_S * 2)
                pipeline.execute()
