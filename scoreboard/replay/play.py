"""Play one log on its clock: each player requests, works, completes, in the order of the log."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from .account import Account
from .client import Json, Refused, ReplayError, run_all, text_of, time_of
from .log import Solve, Team

# How long before its end a token is considered used up: network, retries and a busy server need some of its life.
MARGIN_SHARE, LEAST_MARGIN_S = 0.1, 2.0
# The service's default, until the first answer tells its real value.
ASSUMED_TOKEN_LIFE_S = 300.0
# Beyond minTimeMs, for the rounding of clocks on both sides.
MIN_TIME_MARGIN_S = 0.05
# Tokens per solve: the first may outlive a life learned too late, the second a long wait on a limit.
MAX_TOKENS_PER_SOLVE = 4


@dataclass(frozen=True)
class ReplayedType:
    """The replayed type in the catalogue; ``points`` is the worth of every completion."""

    code: str
    points: int
    min_time_s: float
    max_time_s: float


@dataclass
class Play:
    """The result of one solve; ``status`` is the service's, ``failed`` where it was never accepted, or unplayed."""

    problem: str
    status: str = "unplayed"
    action_id: str | None = None
    reason: str | None = None
    accepted_at: datetime | None = None


@dataclass
class Participant:
    """A player of the log, the account it plays with, and its plays."""

    player: Team
    account: Account
    plays: list[Play] = field(default_factory=list)


@dataclass(frozen=True)
class _Ticket:
    action_id: str
    token: str
    proof_key: str
    received_at: float


def sign(proof_key: str, action_id: str, completion_ms: int) -> str:
    """The checksum of a proof without points and data."""
    message = f"{action_id}:{completion_ms}::"
    return hmac.new(proof_key.encode(), message.encode(), hashlib.sha256).hexdigest()


class Stage:
    """Where all participants play; ``started_at`` and ``speed`` make its clock, ``on_done`` is told of each solve."""

    def __init__(self, action_type: ReplayedType, speed: float, on_done: Callable[[], None]) -> None:
        self._type = action_type
        self._speed = speed
        self._on_done = on_done
        self._token_life_s = ASSUMED_TOKEN_LIFE_S
        self.started_at = 0.0

    async def play_all(self, participants: list[Participant]) -> None:
        """Start the clock and play every solve."""
        self.started_at = time.monotonic()
        await run_all(self._play(participant) for participant in participants)

    @property
    def _usable_life_s(self) -> float:
        life_s = min(self._token_life_s, self._type.max_time_s)
        return life_s - min(life_s / 2, max(LEAST_MARGIN_S, life_s * MARGIN_SHARE))

    async def _play(self, participant: Participant) -> None:
        """Play one player's solves; one that can't be played ends the player's part, the rest counts as failed."""
        stats = participant.account.client.stats
        participant.plays = [Play(solve.problem) for solve in participant.player.solves]
        failure: str | None = None
        for solve, play in zip(participant.player.solves, participant.plays, strict=True):
            if failure is None:
                failure = await self._solve(participant.account, solve, play)
            if failure is not None:
                play.status, play.reason = "failed", failure
                stats.failures[failure] += 1
            self._on_done()

    async def _solve(self, account: Account, solve: Solve, play: Play) -> str | None:
        """Request and complete one action at its time; the reason where that failed."""
        due_at = self.started_at + solve.at_ms / 1000 / self._speed
        try:
            for _ in range(MAX_TOKENS_PER_SOLVE):
                await _sleep_until(due_at - self._usable_life_s)
                ticket = await self._request(account, solve)
                if due_at - ticket.received_at > self._usable_life_s:
                    # The first answer has just told of a shorter life: this token would not live to see the solve.
                    continue
                await _sleep_until(max(due_at, ticket.received_at + self._type.min_time_s + MIN_TIME_MARGIN_S))
                if await self._complete(account, ticket):
                    play.status, play.action_id = "accepted", ticket.action_id
                    account.client.stats.lateness_s.append(time.monotonic() - due_at)
                    return None
        except Refused as refusal:
            return refusal.code
        except ReplayError as error:
            return str(error)
        return "ACTION_TOKEN_EXPIRED"

    async def _request(self, account: Account, solve: Solve) -> _Ticket:
        body = {"actionType": self._type.code, "metadata": {"problem": solve.problem}}
        data = await account.call("POST", "/v1/actions/request", body=body, label="request")
        self._token_life_s = (time_of(data, "expiresAt") - time_of(data, "issuedAt")).total_seconds()
        parts = text_of(data, "actionId"), text_of(data, "actionToken"), text_of(data, "proofKey")
        return _Ticket(*parts, received_at=time.monotonic())

    async def _complete(self, account: Account, ticket: _Ticket) -> bool:
        """True when accepted, False when the token came too late."""
        completion_ms = int((time.monotonic() - ticket.received_at) * 1000)
        proof: Json = {
            "completionTime": completion_ms,
            "checksum": sign(ticket.proof_key, ticket.action_id, completion_ms),
        }
        body = {"actionId": ticket.action_id, "actionToken": ticket.token, "proof": proof}
        try:
            await account.call("POST", "/v1/actions/complete", body=body, label="complete")
        except Refused as refusal:
            if refusal.code == "ACTION_TOKEN_EXPIRED":
                return False
            raise
        return True


async def _sleep_until(at: float) -> None:
    await asyncio.sleep(max(0.0, at - time.monotonic()))
