"""The recent private events a web process keeps, so that a returning browser costs Redis nothing."""

from __future__ import annotations

from collections import deque

from scoreboard.live.stream.events import STREAM_MAX_ENTRIES, Position, Received

_PRIVATE = "user:"


class EventHistory:
    """Entries since a known position, without gaps; forgets the oldest past its bound."""

    def __init__(self, position: Position) -> None:
        self._entries: deque[Received] = deque()
        self._by_target: dict[str, deque[Received]] = {}
        # Everything after this position is here.
        self.complete_after = position
        self.position = position

    @classmethod
    def since(cls, entries: list[Received], position: Position) -> EventHistory:
        """A history filled with the entries that the stream still holds."""
        current = [entry for entry in entries if entry.position.epoch == position.epoch]
        history = cls(position)
        if current:
            first = current[0].position
            history.complete_after = Position(first.epoch, first.offset - current[0].count)
        for entry in current:
            history.append(entry)
        history.position = max(position, history.position)
        return history

    def append(self, entry: Received) -> None:
        self.position = entry.position
        if not entry.target.startswith(_PRIVATE):
            return
        self._entries.append(entry)
        self._by_target.setdefault(entry.target, deque()).append(entry)
        if len(self._entries) > STREAM_MAX_ENTRIES:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = self._entries.popleft()
        self.complete_after = oldest.position
        mine = self._by_target[oldest.target]
        mine.popleft()
        if not mine:
            del self._by_target[oldest.target]

    def holds(self, position: Position) -> bool:
        """Whether everything after this position is known here."""
        return position.epoch == self.position.epoch and position >= self.complete_after

    def missed(self, target: str, after: Position) -> list[Received]:
        """A target's entries that hold an event after this position, in order."""
        return [entry for entry in self._by_target.get(target, ()) if entry.position > after]
