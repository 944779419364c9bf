"""A service as in production, with friends on other sites and as talkative as it can be."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_urlsafe
from typing import Any

import httpx
import sqlalchemy as sa
from cryptography.fernet import Fernet

from scoreboard.local import LocalServers
from tests.functional.client import PASSWORD, Json, new_name
from tests.service import Service, running_service

# Sites whose pages may call.
FRIEND, PORT_FRIEND = "https://game.example", "https://play.example:8443"
# Registering under a name like this fails inside of the database, in a way that nothing expects.
POISON = "poison"
# Small enough to reach in a test; nothing else here reads its own score that often.
SCORE_LIMIT = 20
# Lines of requests are written within 0.2 s; a loaded machine takes its time.
LOG_WAIT_S = 15.0
# Made once: it takes longer than a request, and nothing here is encrypted.
TLS = ssl.create_default_context()


@dataclass
class Fortress:
    """The running service and the secrets it was given."""

    service: Service
    secrets: dict[str, str]

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secrets['OPERATOR_TOKEN']}"}

    def call(
        self, method: str, path: str, *, cookies: Mapping[str, str] | None = None, **options: Any
    ) -> httpx.Response:
        """A call of its own connection, without the checks of the usual client: these answers are looked at anyway."""
        with httpx.Client(base_url=self.url, cookies=dict(cookies or {}), verify=TLS, timeout=30) as http:
            return http.request(method, path, **options)

    def sign_in(self, **headers: str) -> tuple[httpx.Response, dict[str, str]]:
        """A new account signed in by cookies; the answer and its cookies."""
        answer = self.call("POST", "/v1/auth/register", json=account(cookies=True), headers=headers)
        assert answer.status_code == 201, answer.text
        return answer, dict(answer.cookies)

    def lines_of(self, request_id: str) -> list[str]:
        """What the web processes wrote about a request, once they have; the text behind the process's name."""
        deadline = time.monotonic() + LOG_WAIT_S
        while not (found := [line for line in self.written("web") if request_id in line]):
            assert time.monotonic() < deadline, f"nothing about {request_id} within {LOG_WAIT_S:.0f} s"
            time.sleep(0.05)
        return found

    def written(self, *processes: str) -> list[str]:
        """All that these processes wrote so far."""
        split = [line.partition(" | ") for line in list(self.service.lines)]
        return [text for name, _, text in split if name.strip() in processes and text]

    def settle_log(self) -> None:
        """Return when everything asked for up to now is in the log."""
        answer = self.call("GET", "/v1/actions/types")
        self.lines_of(answer.headers["X-Request-ID"])


def account(**changes: object) -> Json:
    name = new_name("guest")
    return {"username": name, "email": f"{name.replace(' ', '.')}@example.com", "password": PASSWORD, **changes}


def record(line: str) -> Json:
    """A line of the log, which has to be one JSON object."""
    value = json.loads(line)
    assert isinstance(value, dict)
    return value


@contextmanager
def running_fortress(database_servers: LocalServers) -> Iterator[Fortress]:
    secrets = {
        "JWT_SECRET": token_urlsafe(48),
        "ACTION_TOKEN_KEYS": Fernet.generate_key().decode(),
        "OPERATOR_TOKEN": token_urlsafe(24),
    }
    with running_service(
        database_servers,
        ENVIRONMENT="production",
        CORS_ORIGINS=f"{FRIEND},{PORT_FRIEND}",
        LOG_LEVEL="DEBUG",
        RATE_LIMIT_SCORE=f"{SCORE_LIMIT}/minute",
        # What a client writes into X-Forwarded-For gets as far as it ever can.
        TRUSTED_PROXIES="1",
        **secrets,
    ) as service:
        engine = sa.create_engine(service.database_url.replace("postgresql://", "postgresql+psycopg2://"))
        with engine.begin() as connection:
            connection.execute(
                sa.text(f"ALTER TABLE users ADD CONSTRAINT no_poison CHECK (username NOT LIKE '{POISON}%')")
            )
        engine.dispose()
        yield Fortress(service, secrets)
