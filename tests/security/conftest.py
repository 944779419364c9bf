"""What the security tests share: the accounts of the shared service, and a service as in production."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scoreboard.local import LocalServers
from tests.security.cast import Cast
from tests.security.pages_fortress import Fortress, running_fortress
from tests.service import Service


@pytest.fixture(scope="session")
def cast(service: Service) -> Cast:
    return Cast(service)


@pytest.fixture(scope="session")
def fortress(local_servers: LocalServers) -> Iterator[Fortress]:
    with running_fortress(local_servers) as running:
        yield running
