"""Each way in × each kind of caller: status, code, limit and headers of the answer, as written down.

``heads.txt`` is the wire as clients know it. After a change that is meant, write it anew with ``WRITE_HEADS=1``, and
read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.functional.client import Player, assert_refused
from tests.security.beside import web_beside
from tests.security.cast import ROLES, Cast, caller
from tests.security.doors import REQUESTS, Door, all_doors, knock
from tests.security.test_headers import STEADY

WRITTEN = Path(__file__).with_name("heads.txt")
# An amount for each limit that no other has: `X-RateLimit-Limit` then says which one it is. Nobody reaches them here.
LIMITS = (
    *("login", "login_address", "register", "refresh", "request", "complete", "complete_flagged", "batch"),
    *("read", "read_user", "score", "anonymous", "stream", "stream_user"),
)
AMOUNTS = {name: 100_000 + number for number, name in enumerate(LIMITS)}
NAMES = {str(amount): name for name, amount in AMOUNTS.items()}
# On every answer, of its body or its connection, or said by the limit's name.
LEFT_OUT = {*STEADY, "content-security-policy", "date", "x-request-id", "content-length", "content-type"}
LEFT_OUT |= {"server", "connection", "transfer-encoding", "x-ratelimit-limit", "x-ratelimit-remaining"}
_ALIVE = {"player": "player", "flagged": "flagged", "game server": "game_server", "admin": "admin"}


@pytest.fixture(scope="module")
def beside(cast: Cast) -> Iterator[Cast]:
    rates = {f"RATE_LIMIT_{name.upper()}": f"{amount}/hour" for name, amount in AMOUNTS.items()}
    with web_beside(cast.service, WEB_CONCURRENCY="1", CORS_ORIGINS="https://friend.example", **rates) as service:
        there = cast.at(service)
        # The first call of a session that has ended may find its caller remembered, and counts for the account then.
        assert_refused(caller(there, "logged out").post("/v1/actions/request", {}), 401, "INVALID_TOKEN")
        yield there


def head(answer: httpx.Response) -> str:
    """What a client can tell of it before the body."""
    limit = answer.headers.get("x-ratelimit-limit")
    code = answer.json()["error"]["code"] if answer.status_code >= 400 else "-"
    others = sorted({*answer.headers.keys()} - LEFT_OUT)
    return f"{answer.status_code} {code}, limit {NAMES.get(limit, limit)}, {' '.join(others)}"


def heads_of(cast: Cast, door: Door) -> list[str]:
    found: dict[str, list[str]] = {}
    for role in ROLES:
        # A change as an admin may make it, and a completion of the flagged player, are possible once.
        scene = cast.with_another_victim() if role == "admin" and door.method == "POST" else cast
        scene = scene.with_another_flagged() if role == "flagged" and door.rule.endswith("/complete") else scene
        player: Player | None = getattr(scene, _ALIVE[role]) if role in _ALIVE else None
        if player is not None and door.rule.endswith("/logout"):
            player = scene.again(player)
        api = player.api if player is not None else caller(scene, role)
        found.setdefault(head(knock(api, door, REQUESTS[door](scene, player))), []).append(role)
    return [f"{door}: {', '.join(roles)}: {said}" for said, roles in found.items()]


# A web process of its own starts, and some 320 calls are made, perhaps on busy cores.
@pytest.mark.timeout(180)
def test_every_answer_has_the_head_that_is_written_down(beside: Cast) -> None:
    found = [line for door in all_doors() for line in heads_of(beside, door)]
    if os.environ.get("WRITE_HEADS"):
        WRITTEN.write_text("\n".join(found) + "\n", encoding="utf-8")
    assert found == WRITTEN.read_text(encoding="utf-8").splitlines()
