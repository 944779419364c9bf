"""Anti-cheat rules: pure functions over one completed action and its player's recent history.

A rule returns its evidence when it is triggered, None otherwise. ``judge`` runs
all rules that are not off and turns what they found into one verdict. Rules in
shadow are recorded as signals and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

# The most that a client's clock and the network add to an honest claim.
CLOCK_TOLERANCE_MS = 2_000
BURST_WINDOW = timedelta(seconds=10)
# A game server's clock may be ahead of the database's by so much.
AHEAD_MAX = timedelta(seconds=2)
BURST_MAXIMUM = 8


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Mode(StrEnum):
    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Consequence(StrEnum):
    """From mild to hard; the hardest of all triggered rules decides."""

    LOG = "log"
    FLAG = "flag"
    HOLD = "hold"
    REJECT = "reject"


_HARDNESS = {consequence: hardness for hardness, consequence in enumerate(Consequence)}
# The risk of one finding by severity; combined as independent chances.
_RISK = {Severity.LOW: 0.1, Severity.MEDIUM: 0.3, Severity.HIGH: 0.6, Severity.CRITICAL: 0.9}


@dataclass(frozen=True, slots=True)
class CompletedAction:
    """A completed action as rules see it. Times are those of issue and acceptance, or as a game server states them."""

    issued_at: datetime
    completed_at: datetime
    claimed_ms: int
    min_time_ms: int
    max_time_ms: int

    @property
    def elapsed_ms(self) -> int:
        return int((self.completed_at - self.issued_at) / timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True)
class History:
    """The times of the player's completions, this one among them, reaching back at least BURST_WINDOW."""

    completed_at: Sequence[datetime] = ()


Evidence = Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    version: int
    reason: str
    severity: Severity
    mode: Mode
    consequence: Consequence
    check: Callable[[CompletedAction, History], Evidence | None]
    # The part of the evidence that the player is told.
    explain: Callable[[Evidence], Mapping[str, object]] | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """A triggered rule with the evidence it saw."""

    rule: Rule
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    consequence: Consequence | None
    reason: str | None
    risk: float
    signals: tuple[Signal, ...]
    # Which bound the player broke, where the reason alone leaves that open.
    details: Mapping[str, object] | None = None


def check_clock_mismatch(completion: CompletedAction, _history: History) -> Evidence | None:
    """The client claims more time than has passed on the server."""
    excess = completion.claimed_ms - completion.elapsed_ms
    if excess <= CLOCK_TOLERANCE_MS:
        return None
    return {"claimedMs": completion.claimed_ms, "elapsedMs": completion.elapsed_ms, "toleranceMs": CLOCK_TOLERANCE_MS}


def check_completion_time(completion: CompletedAction, _history: History) -> Evidence | None:
    """The time between issue and completion, or the claim, is outside the action type's bounds."""
    low, high = completion.min_time_ms, completion.max_time_ms
    if low <= completion.elapsed_ms <= high and low <= completion.claimed_ms <= high:
        return None
    return {"claimedMs": completion.claimed_ms, "elapsedMs": completion.elapsed_ms, "minMs": low, "maxMs": high}


def check_burst(completion: CompletedAction, history: History) -> Evidence | None:
    """More than eight completions within ten seconds, this one included."""
    if len(history.completed_at) <= BURST_MAXIMUM:
        return None
    since = completion.completed_at - BURST_WINDOW
    count = sum(since < moment <= completion.completed_at for moment in history.completed_at)
    if count <= BURST_MAXIMUM:
        return None
    return {"count": count, "windowS": BURST_WINDOW.total_seconds(), "maximum": BURST_MAXIMUM}


def _broken(by: str, bound: str, bound_ms: object, actual_ms: object) -> dict[str, object]:
    """A broken bound: measured by which clock, the lower or the upper one, and both times in milliseconds."""
    return {"clock": by, "bound": bound, "boundMs": bound_ms, "actualMs": actual_ms}


def explain_clock_mismatch(evidence: Evidence) -> Mapping[str, object]:
    """The most that the client could have claimed, and what it claimed."""
    return _broken(
        "client", "maximum", int(evidence["elapsedMs"]) + int(evidence["toleranceMs"]), evidence["claimedMs"]
    )


def explain_completion_time(evidence: Evidence) -> Mapping[str, object]:
    """The first bound that was broken; the server's clock is looked at before the client's."""
    low, high = int(evidence["minMs"]), int(evidence["maxMs"])
    for clock, actual in (("server", int(evidence["elapsedMs"])), ("client", int(evidence["claimedMs"]))):
        if actual < low:
            return _broken(clock, "minimum", low, actual)
        if actual > high:
            return _broken(clock, "maximum", high, actual)
    raise ValueError("no bound is broken")


RULES: tuple[Rule, ...] = (
    Rule(
        "clock_mismatch",
        1,
        "CLOCK_MISMATCH",
        Severity.HIGH,
        Mode.ENFORCE,
        Consequence.REJECT,
        check_clock_mismatch,
        explain_clock_mismatch,
    ),
    Rule(
        "completion_time",
        1,
        "COMPLETION_TIME",
        Severity.HIGH,
        Mode.ENFORCE,
        Consequence.REJECT,
        check_completion_time,
        explain_completion_time,
    ),
    Rule("burst", 1, "BURST", Severity.HIGH, Mode.ENFORCE, Consequence.HOLD, check_burst),
)


def judge(completion: CompletedAction, history: History, rules: Sequence[Rule] = RULES) -> Verdict:
    """Run the rules; the hardest consequence among enforced ones decides, the first listed among equals."""
    signals = []
    decisive: Signal | None = None
    safe = 1.0
    for rule in rules:
        if rule.mode is Mode.OFF or (evidence := rule.check(completion, history)) is None:
            continue
        signal = Signal(rule, evidence)
        signals.append(signal)
        if rule.mode is not Mode.ENFORCE:
            continue
        safe *= 1 - _RISK[rule.severity]
        if decisive is None or _HARDNESS[rule.consequence] > _HARDNESS[decisive.rule.consequence]:
            decisive = signal
    risk = round(1 - safe, 4)
    if decisive is None:
        return Verdict(None, None, risk, tuple(signals))
    rule = decisive.rule
    details = rule.explain(decisive.evidence) if rule.explain else None
    return Verdict(rule.consequence, rule.reason, risk, tuple(signals), details)
