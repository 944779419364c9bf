"""The service against its own description: to any input of any caller, the answer is one it describes.

schemathesis makes requests that fit the description and requests that don't; each goes out with the credential
of a caller of some kind. A few hundred of them here, many thousands with ``--long``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.functional.client import Json, completion, login, register
from tests.functional.contract import contract_of
from tests.security.cast import ROLES, Cast
from tests.security.doors import described_operations

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    # Of what was taken: some of the statuses of refusals, such as 414, it does not know.
    negative_data_rejection,
]
# Requests per operation and kind (right, wrong): some hundred in all now, a crowd in the long run.
FEW, MANY = 6, 150
# What schemathesis made up itself: random tokens and cookies.
MADE_UP = "made up"
STREAM, LOGOUT = "/v1/leaderboard/stream", "/v1/auth/logout"
# A wrong row of a batch is refused in an answer that is a success: it never harms its neighbours.
BATCH = "/v1/system/actions"
_CREDENTIALS = ("authorization", "cookie")
Operation = schemathesis.APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Any]


@pytest.fixture(scope="module")
def described(cast: Cast) -> dict[tuple[str, str], Operation]:
    """The operations of the running service's own description."""
    schema = schemathesis.openapi.from_url(f"{cast.url}/openapi.json")
    found = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(found) == len(described_operations())
    return {(each.method.upper(), each.path): each for each in found}


@pytest.fixture(scope="module", autouse=True)
def seen() -> Iterator[Counter[int]]:
    """How often there was which status. Requests that are all refused for the same reason would show little."""
    statuses: Counter[int] = Counter()
    yield statuses
    # A single operation need not come to all of them.
    if statuses.total() >= FEW * len(KINDS) // 2:
        assert set(statuses) >= {200, 400, 401, 403, 404}, statuses


@cache
def http(url: str) -> httpx.Client:
    # A new connection for each request: any of the web processes may answer.
    return httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


def _can_be_wrong(spec: Json) -> bool:
    """Whether there is anything in a request that its description could forbid."""
    is_guarded = bool(spec["security"]) and {} not in spec["security"]
    # Headers of any text can't.
    others = [each for each in spec["parameters"] if each["in"] != "header" or "pattern" in each["schema"]]
    return bool(others or spec.get("requestBody") or is_guarded)


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
KINDS = [
    pytest.param(operation, mode, id=f"{' '.join(operation)} {'right' if mode is RIGHT else 'wrong'}")
    for operation, spec in described_operations().items()
    for mode in (RIGHT, WRONG)
    if mode is RIGHT or _can_be_wrong(spec)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("operation", "mode"), KINDS)
def test_every_answer_is_one_that_is_described(
    cast: Cast,
    described: dict[tuple[str, str], Operation],
    seen: Counter[int],
    operation: tuple[str, str],
    mode: GenerationMode,
    pytestconfig: pytest.Config,
) -> None:
    is_long = pytestconfig.getoption("--long")
    settings = hypothesis.settings(
        max_examples=MANY if is_long else FEW,
        # The same ones every time, but for the long run, which looks for new ones.
        derandomize=not is_long,
        database=None,
        deadline=None,
        # Shrinking asks the service hundreds of times; the first case says enough.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    roles = st.sampled_from([*ROLES, MADE_UP])

    @settings
    @given(described[operation].as_strategy(generation_mode=mode), roles, st.randoms(use_true_random=False))
    def check(case: Case, role: str, random: Any) -> None:
        made = case.as_transport_kwargs(cast.url)
        if mode is RIGHT and random.random() < 0.5:
            _mix_in_real_things(made, case, cast, random.random)
        sent = _as_request(made, cast.url)
        if role != MADE_UP:
            _sign(sent, _token(cast, role, case.path))
        seen[_send_and_check(cast, case, sent)] += 1

    check()


def _token(cast: Cast, role: str, path: str) -> str | None:
    if path == LOGOUT and role in ("player", "flagged", "game server", "admin"):
        # The session ends with it.
        player = {"player": cast.player, "flagged": cast.flagged, "game server": cast.game_server}.get(role, cast.admin)
        return login(cast.url, player.username).access_token
    return ROLES[role](cast)


def _sign(sent: httpx.Request, token: str | None) -> None:
    for name in _CREDENTIALS:
        sent.headers.pop(name, None)
    if token is not None:
        sent.headers["Authorization"] = f"Bearer {token}"


def _as_request(made: Json, url: str) -> httpx.Request:
    """From what schemathesis would give to another library; all of it as bytes, as it may hold anything."""
    content = json.dumps(made["json"]).encode() if "json" in made else made.get("data")
    # Spaces around a value are no part of it, and the client sends none.
    headers = {name: str(value).strip().encode("latin-1") for name, value in made["headers"].items()}
    if made["cookies"]:
        cookies = "; ".join(f"{name}={value}" for name, value in made["cookies"].items())
        headers["Cookie"] = cookies.encode("latin-1", "replace")
    raw_headers = [(name.encode("latin-1"), value) for name, value in headers.items()]
    params = made["params"] or None
    return http(url).build_request(made["method"], made["url"], params=params, headers=raw_headers, content=content)


def _mix_in_real_things(made: Json, case: Case, cast: Cast, chance: Callable[[], float]) -> None:
    """Make the request one about things that there are: random ids and names lead nowhere else."""
    real: dict[str, Any] = {
        "userId": cast.victim.id,
        "actionId": cast.done_action,
        "actionType": "SOLVE_PROBLEM",
        "metadata": {},
        "username": cast.player.username,
        "password": cast.player.password,
        "refreshToken": cast.logged_out.refresh_token,
        "onBehalfOf": cast.player.id,
    }
    for name, value in (case.path_parameters or {}).items():
        made["url"] = made["url"].replace(str(value), real[name])
    body = made.get("json")
    if isinstance(body, dict) and "proof" in body:
        # A stranger's, but whole.
        made["json"] = completion(register(cast.url).request_action())
    elif isinstance(body, dict):
        made["json"] = {name: real[name] if name in real and chance() < 0.8 else body[name] for name in body}


def _send_and_check(cast: Cast, case: Case, sent: httpx.Request) -> int:
    """The status of the answer, when it is one that is described."""
    answer = http(cast.url).send(sent, stream=True)
    is_endless = answer.is_success and case.path == STREAM
    if not is_endless:
        answer.read()
    else:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        answer.close()
    # The client's own checks know codes and conventions that a schema can't say.
    contract_of(cast.url).check(answer)
    if not is_endless:
        may_be_wrong = not answer.is_success or case.path == BATCH
        checks = CHECKS[:-1] if may_be_wrong else CHECKS
        case.validate_response(answer, checks=checks)
    return answer.status_code
