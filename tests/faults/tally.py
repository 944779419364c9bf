"""What a count found: what clients know against the rows of PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults.attempts import Attempt, Log

# An honest action ends as one of these; `failed`, or any refusal after a 202, would have lost it.
KEPT = frozenset({"applied", "held"})
_NAMED_MAX = 10


class ActionRow(Protocol):
    """What a count needs of an action that is not merely issued."""

    id: str
    state: str
    is_accepted: bool


class EntryRow(Protocol):
    """What a count needs of a ledger entry."""

    user_id: str
    action_id: str | None
    increment: int
    previous_score: int
    new_score: int


@dataclass
class Tally:
    """What a count found. Ids by kind of loss; all of them empty is what everything here is for."""

    acknowledged: int = 0
    # Completions whose sender never learnt what became of them; either way is right.
    unknown: int = 0
    # Acknowledged, and not in the ledger (or under review) with what the client was told.
    lost: list[str] = field(default_factory=list)
    # Actions with more than one ledger entry, and players whose score holds more than their ledger.
    doubled: list[str] = field(default_factory=list)
    # In the ledger, or accepted, without a completion sent, or after a refusal.
    ghosts: list[str] = field(default_factory=list)
    # Where Redis, PostgreSQL, the sum of the ledger and the API say different things of a player.
    disagreements: list[str] = field(default_factory=list)
    # What `scoreboard verify` found, and answers that no client should get.
    findings: list[str] = field(default_factory=list)
    # From the end of the last fault until all of the above could be said.
    well_after_s: float = 0.0

    def assert_exact(self) -> None:
        """Nothing lost, doubled or invented, and all stores agree; names each exception."""
        wrong = {
            "acknowledged, but lost": self.lost,
            "counted twice": self.doubled,
            "appeared from nowhere": self.ghosts,
            "not the same everywhere": self.disagreements,
            "found": self.findings,
        }
        told = [
            f"{what} ({len(found)}): " + "; ".join(found[:_NAMED_MAX]) + (" …" if len(found) > _NAMED_MAX else "")
            for what, found in wrong.items()
            if found
        ]
        assert not told, f"of {self.acknowledged} acknowledged actions:\n" + "\n".join(told)


def find_lost(
    tally: Tally, log: Log, actions: Mapping[str, ActionRow], ledger: Sequence[EntryRow], kept: frozenset[str]
) -> None:
    entered = {entry.action_id: entry for entry in ledger}
    for attempt in log.acknowledged:
        row, entry = actions.get(attempt.action_id), entered.get(attempt.action_id)
        if row is None or row.state not in kept:
            tally.lost.append(f"action {attempt.action_id}: {row.state if row else 'no such row'}")
        elif (entry is None) == (row.state == "applied"):
            tally.lost.append(f"action {attempt.action_id}: {row.state}, ledger entry: {entry}")
        elif not _is_as_told(attempt, row, entry):
            tally.lost.append(f"action {attempt.action_id}: the client was told {attempt.outcome}, it is {entry}")


def _is_as_told(attempt: Attempt, row: ActionRow, entry: EntryRow | None) -> bool:
    outcome = attempt.outcome
    if outcome is None:
        return True
    if outcome["status"] != row.state:
        return False
    told = (outcome["scoreIncrement"], outcome["previousScore"], outcome["newScore"])
    return entry is None or told == (entry.increment, entry.previous_score, entry.new_score)


def find_doubled(tally: Tally, ledger: Sequence[EntryRow]) -> None:
    entries = Counter(entry.action_id for entry in ledger if entry.action_id is not None)
    tally.doubled += [
        f"action {action_id}: {count} ledger entries" for action_id, count in entries.items() if count > 1
    ]


def find_ghosts(tally: Tally, log: Log, actions: Mapping[str, ActionRow], ledger: Sequence[EntryRow]) -> None:
    with log.changed:
        sent = {each.action_id for each in log.attempts.values() if each.sent and each.refused is None}
    # A refusal says that nothing was done, unless an earlier try of the same completion was acknowledged.
    sent |= {each.action_id for each in log.acknowledged}
    tally.ghosts += [
        f"action {row.id}: {row.state}, and nobody completed it"
        for row in actions.values()
        if row.is_accepted and row.id not in sent
    ]
    tally.ghosts += [
        f"player {entry.user_id}: ledger entry of {entry.increment} for action {entry.action_id}"
        for entry in ledger
        if entry.action_id not in sent
    ]
