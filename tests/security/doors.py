"""Every way in: the routes of the application itself, each with a request that is right in all but who sends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import httpx
from flask import Flask

from app import create_app
from config import Settings
from scoreboard.web.api.openapi import describe
from tests.functional.batches import row
from tests.functional.client import Api, Json, Player, completion, register, registration
from tests.security.cast import Cast

# Flask answers these for every path by itself.
_BY_FLASK = frozenset({"HEAD", "OPTIONS"})


@dataclass(frozen=True, order=True)
class Door:
    """One method of one route, named as the application names it."""

    method: str
    rule: str

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"


@cache
def _application() -> Flask:
    # Nothing connects to these addresses.
    servers = {"database_url": "postgresql://nowhere/x", "redis_url": "redis://nowhere"}
    return create_app(Settings.load(**servers, log_level="ERROR"))


@cache
def all_doors() -> tuple[Door, ...]:
    """From the application's own map, so that no new way in is forgotten."""
    return tuple(
        sorted(
            Door(method, rule.rule)
            for rule in _application().url_map.iter_rules()
            for method in (rule.methods or set()) - _BY_FLASK
        )
    )


@cache
def described_operations() -> dict[tuple[str, str], Json]:
    """The API's description by method and path."""
    with _application().app_context():
        paths = describe()["paths"]
    return {(method.upper(), path): spec for path, methods in paths.items() for method, spec in methods.items()}


@dataclass(frozen=True)
class Sent:
    """What goes through a door."""

    path: str
    body: Json | None = None


# The account whose credentials go along, None for nobody's, and whom the request is about.
Prepare = Callable[[Cast, Player | None], Sent]


def _plain(path: str) -> Prepare:
    return lambda *_: Sent(path)


def _of_victim(path: str) -> Prepare:
    return lambda cast, _: Sent(path.format(cast.victim.id))


def _moderation(action: str, **more: object) -> Prepare:
    return lambda cast, _: Sent(f"/v1/admin/users/{cast.victim.id}/{action}", {"reason": "a test", **more})


def _on_behalf(cast: Cast, player: Player | None) -> Json:
    return {"onBehalfOf": cast.player.id} if player is not None and player.id == cast.game_server.id else {}


def _request(cast: Cast, player: Player | None) -> Sent:
    return Sent("/v1/actions/request", {"actionType": "SOLVE_PROBLEM", "metadata": {}, **_on_behalf(cast, player)})


def _complete(cast: Cast, player: Player | None) -> Sent:
    """The caller's own fresh action; of whoever can't have one, the victim's."""
    more = _on_behalf(cast, player)
    action = player.request_action(**more) if player is not None else cast.open_action
    return Sent("/v1/actions/complete", completion(action, **more))


def _show_action(cast: Cast, player: Player | None) -> Sent:
    if player is None or player.id == cast.admin.id:
        return Sent(f"/v1/actions/{cast.open_action['actionId']}")
    return Sent(f"/v1/actions/{player.request_action(**_on_behalf(cast, player))['actionId']}")


def _send_actions(cast: Cast, player: Player | None) -> Sent:
    return Sent("/v1/system/actions", {"actions": [row(cast.player)]})


def _refresh(cast: Cast, player: Player | None) -> Sent:
    return Sent("/v1/auth/refresh", {"refreshToken": register(cast.url).refresh_token})


def _login(cast: Cast, player: Player | None) -> Sent:
    return Sent("/v1/auth/login", {"username": cast.player.username, "password": cast.player.password})


#: How to go through each door rightly.
REQUESTS: dict[Door, Prepare] = {
    Door("GET", "/"): _plain("/"),
    Door("GET", "/api/docs"): _plain("/api/docs"),
    Door("GET", "/favicon.ico"): _plain("/favicon.ico"),
    Door("GET", "/openapi.json"): _plain("/openapi.json"),
    Door("GET", "/static/<path:filename>"): _plain("/static/favicon.svg"),
    Door("GET", "/health"): _plain("/health"),
    Door("GET", "/health/detailed"): _plain("/health/detailed"),
    Door("GET", "/health/live"): _plain("/health/live"),
    Door("GET", "/health/ready"): _plain("/health/ready"),
    Door("GET", "/metrics"): _plain("/metrics"),
    Door("POST", "/v1/auth/register"): lambda *_: Sent("/v1/auth/register", registration()),
    Door("POST", "/v1/auth/login"): _login,
    Door("POST", "/v1/auth/refresh"): _refresh,
    Door("POST", "/v1/auth/logout"): _plain("/v1/auth/logout"),
    Door("GET", "/v1/actions/types"): _plain("/v1/actions/types"),
    Door("POST", "/v1/actions/request"): _request,
    Door("POST", "/v1/actions/complete"): _complete,
    Door("GET", "/v1/actions/<uuid:action_id>"): _show_action,
    Door("POST", "/v1/system/actions"): _send_actions,
    Door("GET", "/v1/leaderboard"): _plain("/v1/leaderboard"),
    Door("GET", "/v1/leaderboard/top10"): _plain("/v1/leaderboard/top10"),
    Door("GET", "/v1/leaderboard/around/me"): _plain("/v1/leaderboard/around/me"),
    Door("GET", "/v1/leaderboard/around/<uuid:user_id>"): _of_victim("/v1/leaderboard/around/{}"),
    Door("GET", "/v1/leaderboard/stream"): _plain("/v1/leaderboard/stream"),
    Door("POST", "/v1/stream/ticket"): _plain("/v1/stream/ticket"),
    Door("GET", "/v1/users/me/score"): _plain("/v1/users/me/score"),
    Door("GET", "/v1/users/me/history"): _plain("/v1/users/me/history"),
    Door("GET", "/v1/users/<uuid:user_id>/score"): _of_victim("/v1/users/{}/score"),
    Door("GET", "/v1/admin/users"): _plain("/v1/admin/users"),
    Door("GET", "/v1/admin/users/<uuid:user_id>"): _of_victim("/v1/admin/users/{}"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/ban"): _moderation("ban"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/unban"): _moderation("unban"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/flag"): _moderation("flag"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/clear"): _moderation("clear"),
    Door("POST", "/v1/admin/users/<uuid:user_id>/adjust"): _moderation("adjust", amount=1_000),
    Door("GET", "/v1/admin/audit"): _plain("/v1/admin/audit"),
    Door("POST", "/v1/admin/leaderboard/rebuild"): _plain("/v1/admin/leaderboard/rebuild"),
    Door("GET", "/v1/admin/stats"): _plain("/v1/admin/stats"),
}


def knock(api: Api, door: Door, sent: Sent, **headers: str) -> httpx.Response:
    """The answer; of a stream that opens only its head, as there is no end to it."""
    if not door.rule.endswith("/stream"):
        return api.call(door.method, sent.path, json=sent.body, headers=headers)
    with api.http.stream(door.method, sent.path, headers={**api.headers, **headers}) as response:
        if not response.is_success:
            response.read()
    return response
