"""A client of the service for black-box tests: what a player, an admin and a game server do.

Every answer is checked against the service's own description on its way.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from tests.functional.contract import contract_of
from tests.functional.sse import SseClient
from tests.service import Service

Json = dict[str, Any]
T = TypeVar("T")
PASSWORD = "a long enough pass phrase"
# Worth a point, without a least time: the quickest way to score.
QUICK = "SOLVE_PROBLEM"
_numbers = count(1)
# Made once: it takes longer than a request, and nothing here is encrypted.
_TLS = ssl.create_default_context()
# A new connection for each request: any of the web processes may answer, as behind a load balancer.
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=0)


class Api:
    """HTTP calls to one service, with the credentials given."""

    def __init__(self, url: str, token: str | None = None, **headers: str) -> None:
        self.url = url
        self.headers = dict(headers)
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        self.http = httpx.Client(base_url=url, timeout=30, verify=_TLS, limits=_LIMITS)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.headers, **(options.pop("headers", None) or {})}
        response = self.http.request(method, path, headers=headers, **options)
        contract_of(self.url).check(response)
        return response

    def get(self, path: str, **params: object) -> httpx.Response:
        return self.call("GET", path, params=params or None)

    def post(self, path: str, body: object = None, **headers: str) -> httpx.Response:
        return self.call("POST", path, json=body, headers=headers)


@dataclass
class Player:
    """A signed-in account."""

    url: str
    id: str
    username: str
    email: str
    access_token: str
    refresh_token: str
    password: str = PASSWORD
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        self.api = Api(self.url, self.access_token)

    def request_action(self, action_type: str = QUICK, metadata: Json | None = None, **more: object) -> Json:
        """Data of ``/v1/actions/request``, which has to succeed."""
        body = {"actionType": action_type, "metadata": metadata or {}, **more}
        return data_of(self.api.post("/v1/actions/request", body))

    def complete(self, action: Json, wait_s: int | None = 10, **proof: Any) -> httpx.Response:
        """Send a completion with a right checksum; see :func:`completion`."""
        return self.send(completion(action, **proof), wait_s)

    def send(self, body: object, wait_s: int | None = 10) -> httpx.Response:
        headers = {} if wait_s is None else {"Prefer": f"wait={wait_s}"}
        return self.api.post("/v1/actions/complete", body, **headers)

    def score_point(self) -> Json:
        """Earn one point; the outcome."""
        outcome = data_of(self.complete(self.request_action()))
        assert outcome["status"] == "applied", outcome
        return outcome

    def score(self) -> Json:
        return data_of(self.api.get("/v1/users/me/score"))

    def history(self) -> list[Json]:
        return pages(self.api, "/v1/users/me/history")

    def action(self, action_id: str) -> Json:
        return data_of(self.api.get(f"/v1/actions/{action_id}"))

    def settled_action(self, action_id: str) -> Json:
        """The action once a worker has settled it."""
        return eventually(lambda: self.action(action_id), lambda action: action["settledAt"] is not None)

    def stream(self, **options: Any) -> SseClient:
        return open_stream(self.url, self.access_token, **options)


@dataclass
class Admin(Player):
    """An admin, with the calls that tests of other subjects need as well."""

    def act(self, player_id: str, action: str, **body: object) -> Json:
        """``POST /v1/admin/users/{id}/{action}``, with a reason where none is given."""
        return data_of(self.api.post(f"/v1/admin/users/{player_id}/{action}", {"reason": "a test", **body}))

    def adjust(self, player: Player, amount: int) -> Json:
        return self.act(player.id, "adjust", amount=amount)


def new_name(prefix: str = "player") -> str:
    """A user name that no other test of the run uses."""
    return f"{prefix} {next(_numbers)} {uuid4().hex[:6]}"


def registration(**changes: object) -> Json:
    """A body of ``/v1/auth/register`` that is right but for the changes."""
    return {"username": new_name(), "email": f"{uuid4().hex}@example.com", "password": PASSWORD, **changes}


def register(url: str, **changes: Any) -> Player:
    body = registration(**changes)
    return _signed_in(url, data_of(Api(url).post("/v1/auth/register", body), 201), body)


def login(url: str, username: str, password: str = PASSWORD) -> Player:
    response = Api(url).post("/v1/auth/login", {"username": username, "password": password})
    return _signed_in(url, data_of(response), {"password": password, "email": ""})


def _signed_in(url: str, data: Json, body: Json) -> Player:
    user = data["user"]
    return Player(
        url, user["id"], user["username"], body["email"], data["accessToken"], data["refreshToken"], body["password"]
    )


def create_staff(service: Service, role: str = "admin") -> Admin:
    """An admin or a system account, made by the command that operators use."""
    name = new_name(role)
    account = ("--username", name, "--email", f"{uuid4().hex}@example.com", "--password", PASSWORD)
    done = service.run("create-admin", *account, "--role", role)
    assert done.returncode == 0, done.stderr
    signed_in = login(service.url, name)
    return Admin(service.url, signed_in.id, name, "", signed_in.access_token, signed_in.refresh_token)


def completion(
    action: Json, time_ms: int = 0, points: int | None = None, data: str | None = None, **more: object
) -> Json:
    """A body of ``/v1/actions/complete`` with the checksum that the specification defines."""
    parts = (action["actionId"], str(time_ms), "" if points is None else str(points), data or "")
    key, message = action["proofKey"].encode(), ":".join(parts).encode()
    proof: Json = {"completionTime": time_ms, "checksum": hmac.new(key, message, hashlib.sha256).hexdigest()}
    if points is not None:
        proof["points"] = points
    if data is not None:
        proof["data"] = data
    return {"actionId": action["actionId"], "actionToken": action["actionToken"], "proof": proof, **more}


def open_stream(url: str, token: str | None = None, **options: Any) -> SseClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return SseClient(f"{url}/v1/leaderboard/stream", headers={**headers, **options.pop("headers", {})}, **options)


def data_of(response: httpx.Response, status: int = 200) -> Json:
    """The data of an answer that has to be a success."""
    assert response.status_code == status, f"{response.status_code}, not {status}: {response.text[:500]}"
    body = response.json()
    assert body["success"] is True
    data = body["data"]
    assert isinstance(data, dict)
    return data


def assert_refused(response: httpx.Response, status: int, code: str, field_name: str | None = None) -> None:
    """The answer is this refusal and, where a field is given, names it."""
    assert response.status_code == status, f"{response.status_code}, not {status}: {response.text[:500]}"
    error = response.json()["error"]
    assert error["code"] == code, error
    assert error["message"]
    if field_name is not None:
        assert any(name.split(".")[-1] == field_name or name == field_name for name in error["details"]["fields"]), (
            error
        )


def pages(api: Api, path: str, limit: int = 100, **params: object) -> list[Json]:
    """All items of a list, page by page; none may be longer than the limit."""
    items: list[Json] = []
    cursor: str | None = None
    while True:
        page = data_of(api.get(path, limit=limit, **params, **({"cursor": cursor} if cursor else {})))
        assert len(page["items"]) <= limit
        items += page["items"]
        cursor = page["nextCursor"]
        if cursor is None:
            return items
        assert page["items"], "a page without items has a successor"


def eventually(read: Callable[[], T], is_right: Callable[[T], bool], timeout_s: float = 30) -> T:
    """The first reading that is right; fails with the last one when none is in time."""
    deadline = time.monotonic() + timeout_s
    while not is_right(reading := read()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s; the last reading was {reading!r}"
        time.sleep(0.05)
    return reading


def in_parallel(calls: Iterable[Callable[[], T]]) -> list[T]:
    """What the calls return, made all at once."""
    calls = list(calls)
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def board(api: Api, limit: int = 100, offset: int = 0) -> list[Json]:
    """Rows of the board."""
    rows: list[Json] = data_of(api.get("/v1/leaderboard", limit=limit, offset=offset))["leaderboard"]
    return rows


def metric(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    total = 0.0
    for line in httpx.get(f"{url}/metrics", timeout=10).text.splitlines():
        sample = re.fullmatch(rf"{re.escape(name)}(?:{{(.*)}})? (\S+)", line)
        if sample and all(f'{label}="{value}"' in (sample[1] or "") for label, value in labels.items()):
            total += float(sample[2])
    return total
