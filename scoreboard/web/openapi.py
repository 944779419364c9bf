"""OpenAPI 3.1, made from the operations and the models that validate."""

from __future__ import annotations

import re
from typing import Any

from flask import current_app
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from scoreboard import __version__
from scoreboard.domain import errors
from scoreboard.domain.errors import ScoreboardError
from scoreboard.web.errors import STATUS
from scoreboard.web.operation import Access, Operation

# Answered for every path that has a GET, or at all.
_BY_FLASK = {"HEAD", "OPTIONS"}
_REF = "#/components/schemas/{model}"
_SECURED: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.ANYONE: [],
    Access.PUBLIC: [{}, *_SECURED],
    Access.BOARD: [{}, *_SECURED],
    Access.USER: _SECURED,
    Access.ADMIN: _SECURED,
}
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["success", "error"],
    "properties": {
        "success": {"const": False},
        "error": {
            "type": "object",
            "required": ["code", "message", "details"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "details": {"type": "object"}},
        },
    },
}


def describe() -> dict[str, Any]:
    """The document; the same for the life of the application, so it is made once."""
    cache = current_app.extensions.setdefault("scoreboard-openapi", {})
    if not cache:
        cache.update(_document())
    return dict(cache)


def _operations() -> list[tuple[Rule, str, Operation]]:
    found = []
    for rule in current_app.url_map.iter_rules():
        declared = getattr(current_app.view_functions[rule.endpoint], "operation", None)
        if declared is not None:
            found += [(rule, method, declared) for method in sorted((rule.methods or set()) - _BY_FLASK)]
    return sorted(found, key=lambda each: (each[0].rule, each[1]))


def _document() -> dict[str, Any]:
    operations = _operations()
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, declared in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "{" + _camel(found[1]) + "}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, declared)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Live scoreboard",
            "version": __version__,
            "description": "Earn points, keep scores, watch the board live. Times are ISO 8601 in UTC, ids are UUIDs.",
        },
        "paths": paths,
        "components": {
            "schemas": {**_schemas([declared for _, _, declared in operations]), "Error": _ERROR_SCHEMA},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": current_app.config["JWT_ACCESS_COOKIE_NAME"]},
            },
        },
    }


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    incoming = {each.body for each in operations if each.body}
    outgoing = {model for each in operations for model in (each.answer, *each.also.values()) if model}
    models: list[tuple[type[BaseModel], Any]] = [(model, "validation") for model in incoming]
    models += [(model, "serialization") for model in outgoing]
    models.sort(key=lambda each: each[0].__name__)
    _, definitions = models_json_schema(models, by_alias=True, ref_template=_REF)
    return dict(definitions["$defs"])


def _operation(rule: Rule, declared: Operation) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [rule.endpoint.split(".")[0]],
        "summary": declared.summary,
        "security": _SECURITY[declared.access],
        "x-access": declared.access.value,
        "responses": _responses(declared),
    }
    if declared.description:
        shown["description"] = "\n".join(line.strip() for line in declared.description.splitlines())
    if parameters := _path_parameters(rule) + _query_parameters(declared):
        shown["parameters"] = parameters
    if declared.body:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=declared.body.__name__)}}}
        shown["requestBody"] = {"required": not declared.is_body_optional, "content": content}
    return shown


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    schema = {"type": "string", "format": "uuid"}
    return [{"name": _camel(name), "in": "path", "required": True, "schema": schema} for name in sorted(rule.arguments)]


def _query_parameters(declared: Operation) -> list[dict[str, Any]]:
    if declared.query is None:
        return []
    schema = declared.query.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": shape}
        for name, shape in schema.get("properties", {}).items()
    ]


def _responses(declared: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {str(declared.status): _success(declared.answer, declared.media_type)}
    for status, model in declared.also.items():
        responses[str(status)] = _success(model, declared.media_type)
    if declared.has_etag:
        responses["304"] = {"description": "Nothing has changed since the ETag in If-None-Match"}
    by_status: dict[int, list[str]] = {}
    for kind in _possible_errors(declared):
        by_status.setdefault(STATUS[kind], []).append(kind.code)
    if declared.body:
        by_status.setdefault(413, []).append("BODY_TOO_LARGE")
        by_status.setdefault(415, []).append("UNSUPPORTED_MEDIA_TYPE")
    if declared.query:
        # Said by the server, before there is a request to look at.
        by_status.setdefault(414, []).append("VALIDATION_FAILED")
    for status, codes in sorted(by_status.items()):
        content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
        responses[str(status)] = {"description": ", ".join(dict.fromkeys(codes)), "content": content}
    return responses


def _possible_errors(declared: Operation) -> list[type[ScoreboardError]]:
    possible = list(declared.errors)
    if declared.body or declared.query:
        possible.append(errors.ValidationFailed)
    if declared.access is not Access.ANYONE:
        possible += [errors.InvalidToken, errors.TokenExpired, errors.AccountBanned, errors.CsrfFailed]
    if declared.access in (Access.USER, Access.ADMIN):
        possible.append(errors.InsufficientPermissions)
    if declared.takes_idempotency_key:
        possible += [errors.IdempotencyMismatch, errors.ValidationFailed]
    if not declared.is_unlimited:
        possible.append(errors.RateLimitExceeded)
    return [*possible, errors.ServiceUnavailable]


def _success(model: type[BaseModel] | None, media_type: str) -> dict[str, Any]:
    if model is None:
        return {"description": "Not JSON; see the description", "content": {media_type: {"schema": {"type": "string"}}}}
    schema = {
        "type": "object",
        "required": ["success", "data"],
        "properties": {"success": {"const": True}, "data": {"$ref": _REF.format(model=model.__name__)}},
    }
    return {"description": "Success", "content": {media_type: {"schema": schema}}}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
