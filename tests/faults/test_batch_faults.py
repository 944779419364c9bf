"""Batches while servers and processes fail: sent again as they were, every row counts once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from scoreboard.local import LocalServers
from tests.faults.conftest import end_at_once
from tests.faults.tcp_proxy import TcpProxy
from tests.functional.batches import row, said, send
from tests.functional.client import Admin, Json, Player, create_staff, data_of, eventually, register
from tests.service import Service, rerouted_service

_ARRIVE_S = 60.0
_APPLIED = ("applied", None)
_ROWS = 20


@pytest.fixture(scope="module")
def proxies() -> list[TcpProxy]:
    """Holds the proxy between the service and its database, once there is one."""
    return []


@pytest.fixture(scope="module")
def service(fault_servers: LocalServers, proxies: list[TcpProxy]) -> Iterator[Service]:
    with ExitStack() as closing:

        def reroute(direct: Mapping[str, str]) -> Mapping[str, str]:
            proxies.append(closing.enter_context(TcpProxy(direct["DATABASE_URL"])))
            return {"DATABASE_URL": proxies[0].url_for(direct["DATABASE_URL"])}

        service = closing.enter_context(rerouted_service(fault_servers, {"WEB_CONCURRENCY": "1"}, reroute=reroute))
        closing.callback(end_at_once, service)
        yield service


@pytest.fixture(scope="module")
def server(service: Service) -> Admin:
    return create_staff(service, "system")


@pytest.fixture
def players(service: Service) -> list[Player]:
    return [register(service.url) for _ in range(4)]


def batch_of(players: list[Player]) -> list[Json]:
    return [row(players[nth % len(players)], ago_s=30.0 * nth + 1) for nth in range(_ROWS)]


def sent_until_settled(server: Player, rows: list[Json]) -> list[Json]:
    """What a game server does whose batch got no answer: it sends it again."""

    def answer() -> list[Json]:
        try:
            response = send(server, rows)
        except httpx.HTTPError:
            return []
        return response.json()["data"]["items"] if response.status_code == 200 else []

    return eventually(answer, lambda items: bool(items) and said(items) == [_APPLIED] * len(rows), _ARRIVE_S)


def assert_counted_once(service: Service, players: list[Player]) -> None:
    assert [player.score()["score"] for player in players] == [_ROWS // len(players)] * len(players)
    checked = service.run("verify", DATABASE_URL=service.direct_env["DATABASE_URL"])
    assert checked.returncode == 0, checked.stdout


@pytest.mark.timeout(240)
def test_the_web_is_killed_between_commit_and_answer(
    service: Service, server: Player, players: list[Player], proxies: list[TcpProxy]
) -> None:
    rows = batch_of(players)
    word = proxies[0].lose_answer(b"EXECUTE accept_batch", is_silent=True)
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(send, server, rows)
        word.wait(_ARRIVE_S)
        os.killpg(service.web.pids()["web"], signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            lost.result(_ARRIVE_S)
    proxies[0].heal()
    eventually(service.web.ended, lambda ended: ended is not None, _ARRIVE_S)
    service.start_web()
    sent_until_settled(server, rows)
    assert_counted_once(service, players)


@pytest.mark.timeout(240)
def test_without_redis_batches_are_accepted_and_limits_stay(
    service: Service, server: Player, players: list[Player]
) -> None:
    rows = batch_of(players)
    service.servers.valkey.kill()
    try:
        items = data_of(send(server, rows, wait_s=None), 202)["items"]
        assert said(items) == [("accepted", None)] * _ROWS
        again = send(server, rows, wait_s=None).json()["data"]["items"]
        assert [item["actionId"] for item in again] == [item["actionId"] for item in items]
    finally:
        service.servers.valkey.start()
    sent_until_settled(server, rows)
    assert_counted_once(service, players)


@pytest.mark.timeout(240)
def test_postgres_cut_off_in_the_middle_of_a_batch(
    service: Service, server: Player, players: list[Player], proxies: list[TcpProxy]
) -> None:
    """The connection breaks with the answer on its way: the service does not know, and says so."""
    rows = batch_of(players)
    word = proxies[0].lose_answer(b"EXECUTE accept_batch")
    response = send(server, rows)
    word.wait(_ARRIVE_S)
    assert response.status_code in (200, 503)
    proxies[0].heal()
    sent_until_settled(server, rows)
    assert_counted_once(service, players)
