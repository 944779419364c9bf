"""One more web process beside a running service: other settings, the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
from cryptography.fernet import Fernet

from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from tests.functional.client import eventually
from tests.service import START_WAIT_S, Service, start_process

# Production refuses to start with the development ones.
SECRETS = {"JWT_SECRET": "a secret of the tests, long enough for anybody", "ACTION_TOKEN_KEYS": ""}


@contextmanager
def web_beside(service: Service, **settings: str) -> Iterator[Service]:
    """The service as these settings show it; its worker and beat are those of the first."""
    port = free_port()
    secrets = {**SECRETS, "ACTION_TOKEN_KEYS": Fernet.generate_key().decode()}
    environment = {**service.settings_env, **secrets, **settings, "PORT": str(port)}
    lines: list[str] = []
    web = Supervisor(lines.append)
    start_process(web, "web", environment)
    beside = replace(service, url=f"http://127.0.0.1:{port}", settings_env=environment, web=web, lines=lines)
    try:
        eventually(lambda: _is_up(beside.url), bool, START_WAIT_S)
        yield beside
    finally:
        web.stop()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
