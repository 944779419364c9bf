"""The description that the service gives of itself, and that the client checks every answer against."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.functional.client import Api, data_of
from tests.functional.contract import Contract, ContractBrokenError, contract_of
from tests.service import Service

SPECIFIED = [
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/logout"),
    ("GET", "/v1/actions/types"),
    ("POST", "/v1/actions/request"),
    ("POST", "/v1/actions/complete"),
    ("GET", "/v1/actions/{actionId}"),
    ("GET", "/v1/leaderboard"),
    ("GET", "/v1/leaderboard/top10"),
    ("GET", "/v1/leaderboard/around/{userId}"),
    ("GET", "/v1/leaderboard/around/me"),
    ("GET", "/v1/leaderboard/stream"),
    ("POST", "/v1/stream/ticket"),
    ("GET", "/v1/users/me/score"),
    ("GET", "/v1/users/{userId}/score"),
    ("GET", "/v1/users/me/history"),
    ("GET", "/v1/admin/users"),
    ("GET", "/v1/admin/users/{userId}"),
    *(("POST", f"/v1/admin/users/{{userId}}/{action}") for action in ("ban", "unban", "flag", "clear", "adjust")),
    ("GET", "/v1/admin/audit"),
    ("POST", "/v1/admin/leaderboard/rebuild"),
    ("GET", "/v1/admin/stats"),
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/health/detailed"),
    ("GET", "/metrics"),
]


@pytest.fixture
def contract(service: Service) -> Contract:
    return contract_of(service.url)


def test_the_description_is_openapi_3_1(service: Service) -> None:
    response = Api(service.url).get("/openapi.json")
    assert response.headers["Content-Type"] == "application/json"
    document = response.json()
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"]


@pytest.mark.parametrize(("method", "path"), SPECIFIED)
def test_everything_specified_is_described(contract: Contract, method: str, path: str) -> None:
    operation = next((each for each in contract.operations if (each.method, each.path) == (method, path)), None)
    assert operation is not None
    assert operation.spec["summary"]
    declared = {each["name"] for each in operation.spec.get("parameters", []) if each["in"] == "path"}
    assert declared == set(re.findall(r"{(\w+)}", path))
    if method == "POST" and path.startswith("/v1/admin/users"):
        assert {"200", "400", "401", "403", "404"} <= set(operation.spec["responses"])


def test_names_of_operations_are_unique(contract: Contract) -> None:
    names = [operation.spec["operationId"] for operation in contract.operations]
    assert len(names) == len(set(names))


def test_every_schema_is_one_and_every_reference_leads_somewhere(contract: Contract) -> None:
    for schema in contract.document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for reference in _references(contract.document):
        place: object = contract.document
        for part in reference.removeprefix("#/").split("/"):
            assert isinstance(place, dict)
            assert part in place, reference
            place = place[part]


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def test_the_docs_page_loads_nothing_from_other_sites(service: Service) -> None:
    response = Api(service.url).get("/api/docs")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    loaded = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>)]+)""", response.text)
    assert loaded, "a page without any style or script is no browsable one"
    assert [each for each in loaded if re.match(r"(?:https?:)?//", each)] == []
    for each in loaded:
        if each.startswith("/static/"):
            assert Api(service.url).get(each).status_code == 200, each


# -- the checks can fail ---------------------------------------------------------------


def answer_to(method: str, path: str, status: int, body: object, **headers: str) -> httpx.Response:
    request = httpx.Request(method, f"http://service.test{path}")
    common = {"X-Request-ID": "1", "Content-Type": "application/json"}
    return httpx.Response(status, content=json.dumps(body).encode(), headers={**common, **headers}, request=request)


def error(code: str) -> dict[str, object]:
    return {"success": False, "error": {"code": code, "message": "No.", "details": {}}}


@pytest.mark.parametrize(
    ("path", "status", "body", "complaint"),
    [
        ("/health", 200, {"success": True, "data": {}}, "'status' is a required property"),
        ("/health", 200, {"success": True, "data": {"status": "ok", "extra": 1}}, "extra"),
        ("/health", 418, error("TEAPOT"), "not described"),
        ("/health", 500, error("INTERNAL_ERROR"), "the server's own"),
        ("/v1/actions/types", 401, error("ODD"), "ODD is not described"),
        ("/v1/actions/types", 401, {"error": "no"}, "not an error body"),
        ("/v1/leaderboard", 429, error("RATE_LIMIT_EXCEEDED"), "no Retry-After"),
        ("/v1/leaderboard", 400, error("VALIDATION_FAILED") | {"x": "Traceback (most recent call last)"}, "inside"),
        ("/elsewhere", 200, {"data": {"createdAt": "2026-01-01 00:00"}}, "createdAt"),
        ("/elsewhere", 200, {"data": [{"userId": 7}, {"userId": "7"}]}, "userId"),
    ],
)
def test_an_answer_that_breaks_the_contract_is_noticed(
    contract: Contract, path: str, status: int, body: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ContractBrokenError, match=complaint):
        contract.check(answer_to("GET", path, status, body))


def test_an_answer_without_a_request_id_is_noticed(contract: Contract) -> None:
    right = answer_to("GET", "/health", 200, {"success": True, "data": {"status": "ok"}})
    contract.check(right)
    del right.headers["X-Request-ID"]
    with pytest.raises(ContractBrokenError, match="X-Request-ID"):
        contract.check(right)


def test_the_catalogue_is_as_described(service: Service) -> None:
    data_of(Api(service.url).get("/v1/actions/types"))
