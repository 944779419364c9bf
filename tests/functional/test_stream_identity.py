"""Who a stream belongs to: cookie of this site, ticket for others, bearer token for those who can send one."""

from __future__ import annotations

import time

import pytest

from tests.conftest import StartService
from tests.functional.client import PASSWORD, Api, Player, data_of, register
from tests.functional.sse import SseClient, SseRefused
from tests.service import Service

PATH = "/v1/leaderboard/stream"
ELSEWHERE = "https://elsewhere.example"


@pytest.fixture
def player(service: Service) -> Player:
    return register(service.url)


def cookies_of(service: Service, player: Player) -> dict[str, str]:
    answer = Api(service.url).post(
        "/v1/auth/login", {"username": player.username, "password": PASSWORD, "cookies": True}
    )
    assert answer.status_code == 200
    return {name: value for name, value in answer.cookies.items() if name == "access_token_cookie"}


def is_signed_in(stream: SseClient, player: Player) -> bool:
    """Whether the stream brings what concerns this player."""
    stream.wait_for("leaderboard:initial")
    outcome = player.score_point()
    return bool(stream.wait_for("action:result", 10).json()["actionId"] == outcome["actionId"])


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "own"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
    ids=["no-origin", "own-origin", "same-origin-fetch", "typed-in"],
)
def test_a_cookie_opens_the_stream_for_pages_of_this_site(
    service: Service, player: Player, headers: dict[str, str]
) -> None:
    sent = {name: service.url if value == "own" else value for name, value in headers.items()}
    with SseClient(service.url + PATH, cookies=cookies_of(service, player), headers=sent) as stream:
        assert is_signed_in(stream, player)


@pytest.mark.parametrize("headers", [{"Origin": ELSEWHERE}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_cookie_opens_nothing_for_pages_of_other_sites(
    service: Service, player: Player, headers: dict[str, str]
) -> None:
    with pytest.raises(SseRefused) as refused:
        SseClient(service.url + PATH, cookies=cookies_of(service, player), headers=headers).__enter__()
    assert refused.value.status == 403
    assert "INSUFFICIENT_PERMISSIONS" in refused.value.body


def test_a_ticket_and_a_bearer_token_open_it_from_anywhere(service: Service, player: Player) -> None:
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    with SseClient(service.url + PATH, params={"ticket": ticket}, headers={"Origin": ELSEWHERE}) as stream:
        assert is_signed_in(stream, player)
    bearer = {"Authorization": f"Bearer {player.access_token}", "Origin": ELSEWHERE}
    with SseClient(service.url + PATH, headers=bearer) as stream:
        assert is_signed_in(stream, player)


@pytest.mark.parametrize("ticket", ["", "nonsense", "gAAAAA" + "A" * 100, "x" * 1_000])
def test_what_is_no_ticket_opens_nothing(service: Service, ticket: str) -> None:
    with pytest.raises(SseRefused) as refused:
        SseClient(service.url + PATH, params={"ticket": ticket}).__enter__()
    assert refused.value.status == 401
    assert "INVALID_TOKEN" in refused.value.body


def test_an_access_token_is_no_ticket_and_an_action_token_neither(service: Service, player: Player) -> None:
    for forged in (player.access_token, player.request_action()["actionToken"]):
        with pytest.raises(SseRefused) as refused:
            SseClient(service.url + PATH, params={"ticket": forged}).__enter__()
        assert refused.value.status == 401


def test_a_stream_ends_with_the_access_behind_it(start_service: StartService) -> None:
    service = start_service(JWT_ACCESS_TTL_S="3", STREAM_TICKET_TTL_S="1")
    player = register(service.url)
    ticket = data_of(player.api.post("/v1/stream/ticket"))["ticket"]
    opened_at = time.monotonic()
    with (
        SseClient(service.url + PATH, headers={"Authorization": f"Bearer {player.access_token}"}) as by_token,
        SseClient(service.url + PATH, params={"ticket": ticket}) as by_ticket,
        SseClient(service.url + PATH) as anonymous,
    ):
        for stream in (by_token, by_ticket):
            stream.wait_ended(10)
        assert time.monotonic() - opened_at >= 1.5
        anonymous.wait_for("leaderboard:initial")
        with pytest.raises(SseRefused):
            SseClient(service.url + PATH, params={"ticket": ticket}).__enter__()
        register(service.url)
        # The anonymous stream goes on.
        anonymous.wait_for("leaderboard:update", 10)
