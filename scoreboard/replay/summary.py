"""A replay's result as text for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter

from .client import Json
from .play import Play
from .run import Result
from .stats import percentile

# A board that differs everywhere needs no more lines than this to show it.
MAX_DIFFERENCES = 20
# "12 accepted" beside the total of all that were would read as a contradiction.
UNSETTLED_NAMES = {"accepted": "not settled", "issued": "not settled"}


def summarise(result: Result) -> str:
    """A few lines: players, actions by status, calls, latencies, and whether the board matches."""
    stats = result.stats
    plays = [play for participant in result.participants for play in participant.plays]
    lines = [
        f"players     {len(result.participants)}",
        f"actions     {_count_actions(plays)}",
        f"duration    {result.played_s:.1f} s, {_per_second(plays, result.played_s):.1f} actions/s",
        f"calls       {stats.calls}: {stats.retries} retries, {stats.rate_limited} times 429, "
        f"{stats.server_errors} times 5xx, {stats.network_errors} network errors, {stats.refreshes} tokens renewed",
    ]
    for label in ("register", "request", "complete"):
        p50, p95 = (percentile(stats.latencies_s.get(label, []), share) * 1000 for share in (0.5, 0.95))
        lines.append(f"{label:<11} p50 {p50:.1f} ms, p95 {p95:.1f} ms")
    lines.append(f"lateness    p95 {percentile(stats.lateness_s, 0.95):.2f} s behind the log's clock")
    lines.extend(f"failed      {count} times {reason}" for reason, count in stats.failures.most_common(MAX_DIFFERENCES))
    return "\n".join(lines + _verdict(result.differences))


def _count_actions(plays: list[Play]) -> str:
    by_status = Counter(play.status for play in plays)
    accepted = sum(play.action_id is not None for play in plays)
    named = [f"{by_status.pop(status, 0)} {status}" for status in ("applied", "held", "rejected", "failed")]
    named += [f"{count} {UNSETTLED_NAMES.get(status, status)}" for status, count in sorted(by_status.items())]
    reasons = Counter(play.reason for play in plays if play.action_id and play.reason)
    named += [f"{count} times {reason}" for reason, count in reasons.most_common(MAX_DIFFERENCES)]
    return f"{len(plays)}: {accepted} accepted; {', '.join(named)}"


def _per_second(plays: list[Play], seconds: float) -> float:
    return sum(play.action_id is not None for play in plays) / seconds if seconds else 0.0


def _verdict(found: list[str] | None) -> list[str]:
    if found is None:
        return ["board       not compared"]
    if not found:
        return ["board matches the log"]
    lines = [f"board differs from the log in {len(found)} places:"]
    lines += [f"  {line}" for line in found[:MAX_DIFFERENCES]]
    if len(found) > MAX_DIFFERENCES:
        lines.append(f"  … and {len(found) - MAX_DIFFERENCES} more")
    return lines


def to_json(result: Result) -> Json:
    """Everything of the result that another program may want to check for itself."""
    return {
        "pointsPerAction": result.points,
        "playedS": round(result.played_s, 3),
        "calls": result.stats.calls,
        "retries": result.stats.retries,
        "rateLimited": result.stats.rate_limited,
        "serverErrors": result.stats.server_errors,
        "differences": result.differences,
        "players": [
            {
                "team": participant.player.team,
                "userId": participant.account.user_id,
                "username": participant.account.username,
                "actions": [_action(play) for play in participant.plays],
            }
            for participant in result.participants
        ],
    }


def _action(play: Play) -> Json:
    return {
        "problem": play.problem,
        "actionId": play.action_id,
        "status": play.status,
        "reason": play.reason,
        "acceptedAt": play.accepted_at.isoformat() if play.accepted_at else None,
    }
