"""The hub: one reader per web process that feeds all of its streams.

It follows the event stream, keeps the newest board as ready-made bytes and puts
them into the outlet of every subscription. Boards are coalesced: the first change
goes out at once, further ones at most once per interval, the last one always. A number of
players that changes without the top does so too, more seldom.
While Redis is down the board is polled from Postgres and streams stay open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from uuid import UUID

import orjson
import structlog

from scoreboard.domain.standings import Board
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.stream.board_news import BoardNews
from scoreboard.live.stream.events import (
    BOARD_CHANGED,
    BOARD_TARGET,
    CONTROL_TARGET,
    STREAM_MAX_ENTRIES,
    EventLog,
    Position,
    Received,
)
from scoreboard.live.stream.expectations import Expectation, Expectations, ExpectedOutcomes
from scoreboard.live.stream.frames import Frame, event_frame, frame
from scoreboard.live.stream.history import EventHistory
from scoreboard.live.stream.outlet import Outlet, QueueOutlet
from scoreboard.live.stream.subscriptions import Subscription, Subscriptions
from scoreboard.wire.events import UpdatedUser, board_shown, board_updated, heartbeat, history_lost

log = structlog.get_logger(__name__)

# A blocking read ends by itself well before the client's socket time-out.
_BLOCK_MS = 2_000
_READ_COUNT = 1_000
# Waits between attempts to reach Redis, in seconds: soon at first, then gently.
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
# Bound on waiting for this process to catch up with the position that another one served.
_CATCH_UP_S = 1.0
# Sessions are looked up this often, so that streams end within 5 s even when Redis loses the message.
_SESSION_CHECK_S = 3.0
# A board that could not be read is tried again after this.
_BOARD_RETRY_S = 1.0
# Streams whose time is up are looked for this often.
_EXPIRY_CHECK_S = 1.0


class Hub:
    """See the module. ``start`` is called by the first subscriber, after fork."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        read_top: Callable[[], Board],
        find_alive: Callable[[Collection[UUID]], set[UUID]],
        interval_s: float,
        heartbeat_s: float = 15.0,
        unavailable: tuple[type[Exception], ...] = (),
        on_unchecked: Callable[[], None] = lambda: None,
    ) -> None:
        """``unavailable``: what ``read_top`` and ``find_alive`` raise when nothing can answer them.

        ``on_unchecked`` is called when sessions can't be looked up, so that ended ones keep their streams.
        """
        self._log = event_log
        self._read_top = read_top
        self._find_alive = find_alive
        self._heartbeat_s = heartbeat_s
        self._beats_at = time.monotonic() + heartbeat_s
        self._on_unchecked = on_unchecked
        self._unavailable: tuple[type[Exception], ...] = (*UNAVAILABLE, *unavailable)
        self._subscriptions = Subscriptions()
        # One lock for all that must not change between a snapshot and what follows it.
        self._lock = self._subscriptions.lock
        self._progress = threading.Condition(self._lock)
        self._expected = ExpectedOutcomes(self._lock)
        self._history = EventHistory(Position(0, 0))
        self._news = BoardNews(interval_s)
        self._reading = threading.Lock()
        self._updated_user: UpdatedUser | None = None
        self._is_stopping = False
        self._is_ready = threading.Event()
        self._threads: list[threading.Thread] = []
        self.is_connected = False

    # -- life ------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow the stream; does nothing when it runs already."""
        with self._lock:
            if self._threads:
                return
            self._threads = [
                threading.Thread(target=self._follow, name="hub-reader", daemon=True),
                threading.Thread(target=self._watch_sessions, name="hub-sessions", daemon=True),
            ]
        for thread in self._threads:
            thread.start()

    def stop(self, spread_s: float = 0.0) -> None:
        """End the reader and all streams, over ``spread_s``, each with a word on when to come back.

        A crowd that lost its streams at one moment would come back at one moment.
        """
        self._is_stopping = True
        self._subscriptions.dismiss(spread_s)

    @property
    def streams(self) -> int:
        return len(self._subscriptions)

    # -- subscribers -------------------------------------------------------------

    def expect(self, action_id: UUID) -> AbstractContextManager[Expectation]:
        """See ``ExpectedOutcomes.one``; open it before the action is accepted."""
        self._be_ready()
        return self._expected.one(action_id)

    def expect_each(self) -> AbstractContextManager[tuple[Expectations, Callable[[Collection[UUID]], None]]]:
        """See ``ExpectedOutcomes.several``."""
        self._be_ready()
        return self._expected.several()

    def _be_ready(self) -> None:
        self.start()
        self._is_ready.wait(_CATCH_UP_S)

    def subscribe(
        self,
        user_id: UUID | None,
        session_id: UUID | None,
        last_event_id: str | None,
        *,
        outlet: Outlet | None = None,
        seconds_left: float | None = None,
    ) -> Subscription:
        """Register a stream; its outlet holds the missed events and the current board.

        The stream is ended after ``seconds_left``.

        Registering and taking the snapshot happen under one lock, so no event
        is lost between the snapshot and the first event after it.
        Raises what ``read_top`` raises when no board can be had.
        """
        self._be_ready()
        self._freshen()
        asked = Position.parse(last_event_id) if last_event_id else None
        ends_at = None if seconds_left is None else time.monotonic() + seconds_left
        outlet = outlet or QueueOutlet()
        subscription = Subscription(user_id, session_id, outlet, ends_at)
        with self._lock:
            if asked and asked.epoch == self._history.position.epoch:
                self._progress.wait_for(lambda: asked <= self._history.position, _CATCH_UP_S)
            if last_event_id and (asked is None or not self._history.holds(asked) or asked > self._history.position):
                outlet.put_private(self._reset_frame())
            elif asked and user_id:
                subscription.after = asked
                for entry in self._history.missed(f"user:{user_id}", asked):
                    subscription.deliver(entry)
            outlet.put_board(self._initial_frame())
            subscription.after = self._history.position
            self._subscriptions.add(subscription)
        return subscription

    def has_given(self, last_event_id: str) -> bool:
        """Whether this is the id of an event that is still remembered: its holder comes back to a stream.

        Waits for the reader of a process that has just started, as ``subscribe`` does. Never raises; false
        while Redis has not been reached yet.
        """
        asked = Position.parse(last_event_id)
        # Epoch 0 is that of a reader that has not met Redis yet.
        if asked is None or asked.epoch == 0:
            return False
        self._be_ready()
        with self._lock:
            # Another process may be ahead of this one by what comes in one read.
            return self._history.holds(asked) and asked.offset <= self._history.position.offset + _READ_COUNT

    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.close()
        self._subscriptions.remove(subscription)

    def start_over(self, subscription: Subscription) -> None:
        """Give a reader that fell too far behind a reset and the newest board."""
        with self._lock:
            subscription.outlet.replace_all(Frame(self._reset_frame() + self._initial_frame()))
            subscription.after = self._history.position

    @property
    def version(self) -> int:
        return self._news.board.version if self._news.board else 0

    def _initial_frame(self) -> Frame:
        assert self._news.board is not None
        return event_frame(board_shown(self._news.board), self._history.position)

    def _reset_frame(self) -> Frame:
        return event_frame(history_lost("events since your last one are gone"), self._history.position)

    # -- the reader ----------------------------------------------------------------

    def _follow(self) -> None:
        failures = 0
        while not self._is_stopping:
            try:
                if not self.is_connected:
                    self._connect()
                    failures = 0
                self._dispatch(self._log.read(self._history.position, block_ms=self._wait_ms(), count=_READ_COUNT))
            except UNAVAILABLE as error:
                if self.is_connected or failures == 0:
                    log.warning("hub_lost_redis", error=str(error))
                self.is_connected = False
                # No event tells of changes now: look for them.
                self._news.is_dirty = True
                time.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
            except Exception:
                log.exception("hub_failed")
                self.is_connected = False
                time.sleep(_BACKOFF_S[-1])
            self._broadcast_if_due()
            self._beat_if_due()
            self._is_ready.set()

    def _connect(self) -> None:
        """Find our position in the stream; a gap becomes a reset for every reader."""
        position = self._log.position()
        ours = self._history.position
        if ours.epoch == position.epoch and position < ours:
            # Redis came back with an older copy of itself: ids would be given out twice.
            position = self._log.begin_epoch()
        if ours.epoch == 0:
            history = EventHistory.since(self._log.latest(STREAM_MAX_ENTRIES), position)
            with self._lock:
                self._history = history
        elif ours.epoch != position.epoch:
            self._begin_after(EventHistory.since(self._log.latest(STREAM_MAX_ENTRIES), position).complete_after)
        self.is_connected = True
        self._news.is_dirty = True
        log.info("hub_connected", position=str(self._history.position))

    def _begin_after(self, position: Position) -> None:
        """Start over behind a gap: every reader gets a reset, then all that follows this position."""
        with self._lock:
            self._history = EventHistory(position)
            self._subscriptions.for_each(self.start_over)
        self._news.is_dirty = True

    def _wait_ms(self) -> int:
        next_at = self._news.next_at(self._beats_at)
        return min(_BLOCK_MS, max(1, int((next_at - time.monotonic()) * 1000)))

    def _dispatch(self, entries: list[Received]) -> None:
        for entry in entries:
            if self._is_beyond_gap(entry):
                self._begin_after(Position(entry.position.epoch, entry.position.offset - entry.count))
            with self._lock:
                self._history.append(entry)
                self._route(entry)
                self._progress.notify_all()

    def _is_beyond_gap(self, entry: Received) -> bool:
        """Whether the stream was emptied or trimmed past us: a gap that can't be filled."""
        ours = self._history.position
        return entry.position.epoch != ours.epoch or entry.position.offset > ours.offset + entry.count

    def _route(self, entry: Received) -> None:
        if entry.target == BOARD_TARGET:
            for _, kind, data in entry.events():
                self._tell_everyone(kind, data)
        elif entry.target == CONTROL_TARGET:
            self._subscriptions.end(orjson.loads(entry.payload))
        else:
            self._subscriptions.deliver(entry)
        if entry.action_id and entry.outcome:
            self._expected.fulfil(entry.action_id, entry.outcome)

    def _tell_everyone(self, kind: str, data: bytes) -> None:
        if kind == BOARD_CHANGED:
            self._news.is_dirty = True
            self._updated_user = orjson.loads(data) or self._updated_user
            return
        told = frame(kind, data)
        self._subscriptions.send(lambda outlet: outlet.put_private(told))

    # -- the board -------------------------------------------------------------------

    def _freshen(self) -> None:
        """Have a board to begin a stream with, of this moment but for a second. One caller reads for all."""
        if self._news.board is None:
            self._read_board()
        elif not self._news.is_fresh and self._reading.acquire(blocking=False):
            try:
                self._read_board()
            except self._unavailable as error:
                log.warning("hub_board_unavailable", error=str(error))
            finally:
                self._reading.release()
            # The other streams get this board at their next interval.
            self._news.is_dirty = True

    def _broadcast_if_due(self) -> None:
        if not self._news.is_due:
            return
        self._news.is_dirty = False
        try:
            self._read_board()
        except self._unavailable as error:
            log.warning("hub_board_unavailable", error=str(error))
            self._news.is_dirty = True
            self._news.wait(_BOARD_RETRY_S)
            return
        if not self._send_news() and not self.is_connected:
            self._news.wait(_BOARD_RETRY_S)

    def _read_board(self) -> None:
        board = self._read_top()
        with self._lock:
            self._news.note(board)

    def _send_news(self) -> bool:
        with self._lock:
            board = self._news.take()
            if board is None:
                return False
            update = event_frame(board_updated(board, self._updated_user), self._history.position)
            self._updated_user = None
            self._subscriptions.send(lambda outlet: outlet.put_board(update))
        return True

    def _beat_if_due(self) -> None:
        if time.monotonic() < self._beats_at:
            return
        self._beats_at = time.monotonic() + self._heartbeat_s
        beat = event_frame(heartbeat(self.version))
        self._subscriptions.send(lambda outlet: outlet.put_heartbeat(beat))

    # -- sessions ----------------------------------------------------------------------

    def _watch_sessions(self) -> None:
        """End streams whose time is up, or whose session ended while Redis lost the message."""
        checked_at = time.monotonic()
        while not self._is_stopping:
            time.sleep(_EXPIRY_CHECK_S)
            now = time.monotonic()
            self._subscriptions.end_expired(now)
            if now - checked_at < _SESSION_CHECK_S:
                continue
            checked_at = now
            if sessions := self._subscriptions.session_ids():
                self._check_sessions(sessions)

    def _check_sessions(self, sessions: set[UUID]) -> None:
        try:
            alive = self._find_alive(sessions)
        except self._unavailable as error:
            log.warning("hub_sessions_unchecked", error=str(error))
            self._on_unchecked()
            return
        self._subscriptions.end_sessions(sessions - alive)
