"""The access to each operation, written down by hand and compared with the code."""

from __future__ import annotations

from enum import Enum

from tests.security.doors import Door


class Who(Enum):
    """Who may go through a door."""

    ANYBODY = "anybody; credentials are not looked at"
    UNLESS_BAD = "anybody, but not with a bad credential"
    BOARD = "the same, or signed-in callers only when PUBLIC_LEADERBOARD is false"
    SIGNED_IN = "signed-in callers"
    ADMIN = "admins"
    GAME_SERVER = "game servers"
    OPERATOR = "anybody in development, admins and the operator token in production"


TABLE: dict[Door, Who] = {
    Door("GET", "/"): Who.ANYBODY,
    Door("GET", "/api/docs"): Who.ANYBODY,
    Door("GET", "/favicon.ico"): Who.ANYBODY,
    Door("GET", "/openapi.json"): Who.ANYBODY,
    Door("GET", "/static/<path:filename>"): Who.ANYBODY,
    Door("GET", "/health"): Who.ANYBODY,
    Door("GET", "/health/live"): Who.ANYBODY,
    Door("GET", "/health/ready"): Who.ANYBODY,
    Door("GET", "/health/detailed"): Who.OPERATOR,
    Door("GET", "/metrics"): Who.OPERATOR,
    Door("POST", "/v1/auth/register"): Who.ANYBODY,
    Door("POST", "/v1/auth/login"): Who.ANYBODY,
    Door("POST", "/v1/auth/refresh"): Who.ANYBODY,
    Door("POST", "/v1/auth/logout"): Who.SIGNED_IN,
    Door("GET", "/v1/actions/types"): Who.UNLESS_BAD,
    Door("POST", "/v1/actions/request"): Who.SIGNED_IN,
    Door("POST", "/v1/actions/complete"): Who.SIGNED_IN,
    Door("GET", "/v1/actions/<uuid:action_id>"): Who.SIGNED_IN,
    Door("POST", "/v1/system/actions"): Who.GAME_SERVER,
    Door("GET", "/v1/leaderboard"): Who.BOARD,
    Door("GET", "/v1/leaderboard/top10"): Who.BOARD,
    Door("GET", "/v1/leaderboard/around/me"): Who.SIGNED_IN,
    Door("GET", "/v1/leaderboard/around/<uuid:user_id>"): Who.BOARD,
    Door("GET", "/v1/leaderboard/stream"): Who.BOARD,
    Door("POST", "/v1/stream/ticket"): Who.SIGNED_IN,
    Door("GET", "/v1/users/me/score"): Who.SIGNED_IN,
    Door("GET", "/v1/users/me/history"): Who.SIGNED_IN,
    Door("GET", "/v1/users/<uuid:user_id>/score"): Who.BOARD,
    Door("GET", "/v1/admin/users"): Who.ADMIN,
    Door("GET", "/v1/admin/users/<uuid:user_id>"): Who.ADMIN,
    Door("POST", "/v1/admin/users/<uuid:user_id>/ban"): Who.ADMIN,
    Door("POST", "/v1/admin/users/<uuid:user_id>/unban"): Who.ADMIN,
    Door("POST", "/v1/admin/users/<uuid:user_id>/flag"): Who.ADMIN,
    Door("POST", "/v1/admin/users/<uuid:user_id>/clear"): Who.ADMIN,
    Door("POST", "/v1/admin/users/<uuid:user_id>/adjust"): Who.ADMIN,
    Door("GET", "/v1/admin/audit"): Who.ADMIN,
    Door("POST", "/v1/admin/leaderboard/rebuild"): Who.ADMIN,
    Door("GET", "/v1/admin/stats"): Who.ADMIN,
}
