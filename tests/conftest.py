"""Fixtures for tests on real servers. Nothing here stands in for anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from scoreboard.local import LocalServers
from tests.servers import servers_in
from tests.service import Service, open_folder, running_service

StartService = Callable[..., Service]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="minutes instead of seconds; faults write their table")


@pytest.fixture(scope="session")
def local_servers() -> Iterator[LocalServers]:
    """One PostgreSQL and one Valkey for the whole run."""
    with open_folder() as folder, servers_in(folder) as servers:
        yield servers


@pytest.fixture(scope="session")
def service(local_servers: LocalServers) -> Iterator[Service]:
    """The service that most functional tests share: high limits, default settings otherwise."""
    with running_service(local_servers) as running:
        yield running


@pytest.fixture
def start_service(local_servers: LocalServers) -> Iterator[StartService]:
    """Start a service with settings of the test's own; stopped when the test ends."""
    with ExitStack() as closing:

        def start(**environment: str) -> Service:
            return closing.enter_context(running_service(local_servers, **environment))

        yield start
