"""Limits of players in batches: by the time of completion, together with their single calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scoreboard.local import LocalServers
from tests.functional.batches import PATH, row, said, send, settled
from tests.functional.client import Admin, Api, Player, assert_refused, completion, create_staff, data_of, register
from tests.service import Service, running_service

_APPLIED = ("applied", None)
_OVER = ("refused", "RATE_LIMIT_EXCEEDED")
BATCHES_MAX = 30
_HOUR_S = 3_600.0


@pytest.fixture(scope="module")
def limited(local_servers: LocalServers) -> Iterator[Service]:
    """A service whose players have the default limits."""
    own = {"RATE_LIMIT_COMPLETE": "", "RATE_LIMIT_COMPLETE_FLAGGED": "", "RATE_LIMIT_BATCH": f"{BATCHES_MAX}/minute"}
    with running_service(local_servers, **own) as service:
        yield service


@pytest.fixture
def server(limited: Service) -> Admin:
    """One of the test's own, as batches are limited per game server."""
    return create_staff(limited, "system")


@pytest.fixture
def player(limited: Service) -> Player:
    return register(limited.url)


def test_a_minute_of_the_past_has_room_for_ten(server: Player, player: Player) -> None:
    """Wherever that minute begins; and what was refused is taken when it is sent as of another one."""
    rows = [row(player, ago_s=_HOUR_S - 3 * nth) for nth in range(12)]
    items = settled(server, *reversed(rows))
    assert said(items) == [_OVER] * 2 + [_APPLIED] * 10, "the earliest come first"
    details = items[0]["error"]["details"]
    assert details["retryAfter"] in range(50, 61)
    assert details | {"retryAfter": 0} == {
        "limit": "complete",
        "per": "player",
        "rate": "10 per 1 minute",
        "retryAfter": 0,
    }
    (again,) = settled(server, rows[11])
    assert said([again]) == [_OVER], "it is over the limit still"
    assert said(settled(server, rows[0])) == [_APPLIED], "what was taken in is no new completion"
    (later,) = settled(server, row(player, ago_s=_HOUR_S - 61, externalId=rows[11]["externalId"]))
    assert said([later]) == [_APPLIED], "the refusal is not remembered"
    assert player.score()["score"] == 11


def test_a_backlog_is_spread_over_its_own_minutes(server: Player, player: Player) -> None:
    """Ten in each of twenty minutes: more than the 100 of an hour."""
    rows = [row(player, ago_s=20 * _HOUR_S - 60.0 * minute - 6 * nth) for minute in range(20) for nth in range(10)]
    states = said(settled(server, *sorted(rows, key=lambda sent: sent["completedAt"])))
    assert states == [_APPLIED] * 100 + [_OVER] * 100
    assert (
        said(settled(server, *(row(player, ago_s=18 * _HOUR_S - 60.0 * nth) for nth in range(50)))) == [_APPLIED] * 50
    )


def test_a_second_of_the_past_has_room_for_one(server: Player, player: Player) -> None:
    rows = [row(player, ago_s=_HOUR_S - offset) for offset in (0.0, 0.4, 0.9, 1.0)]
    assert said(settled(server, *rows)) == [_APPLIED, _OVER, _OVER, _APPLIED]


def test_a_neighbour_has_limits_of_its_own(limited: Service, server: Player) -> None:
    players = [register(limited.url) for _ in range(3)]
    items = settled(server, *(row(each, ago_s=100 - 0.1 * nth) for nth in range(2) for each in players))
    assert said(items) == [_APPLIED] * 3 + [_OVER] * 3


def test_single_calls_and_batches_share_the_present_minute(server: Player, player: Player) -> None:
    """The batch begins the minute eight seconds ago, the player's own calls go on in it."""
    assert said(settled(server, *(row(player, ago_s=18.0 - 2 * nth) for nth in range(9)))) == [_APPLIED] * 9
    action = player.request_action()
    assert data_of(player.complete(action))["status"] in ("applied", "held")
    refused = player.send(completion(player.request_action()))
    assert_refused(refused, 429, "RATE_LIMIT_EXCEEDED")
    items = settled(server, row(player, ago_s=0.0), row(player, ago_s=_HOUR_S))
    assert said(items) == [_OVER, _APPLIED]


def test_a_flagged_player_completes_once_a_minute_in_batches_too(limited: Service, server: Player) -> None:
    flagged = register(limited.url)
    create_staff(limited).act(flagged.id, "flag")
    items = settled(server, *(row(flagged, ago_s=_HOUR_S - 20 * nth) for nth in range(5)))
    assert said(items) == [_APPLIED, _OVER, _OVER, _APPLIED, _OVER]
    assert items[1]["error"]["details"]["limit"] == "complete_flagged"


def test_batches_themselves_are_limited_per_game_server(limited: Service, server: Player, player: Player) -> None:
    for _ in range(BATCHES_MAX):
        data_of(send(server, []))
    refused = send(server, [row(player)])
    assert_refused(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert refused.json()["error"]["details"]["limit"] == "batch"
    assert data_of(send(create_staff(limited, "system"), [])) == {"items": []}
    assert_refused(Api(limited.url).post(PATH, {"actions": []}), 401, "INVALID_TOKEN")
