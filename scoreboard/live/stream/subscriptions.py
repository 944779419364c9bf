"""The subscriptions of one web process, by target, and their events."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

from scoreboard.live.stream.events import Position, Received
from scoreboard.live.stream.frames import frame, retry_frame
from scoreboard.live.stream.outlet import Outlet

# Writes in a row before other requests get their turn: about a millisecond.
_TURN = 100
# Steps in which streams are ended when the process stops, and how long their browsers wait before coming back.
_STOP_STEP_S = 0.05
_STOP_RETRY_MS = (500, 5_000)


@dataclass(eq=False)
class Subscription:
    """One open stream, fed by the hub."""

    user_id: UUID | None
    session_id: UUID | None
    outlet: Outlet
    # Moment of the monotonic clock at which the caller's access ends.
    ends_at: float | None = None
    # Private events up to here have been delivered.
    after: Position | None = None

    def close(self) -> None:
        self.outlet.close()

    def deliver(self, entry: Received) -> None:
        """Put an entry's events that have not been delivered yet."""
        for position, kind, data in entry.events():
            if self.after is None or position > self.after:
                self.outlet.put_private(frame(kind, data, position))
                self.after = position


class Subscriptions:
    """All open streams. ``lock`` guards every method; holding it makes several calls one step."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        # In the order of their coming: neighbours here are neighbours in the kernel's memory, which a round over
        # thousands of sockets feels.
        self._everyone: dict[Subscription, None] = {}
        self._by_target: dict[str, set[Subscription]] = {}

    def __len__(self) -> int:
        return len(self._everyone)

    def add(self, subscription: Subscription) -> None:
        with self.lock:
            self._everyone[subscription] = None
            if subscription.user_id:
                self._by_target.setdefault(f"user:{subscription.user_id}", set()).add(subscription)

    def remove(self, subscription: Subscription) -> None:
        with self.lock:
            self._everyone.pop(subscription, None)
            target = f"user:{subscription.user_id}"
            mine = self._by_target.get(target)
            if mine is not None:
                mine.discard(subscription)
                if not mine:
                    del self._by_target[target]

    def for_each(self, do: Callable[[Subscription], object]) -> None:
        with self.lock:
            for subscription in self._everyone:
                do(subscription)

    def deliver(self, entry: Received) -> None:
        """Give a player's entry to each of their streams."""
        with self.lock:
            for subscription in self._by_target.get(entry.target, ()):
                subscription.deliver(entry)

    def send(self, put: Callable[[Outlet], None]) -> None:
        """Put one frame into every outlet, letting other requests have their turn in between.

        Adding and removing wait for the end of the round.
        """
        with self.lock:
            for place, subscription in enumerate(self._everyone, start=1):
                put(subscription.outlet)
                if place % _TURN == 0:
                    time.sleep(0)

    # -- ending streams ------------------------------------------------------------------

    def end(self, command: dict[str, str]) -> None:
        """End the streams of a session (``endSession``) or of a user (``endUser``)."""
        session, user = command.get("endSession"), command.get("endUser")
        with self.lock:
            for subscription in self._everyone:
                if str(subscription.session_id) == session or str(subscription.user_id) == user:
                    subscription.close()

    def end_expired(self, now: float) -> None:
        """End the streams whose caller's access is over."""
        with self.lock:
            for subscription in self._everyone:
                if subscription.ends_at is not None and subscription.ends_at <= now:
                    subscription.close()

    def session_ids(self) -> set[UUID]:
        with self.lock:
            return {each.session_id for each in self._everyone if each.session_id}

    def end_sessions(self, session_ids: Collection[UUID]) -> None:
        with self.lock:
            for subscription in self._everyone:
                if subscription.session_id in session_ids:
                    subscription.close()

    def dismiss(self, spread_s: float) -> None:
        """End all streams, over this time, each with a word on when to come back.

        A crowd that lost its streams at one moment would come back at one moment.
        """
        with self.lock:
            waiting = list(self._everyone)
        # The spread protects the servers, not a secret.
        random.shuffle(waiting)
        per_step = max(1, round(len(waiting) * _STOP_STEP_S / spread_s)) if spread_s else len(waiting)
        while waiting:
            for subscription in waiting[:per_step]:
                subscription.outlet.put_private(retry_frame(random.randint(*_STOP_RETRY_MS)))  # noqa: S311
                subscription.close()
            del waiting[:per_step]
            if waiting:
                time.sleep(_STOP_STEP_S)
