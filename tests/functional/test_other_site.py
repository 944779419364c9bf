"""A page of another site in a real browser: what docs/api.md tells its builders to send and to read, it can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from scoreboard.local import LocalServers
from tests.functional.browser import Page, require_chromium, running_browser
from tests.functional.client import Json, eventually, registration
from tests.security.pages_sites import Site, running_site, site_of
from tests.service import Service, running_service

# Two busy cores, a browser, a whole service.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
SCORES_MAX = 3
ANONYMOUS_MAX = 5
BLANK = {"/": "<!doctype html><link rel=icon href=data:,><title>Another site</title>"}

CALL = """
const [service, method, path, headers, body] = given;
const response = await fetch(service + path, { method, headers, body });
const shown = Object.fromEntries(response.headers);
return { status: response.status, headers: shown, json: await response.json().catch(() => null) };
"""
# The stream as a library that sends headers reads it, and as EventSource does.
FETCH_STREAM = """
const [service, headers] = given;
const response = await fetch(service + "/v1/leaderboard/stream", { headers });
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
while (!text.includes("leaderboard:initial")) text += (await reader.read()).value;
await reader.cancel();
return { status: response.status, requestId: response.headers.get("X-Request-ID"), text };
"""
OPEN_STREAM = """
const [service, ticket] = given;
const source = new EventSource(`${service}/v1/leaderboard/stream?ticket=${ticket}`);
const event = await new Promise((resolve, reject) => {
  source.addEventListener("leaderboard:initial", resolve);
  source.onerror = reject;
});
source.close();
return JSON.parse(event.data).version;
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_site(site_of(BLANK)) as running:
        yield running


@pytest.fixture(scope="module")
def visited(local_servers: LocalServers, site: Site) -> Iterator[Service]:
    require_chromium()
    limits = {"RATE_LIMIT_SCORE": f"{SCORES_MAX}/minute", "RATE_LIMIT_ANONYMOUS": f"{ANONYMOUS_MAX}/hour"}
    with running_service(local_servers, CORS_ORIGINS=site.origin, **limits) as running:
        yield running


@pytest.fixture(scope="module")
def page(site: Site, visited: Service) -> Iterator[Page]:
    with running_browser() as page:
        page.driver.get(site.origin)
        yield page


class Caller:
    """Calls by ``fetch`` from the page, with what it can see of the answers."""

    def __init__(self, page: Page, service: Service) -> None:
        self.page, self.service = page, service
        self.headers: dict[str, str] = {}

    def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Any:
        sent = {**self.headers, **headers, **({"Content-Type": "application/json"} if body is not None else {})}
        text = json.dumps(body) if body is not None else None
        return self.page.run_async(CALL, self.service.url, method, path, sent, text)

    def preflights(self, path: str) -> int:
        """How often the browser asked whether it may call this path."""
        return sum('"OPTIONS"' in line and f'"{path}"' in line for line in list(self.service.lines))


@pytest.fixture
def caller(page: Page, visited: Service) -> Caller:
    """Signed in with a bearer token of a new account."""
    caller = Caller(page, visited)
    answer = caller.call("POST", "/v1/auth/register", registration())
    assert answer["status"] == 201, answer
    caller.headers["Authorization"] = f"Bearer {answer['json']['data']['accessToken']}"
    return caller


def test_an_unchanged_board_is_a_304_by_its_etag(caller: Caller) -> None:
    first = caller.call("GET", "/v1/leaderboard")
    assert first["status"] == 200
    again = caller.call("GET", "/v1/leaderboard", **{"If-None-Match": first["headers"]["etag"]})
    assert (again["status"], again["json"]) == (304, None)


def test_limits_can_be_read_and_a_refusal_says_why_and_when(caller: Caller) -> None:
    answers = [caller.call("GET", "/v1/users/me/score") for _ in range(SCORES_MAX + 1)]
    assert [answer["status"] for answer in answers] == [200] * SCORES_MAX + [429]
    assert [answer["headers"]["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert {"x-ratelimit-limit", "x-ratelimit-reset", "x-request-id", "date"} <= refused["headers"].keys()
    assert 1 <= int(refused["headers"]["retry-after"]) <= 60
    details = refused["json"]["error"]["details"]
    assert (details["limit"], details["per"]) == ("score", "account")


def test_preflights_are_kept_and_cost_nothing(caller: Caller) -> None:
    for _ in range(3):
        assert caller.call("GET", "/v1/users/me/history")["status"] == 200
    assert eventually(lambda: caller.preflights("/v1/users/me/history"), bool, 20) == 1
    # More preflights than anonymous calls are allowed, each for a path of its own.
    for number in range(ANONYMOUS_MAX + 2):
        path = f"/v1/actions/00000000-0000-0000-0000-{number:012}"
        assert caller.call("GET", path)["status"] == 404
    assert Caller(caller.page, caller.service).call("GET", "/v1/users/me/history")["status"] == 401


def test_an_action_can_be_played(caller: Caller) -> None:
    request_id = "asked-by-another-site"
    body = {"actionType": "SOLVE_PROBLEM", "metadata": {}}
    issued = caller.call("POST", "/v1/actions/request", body, **{"X-Request-ID": request_id})
    assert issued["headers"]["x-request-id"] == request_id
    action = issued["json"]["data"]
    proof = {"completionTime": 0, "checksum": "0" * 64}
    completion = {"actionId": action["actionId"], "actionToken": action["actionToken"], "proof": proof}
    headers = {"Prefer": "wait=5", "Idempotency-Key": "a-key-of-the-site"}
    # A wrong checksum: that it is told so is enough to know that the call was let through.
    assert caller.call("POST", "/v1/actions/complete", completion, **headers)["status"] == 400


def test_the_stream_opens_by_ticket_and_resumes_by_header(caller: Caller) -> None:
    ticket = caller.call("POST", "/v1/stream/ticket")["json"]["data"]["ticket"]
    assert caller.page.run_async(OPEN_STREAM, caller.service.url, ticket) > 0
    resumed = caller.page.run_async(FETCH_STREAM, caller.service.url, {**caller.headers, "Last-Event-ID": "1:1"})
    assert (resumed["status"], "event: reset" in resumed["text"]) == (200, True)
    assert resumed["requestId"]
