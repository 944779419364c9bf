"""Checks every answer against the service's own description, and against what holds for all answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from config import ROOT

# What no error may show: stack traces, SQL, drivers, files.
_INSIDE = re.compile(rf"Traceback|psycopg|SELECT |INSERT |UPDATE |sqlalchemy|{re.escape(str(ROOT))}/|\.py\b")

Schema = dict[str, Any]
BATCH = "/v1/system/actions"
_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONVENTIONS = {"At": _UTC_TIME, "lastUpdated": _UTC_TIME, "Id": _UUID}
# A name in the description itself, and one that game servers give.
_NOT_A_UUID = frozenset({"operationId", "externalId"})


class ContractBrokenError(AssertionError):
    """An answer that the service's description, or the specification's general rules, don't allow."""


@dataclass(frozen=True)
class Operation:
    """One method of one path in the description."""

    path: str
    method: str
    spec: Schema


class Contract:
    """The OpenAPI document of a running service."""

    def __init__(self, document: Schema) -> None:
        self.document = document
        self.operations = [
            Operation(path, method.upper(), spec)
            for path, methods in document["paths"].items()
            for method, spec in methods.items()
        ]

    def find(self, method: str, path: str) -> Operation | None:
        """The described operation behind a request; literal paths win over those with a parameter."""
        wanted = "GET" if method == "HEAD" else method
        for operation in sorted(self.operations, key=lambda each: each.path.count("{")):
            if operation.method == wanted and _pattern(operation.path).fullmatch(path):
                return operation
        return None

    def check(self, response: httpx.Response) -> None:
        """Raise ContractBrokenError when the answer is not as described."""
        request = response.request
        where = f"{request.method} {request.url.path} → {response.status_code}"
        problems = [*_general_problems(response), *self._described_problems(response)]
        if problems:
            raise ContractBrokenError(f"{where}: " + "; ".join(problems) + f"\n{response.text[:500]}")

    def _described_problems(self, response: httpx.Response) -> Iterator[str]:
        operation = self.find(response.request.method, response.request.url.path)
        if operation is None or response.status_code == 405:
            return
        described = operation.spec["responses"].get(str(response.status_code))
        if described is None:
            yield f"this status is not described for {operation.method} {operation.path}"
            return
        schema = described.get("content", {}).get("application/json", {}).get("schema")
        if schema is not None and response.request.method != "HEAD":
            yield from self.problems(schema, response.json())
        if response.status_code >= 400:
            code = _error_code(response)
            if code is not None and code not in described["description"]:
                yield f"{code} is not described for this status"
        elif operation.method != "GET":
            yield from self._request_problems(operation, response)

    def _request_problems(self, operation: Operation, response: httpx.Response) -> Iterator[str]:
        """A body that the service took must be one that its description allows."""
        request = response.request
        body = operation.spec.get("requestBody")
        # What is sent in pieces is not kept, and only JSON can be held against a schema.
        is_json = request.headers.get("Content-Type", "").startswith("application/json")
        if body is None or not is_json or not isinstance(request.stream, httpx.ByteStream) or not request.content:
            return
        schema, sent = body["content"]["application/json"]["schema"], json.loads(request.content)
        if operation.path == BATCH:
            # Its rows are refused one by one, in an answer that is a success.
            items = response.json()["data"]["items"]
            sent["actions"] = [row for row, item in zip(sent["actions"], items, strict=True) if "error" not in item]
        yield from (
            f"took a body that is not described: {each}"
            for each in self.problems(schema, sent)
            # What is wrong with `next` is told in its place in an answer that is a success.
            if not each.startswith("$.next")
        )

    def problems(self, schema: Schema, value: object) -> list[str]:
        """The problem of a value by a schema of this document."""
        # The references of the schema point into the document, so it stands at its root.
        validator = Draft202012Validator({**schema, "components": self.document["components"]})
        return [f"{error.json_path} {error.message[:200]}" for error in validator.iter_errors(value)]


@lru_cache
def contract_of(url: str) -> Contract:
    """The contract of the service at this address."""
    return Contract(httpx.get(f"{url}/openapi.json", timeout=10).raise_for_status().json())


@lru_cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(
        "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"({\w+})", path))
    )


def _general_problems(response: httpx.Response) -> Iterator[str]:
    if response.status_code >= 500 and response.status_code != 503:
        yield "a failure of the server's own"
    if not response.headers.get("X-Request-ID"):
        yield "no X-Request-ID"
    if response.status_code in (429, 503) and not _is_positive(response.headers.get("Retry-After")):
        yield "no Retry-After of at least a second"
    if response.status_code == 429:
        missing = {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} - set(_canonical(response))
        if missing:
            yield f"missing {sorted(missing)}"
    if response.status_code >= 400 and response.request.method != "HEAD":
        yield from _error_problems(response)
    elif response.headers.get("Content-Type", "").startswith("application/json") and response.content:
        yield from _convention_problems(response.json())


def _error_code(response: httpx.Response) -> str | None:
    """The code of an error body, None for any other body."""
    try:
        return str(response.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return None


def _error_problems(response: httpx.Response) -> Iterator[str]:
    try:
        error = response.json()["error"]
        is_right = response.json()["success"] is False and set(error) == {"code", "message", "details"}
    except (ValueError, KeyError, TypeError):
        is_right = False
    if not is_right:
        yield "not an error body"
    if _INSIDE.search(response.text):
        yield "shows the inside of the service"


def _convention_problems(value: object, key: str = "") -> Iterator[str]:
    """Times are ISO 8601 in UTC with a Z, ids are UUIDs."""
    if isinstance(value, dict):
        for name, inner in value.items():
            # What is wrong with fields is told by their names.
            if name != "fields":
                yield from _convention_problems(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _convention_problems(inner)
    elif isinstance(value, str) and key not in _NOT_A_UUID:
        for ending, pattern in _CONVENTIONS.items():
            if key.endswith(ending) and not pattern.fullmatch(value):
                yield f"{key} is {value!r}"


def _canonical(response: httpx.Response) -> list[str]:
    names = {name.lower() for name in response.headers}
    return [
        name for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset") if name.lower() in names
    ]


def _is_positive(value: str | None) -> bool:
    return value is not None and value.isdigit() and int(value) >= 1
