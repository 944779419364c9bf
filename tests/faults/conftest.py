"""A service of the scenarios' own, the scale, and the table."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from scoreboard.local import LocalServers
from scoreboard.local.process import family, send
from tests.faults.driver import Driver
from tests.faults.report import Table
from tests.faults.scale import Scale
from tests.faults.trial import Trial, open_trial
from tests.servers import servers_in
from tests.service import SERVING, Service, open_folder, rerouted_service, running_service

StartTrial = Callable[[str, str, str], AbstractContextManager[Trial]]
# Of a test that says nothing else: starting a service, the faults, and the wait until all is well, which has a bound
# of its own; the long scale plays some faults a hundred times.
_SHORT_S, _LONG_S = 180, 900
_TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long"):
        config.stash[_TABLE] = Table()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    limit = _LONG_S if config.getoption("--long") else _SHORT_S
    for item in items:
        if item.nodeid.startswith("tests/faults/") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(limit))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """After a whole run that passed, rows of scenarios that are no more go."""
    table = session.config.stash.get(_TABLE, None)
    chosen = session.config.getoption("keyword") or session.config.getoption("markexpr")
    is_whole = session.config.args == ["tests/faults"] and not chosen
    if table is not None and is_whole and exitstatus == pytest.ExitCode.OK:
        table.keep_only_written()


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return Scale(bool(pytestconfig.getoption("--long")))


@pytest.fixture(scope="session")
def start_trial(pytestconfig: pytest.Config) -> StartTrial:
    """``with start_trial(scenario, what is done, what clients see meanwhile) as trial``."""
    return partial(open_trial, pytestconfig.stash.get(_TABLE, None))


@pytest.fixture(scope="session")
def fault_servers() -> Iterator[LocalServers]:
    """A PostgreSQL that only these scenarios use, and may break."""
    with open_folder() as folder, servers_in(folder, with_valkey=False) as servers:
        yield servers


class _Shared:
    """The service that scenarios with default settings share, and its replacement when one leaves it ill."""

    def __init__(self, servers: LocalServers) -> None:
        self._servers = servers
        self._closing = ExitStack()
        self._service: Service | None = None

    def get(self) -> Service:
        if self._service is None or not _is_well(self._service):
            self.close()
            self._service = self._closing.enter_context(running_service(self._servers))
            self._closing.callback(end_at_once, self._service)
        return self._service

    def close(self) -> None:
        self._closing.close()
        self._service = None


def _is_well(service: Service) -> bool:
    if service.web.ended() or service.supervisor.ended():
        return False
    try:
        return bool(httpx.get(f"{service.url}/health/detailed", timeout=5).json()["data"]["status"] == "ok")
    except (httpx.HTTPError, KeyError, ValueError):
        return False


def end_at_once(service: Service) -> None:
    """No scenario needs an orderly end, which takes seconds."""
    for name in SERVING:
        pid = service.supervisor_of(name).pids().get(name)
        send(family(pid) if pid else [], signal.SIGKILL)


@pytest.fixture(scope="session")
def _shared(fault_servers: LocalServers) -> Iterator[_Shared]:
    shared = _Shared(fault_servers)
    yield shared
    shared.close()


@pytest.fixture
def fault_service(_shared: _Shared) -> Service:
    """A running service with default settings and high limits; a scenario leaves it well."""
    return _shared.get()


@pytest.fixture
def start_fault_service(fault_servers: LocalServers) -> Iterator[Callable[..., Service]]:
    """``start(environment, reroute=…, process_env=…)``: a service of the test's own, see ``rerouted_service``."""
    with ExitStack() as closing:

        def start(environment: Mapping[str, str] = MappingProxyType({}), **options: Any) -> Service:
            service = closing.enter_context(rerouted_service(fault_servers, environment, **options))
            closing.callback(end_at_once, service)
            return service

        yield start


@pytest.fixture
def driver(fault_service: Service) -> Iterator[Driver]:
    """What kills and freezes the shared service's processes."""
    with Driver(fault_service) as driver:
        yield driver
