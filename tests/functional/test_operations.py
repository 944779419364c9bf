"""What operators use: health, metrics, production's demands, verify."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from honcho.environ import parse_procfile

from config import ROOT, environment_with
from scoreboard.local.servers import free_port
from scoreboard.local.supervisor import Supervisor
from tests.functional.client import (
    PASSWORD,
    Admin,
    Api,
    Player,
    assert_refused,
    create_staff,
    data_of,
    eventually,
    login,
    metric,
    register,
)
from tests.service import Service

OPERATOR_TOKEN = "a token for operators only"
SECRETS = {"JWT_SECRET": "s" * 32, "ACTION_TOKEN_KEYS": Fernet.generate_key().decode()}


@pytest.fixture
def api(service: Service) -> Api:
    return Api(service.url)


# -- health ----------------------------------------------------------------------------


def test_health_says_up(api: Api) -> None:
    assert data_of(api.get("/health")) == {"status": "ok"}


def test_detailed_health_names_each_part(api: Api) -> None:
    data = data_of(api.get("/health/detailed"))
    assert data["status"] == "ok"
    assert {"postgres", "redis", "broker", "workers", "unsettled"} <= set(data["parts"])
    for part in data["parts"].values():
        assert part["status"] == "ok"
    for name in ("postgres", "redis", "broker"):
        assert 0 <= data["parts"][name]["latencyMs"] < 5_000


def test_detailed_health_holds_no_address_or_secret(service: Service, api: Api) -> None:
    text = api.get("/health/detailed").text
    assert "postgresql" not in text
    assert service.database_url.split("@")[-1] not in text
    assert service.redis_url not in text


# -- metrics ---------------------------------------------------------------------------


def test_metrics_are_prometheus_text(api: Api) -> None:
    response = api.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "# TYPE scoreboard_requests_total counter" in response.text
    for line in response.text.splitlines():
        if line and not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])


def test_counters_move_by_what_happened(service: Service, api: Api) -> None:
    def requests() -> float:
        route = {"method": "GET", "route": "/v1/actions/types", "status": "200"}
        return metric(service.url, "scoreboard_requests_total", **route)

    def refusals() -> float:
        return metric(service.url, "scoreboard_refusals_total", code="NOT_FOUND")

    before, refused_before = requests(), refusals()
    for _ in range(10):
        # From any of the processes: they share their figures.
        api.get("/v1/actions/types")
        api.get("/nothing")
    assert requests() == before + 10
    assert refusals() == refused_before + 10


def test_odd_paths_make_no_new_series(service: Service, api: Api) -> None:
    for number in range(5):
        api.get(f"/odd-path-{number}")
    assert "odd-path" not in httpx.get(f"{service.url}/metrics").text


# -- production ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def production(service: Service) -> Iterator[str]:
    """The address of a web process in production mode, on the shared service's data."""
    port = free_port()
    settings = {**service.settings_env, **SECRETS, "OPERATOR_TOKEN": OPERATOR_TOKEN, "PORT": str(port)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes["web"]
    lines: list[str] = []
    supervisor = Supervisor(lines.append)
    supervisor.start("web", command, env=environment_with(**settings, ENVIRONMENT="production", PATH=path), cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _is_up(url), bool, 20)
        yield url
    finally:
        supervisor.stop()


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def production_admin(service: Service, production: str) -> Player:
    return login(production, create_staff(service).username)


@pytest.mark.parametrize("path", ["/health/detailed", "/metrics"])
def test_production_shows_its_inside_to_operators_only(production: str, production_admin: Admin, path: str) -> None:
    assert_refused(Api(production).get(path), 401, "INVALID_TOKEN")
    assert_refused(Api(production, "not the token of operators").get(path), 401, "INVALID_TOKEN")
    assert_refused(register(production).api.get(path), 403, "INSUFFICIENT_PERMISSIONS")
    assert Api(production, OPERATOR_TOKEN).get(path).status_code == 200
    assert production_admin.api.get(path).status_code == 200


def test_the_operator_token_opens_nothing_else(production: str) -> None:
    for path in ("/v1/admin/users", "/v1/users/me/score"):
        assert_refused(Api(production, OPERATOR_TOKEN).get(path), 401, "INVALID_TOKEN")


def test_tokens_of_the_development_secret_are_worth_nothing_in_production(service: Service, production: str) -> None:
    player = register(service.url)
    assert_refused(Api(production, player.access_token).get("/v1/users/me/score"), 401, "INVALID_TOKEN")


def test_production_cookies_are_sent_over_tls_only(production: str) -> None:
    player = register(production)
    body = {"username": player.username, "password": PASSWORD, "cookies": True}
    cookies = Api(production).post("/v1/auth/login", body).headers.get_list("set-cookie")
    assert len(cookies) == 4
    assert all("; secure" in cookie.lower() for cookie in cookies)


@pytest.mark.parametrize("missing", SECRETS)
def test_production_does_not_start_with_default_secrets(service: Service, missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    settings_env = {**service.settings_env, **given, "PORT": str(free_port())}
    done = replace(service, settings_env=settings_env).run("run", ENVIRONMENT="production")
    assert done.returncode != 0
    assert missing in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


# -- accounts of staff, and the books --------------------------------------------------


def test_create_admin_takes_its_answers_from_the_environment(service: Service) -> None:
    account = {"ADMIN_USERNAME": "environment admin", "ADMIN_EMAIL": "ea@example.com", "ADMIN_PASSWORD": PASSWORD}
    done = service.run("create-admin", **account)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    data = data_of(Api(service.url).post("/v1/auth/login", {"username": "environment admin", "password": PASSWORD}))
    assert data["user"]["role"] == "admin"
    again = service.run("create-admin", **{**account, "ADMIN_PASSWORD": "another pass phrase"})
    assert "Traceback" not in again.stderr
    assert login(service.url, "environment admin").id == data["user"]["id"], "a second time changes nothing"


def test_the_books_are_right(service: Service) -> None:
    register(service.url).score_point()
    done = service.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
