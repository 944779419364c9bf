"""Further instances of a running service's web, as behind a balancer: the same servers, other settings or clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx

from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from tests.service import Service, start_process

# As long as a service's first start.
_START_S = 90.0


@dataclass
class Instance:
    """Web processes of their own at an address of their own; ``service`` knows how everything else is reached."""

    url: str
    supervisor: Supervisor

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            assert self.supervisor.ended() is None, "the instance ended"
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            assert time.monotonic() < deadline, "the instance did not start in time"
            time.sleep(0.05)


@contextmanager
def further_instances(service: Service, *environments: Mapping[str, str]) -> Iterator[list[Instance]]:
    """One more web for each of these environments, all starting at once; returns when they answer."""
    instances: list[Instance] = []
    try:
        for environment in environments:
            port = free_port()
            supervisor = Supervisor(service.lines.append)
            instances.append(Instance(f"http://127.0.0.1:{port}", supervisor))
            start_process(supervisor, "web", {**service.settings_env, **environment, "PORT": str(port)})
        for instance in instances:
            instance.wait_until_up()
        yield instances
    finally:
        for instance in instances:
            instance.supervisor.stop()
