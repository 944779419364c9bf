"""One HTTP client for all players: bounded connections, bounded retries, counts."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import httpx

from .stats import CallStats

# gunicorn closes an idle connection after 2 s by default; closing it first here avoids a lost request.
KEEPALIVE_S = 1.0
# An honest service answers far sooner; a call that hangs is repeated.
TIMEOUT_S = 15.0
# First and longest pause after a network error or a 5xx; doubled in between.
BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
# Spreads those who were told to wait equally long.
JITTER_S = 0.25
# The type of one JSON object of the service's answers.
Json = dict[str, Any]


class ReplayError(Exception):
    """The replay, or one player's part in it, can't go on; the message says why."""


class Refused(ReplayError):
    """The service said no, and will say so again."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any], repeated: bool) -> None:
        super().__init__(f"{code} ({status}): {message}")
        self.status, self.code, self.details = status, code, details
        # An earlier attempt may have reached the service although its answer was lost.
        self.repeated = repeated


class GaveUp(ReplayError):
    """The call kept failing until ``retry_for_s`` was over, or the service asked for a longer wait."""


def text_of(data: Json, name: str) -> str:
    """A text field of an answer; raises ReplayError where the answer lacks it."""
    value = data.get(name)
    if not isinstance(value, str):
        raise ReplayError(f"an answer of the service lacks {name}")
    return value


def number_of(data: Json, name: str) -> int:
    """A whole-number field of an answer; raises ReplayError where the answer lacks it."""
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ReplayError(f"an answer of the service lacks {name}")
    return value


def time_of(data: Json, name: str) -> datetime:
    """A moment in an answer; raises ReplayError where the answer lacks it."""
    try:
        moment = datetime.fromisoformat(text_of(data, name))
    except ValueError:
        raise ReplayError(f"{name} in an answer of the service is not a time") from None
    # Without its zone it could not be compared with the others; the API speaks UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def is_this_machine(url: str) -> bool:
    """Whether the host is "localhost", or an address that leads back here."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def run_all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all together; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


@dataclass(frozen=True)
class _Trouble:
    """Why a call has to be sent again, and after how long."""

    what: str
    wait_s: float
    is_lost: bool = False


class Client:
    """Calls the API; 429 and 503 wait as told, network errors and other 5xx back off, all within ``retry_for_s``.

    Every call is safe to repeat: completing answers the same body alike, a lost action request merely leaves an
    unused token to expire, and a lost registration is recognised by logging in.
    """

    def __init__(self, url: str, connections: int, retry_for_s: float, stats: CallStats) -> None:
        self.stats = stats
        self._retry_for_s = retry_for_s
        self._slots = asyncio.Semaphore(connections)
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEPALIVE_S
        )
        self._http = httpx.AsyncClient(
            base_url=url,
            limits=limits,
            timeout=TIMEOUT_S,
            headers={"User-Agent": "replay"},
            # A proxy knows another machine by these names.
            trust_env=not is_this_machine(url),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: dict[str, int] | None = None,
        token: str | None = None,
        label: str = "",
        retry_for_s: float | None = None,
    ) -> Json:
        """The ``data`` of a successful answer; raises Refused or GaveUp. ``label`` names it in the latencies."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = self._http.build_request(method, path, json=body, params=params, headers=headers)
        give_up_at = time.monotonic() + (self._retry_for_s if retry_for_s is None else retry_for_s)
        attempt, is_lost = 0, False
        # Bounded by give_up_at: every turn waits, and no turn starts after it.
        while True:
            answer = await self._send(request, label, attempt)
            if isinstance(answer, httpx.Response):
                return _unwrap(answer, repeated=is_lost)
            if time.monotonic() + answer.wait_s > give_up_at:
                raise GaveUp(f"{method} {path}: {answer.what}; gave up, for the next try is {answer.wait_s:.0f} s away")
            attempt, is_lost = attempt + 1, is_lost or answer.is_lost
            self.stats.retries += 1
            await asyncio.sleep(answer.wait_s)

    async def _send(self, request: httpx.Request, label: str, attempt: int) -> httpx.Response | _Trouble:
        backoff_s = min(MAX_BACKOFF_S, BACKOFF_S * 2 ** min(attempt, 10)) + _jitter_s()
        async with self._slots:
            self.stats.calls += 1
            started_at = time.monotonic()
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                self.stats.network_errors += 1
                return _Trouble(str(error) or type(error).__name__, backoff_s, is_lost=True)
            seconds = time.monotonic() - started_at
        if response.status_code in {429, 503}:
            return self._told_to_wait(response, backoff_s)
        if response.status_code >= 500:
            self.stats.server_errors += 1
            return _Trouble(f"answered {response.status_code}", backoff_s, is_lost=True)
        if label and response.is_success:
            self.stats.record_latency(label, seconds)
        return response

    def _told_to_wait(self, response: httpx.Response, backoff_s: float) -> _Trouble:
        if response.status_code == 429:
            self.stats.rate_limited += 1
        else:
            self.stats.server_errors += 1
        code = _error_of(response).get("code", response.status_code)
        asked = response.headers.get("Retry-After", "")
        if not (asked.isascii() and asked.isdigit()):
            return _Trouble(f"answered {code}", backoff_s)
        return _Trouble(f"answered {code}", int(asked) + _jitter_s())


def _jitter_s() -> float:
    return random.uniform(0, JITTER_S)  # noqa: S311  # spreads calls, keeps no secret


def _unwrap(response: httpx.Response, repeated: bool) -> Json:
    payload = _json_of(response)
    if response.is_success and isinstance(payload.get("data"), dict):
        data: Json = payload["data"]
        return data
    error = _error_of(response)
    if not error:
        asked = f"{response.request.method} {response.request.url}"
        raise ReplayError(f"{asked}: status {response.status_code}, not an answer of the scoreboard API")
    details = error.get("details")
    raise Refused(
        response.status_code,
        str(error.get("code")),
        str(error.get("message")),
        details if isinstance(details, dict) else {},
        repeated,
    )


def _json_of(response: httpx.Response) -> Json:
    try:
        payload = response.json()
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _error_of(response: httpx.Response) -> Json:
    error = _json_of(response).get("error")
    return error if isinstance(error, dict) else {}
