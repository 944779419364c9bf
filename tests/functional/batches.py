"""Batches of finished actions, as a game server sends them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import orjson

from tests.functional.client import Json, Player, data_of

PATH = "/v1/system/actions"
_numbers = count(1)


def moment(ago_s: float = 0.0) -> str:
    """So many seconds ago, as a body says it."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat().replace("+00:00", "Z")


def row(player: Player | str, *, ago_s: float = 1.0, took_s: float = 5.0, **changes: Any) -> Json:
    """A row that is right but for the changes; a change to None leaves the field out."""
    fields = {
        "externalId": f"match-{next(_numbers)}-{uuid4().hex[:6]}",
        "userId": player if isinstance(player, str) else player.id,
        "actionType": "SOLVE_PROBLEM",
        "metadata": {},
        "startedAt": moment(ago_s + took_s),
        "completedAt": moment(ago_s),
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def send(server: Player, rows: Sequence[object], wait_s: int | None = 10) -> httpx.Response:
    headers = {} if wait_s is None else {"Prefer": f"wait={wait_s}"}
    return server.api.post(PATH, {"actions": rows}, **headers)


def send_lines(
    server: Player, lines: bytes, wait_s: int | None = 10, kind: str = "application/x-ndjson"
) -> httpx.Response:
    headers = {"Content-Type": kind} | ({} if wait_s is None else {"Prefer": f"wait={wait_s}"})
    return server.api.call("POST", PATH, content=lines, headers=headers)


def lines_of(rows: Sequence[object]) -> bytes:
    return b"\n".join(orjson.dumps(each) for each in rows) + b"\n"


def settled(server: Player, *rows: object) -> list[Json]:
    """The items of a batch all of whose rows are settled or refused."""
    items: list[Json] = data_of(send(server, rows))["items"]
    return items


def said(items: Sequence[Json]) -> list[tuple[str, str | None]]:
    """Status and reason of each item; of a refused one ``refused`` and its code."""
    return [
        ("refused", item["error"]["code"]) if "error" in item else (item["status"], item["reason"]) for item in items
    ]
