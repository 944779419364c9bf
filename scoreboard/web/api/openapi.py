"""OpenAPI 3.1, made from the operations and the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from flask import current_app
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from werkzeug.routing import Rule

from scoreboard import __version__
from scoreboard.domain import errors
from scoreboard.domain.errors import ScoreboardError
from scoreboard.web.api.batch_rows import JSON_LINES
from scoreboard.web.api.header_docs import HEADERS, RESPONSE_HEADERS
from scoreboard.web.api.operation import Access, Operation, operation_of
from scoreboard.web.api.refusals import CODES, STATUS, Error
from scoreboard.web.api.responses import SignIn
from scoreboard.wire import fields
from scoreboard.wire.events import STREAM_EVENTS

# Flask answers these by itself.
_BY_FLASK = {"HEAD", "OPTIONS"}
_REF = "#/components/schemas/{model}"
_SECURED: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
_SECURITY: dict[Access, list[dict[str, list[str]]]] = {
    Access.ANYONE: [],
    Access.PUBLIC: [{}, *_SECURED],
    Access.BOARD: [{}, *_SECURED],
    Access.USER: _SECURED,
    Access.ADMIN: _SECURED,
    Access.SYSTEM: _SECURED,
}
_STREAM = "text/event-stream"
#: The group that a module's operations are shown in, where that isn't named as the module.
_GROUPS = {"health": "operations", "metrics": "operations"}
#: The parameters of paths, by their names in the routes.
_IN_PATHS: dict[str, Any] = {"user_id": fields.UserId, "action_id": fields.ActionId}
_LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def describe() -> dict[str, Any]:
    """The document; the same for the life of the application, so it is made once."""
    cache = current_app.extensions.setdefault("scoreboard-openapi", {})
    if not cache:
        cache.update(_document())
    return dict(cache)


def _operations() -> list[tuple[Rule, str, Operation]]:
    found = []
    for rule in current_app.url_map.iter_rules():
        declared = operation_of(current_app.view_functions[rule.endpoint])
        if declared is not None:
            found += [(rule, method, declared) for method in sorted((rule.methods or set()) - _BY_FLASK)]
    return sorted(found, key=lambda entry: (entry[0].rule, entry[1]))


def _document() -> dict[str, Any]:
    operations = _operations()
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, declared in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "{" + _camel(found[1]) + "}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, declared)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Live scoreboard",
            "version": __version__,
            "description": "Earn points, keep scores, watch the board live. Times are ISO 8601 in UTC, ids are UUIDs.",
        },
        "servers": [{"url": "/", "description": "the service that this document comes from"}],
        "paths": paths,
        "components": {
            "schemas": {**_answer_schemas([declared for _, _, declared in operations]), **_error_schemas()},
            "headers": {name: _header(*words) for name, words in RESPONSE_HEADERS.items()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": current_app.config["JWT_ACCESS_COOKIE_NAME"]},
            },
        },
    }


def _answer_schemas(operations: list[Operation]) -> dict[str, Any]:
    """Of bodies, answers and events."""
    incoming = {operation.body for operation in operations if operation.body}
    outgoing = {model for operation in operations for model in (operation.answer, *operation.also.values()) if model}
    schemas = _schemas(incoming, "validation") | _schemas({*outgoing, *STREAM_EVENTS.values()}, "serialization")
    for schema in schemas.values():
        # An answer has no fields beside those of its model.
        schema["additionalProperties"] = False
        for shape in schema.get("properties", {}).values():
            # Generators of clients treat a field with a default as always present.
            shape.pop("default", None)
    return dict(sorted(schemas.items()))


def _schemas(models: Iterable[type[Any]], mode: JsonSchemaMode) -> dict[str, Any]:
    """The schemas of these models and of the models in them, by name."""
    described = [
        (model.__name__, mode, TypeAdapter(model)) for model in sorted(models, key=lambda model: model.__name__)
    ]
    _, definitions = TypeAdapter.json_schemas(described, ref_template=_REF)
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas


def _error_schemas() -> dict[str, Any]:
    schemas = _schemas([Error], "serialization")
    schemas["ErrorInfo"]["properties"]["code"] = {
        "$ref": _REF.format(model="ErrorCode"),
        "description": schemas["ErrorInfo"]["properties"]["code"]["description"],
    }
    schemas["ErrorCode"] = {
        "type": "string",
        "enum": sorted(CODES),
        "description": "what was refused; docs/api.md says when. There may be more one day",
    }
    return schemas


def _header(text: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"description": text, "schema": schema, "example": example}


def _operation(rule: Rule, method: str, declared: Operation) -> dict[str, Any]:
    group, _, view = rule.endpoint.partition(".")
    group = _GROUPS.get(group, group)
    shown: dict[str, Any] = {
        "operationId": f"{group}_{view}",
        "tags": [group],
        "summary": declared.summary,
        "security": _SECURITY[declared.access],
        "x-access": declared.access.value,
        "parameters": [
            *_path_parameters(rule),
            *_query_parameters(declared),
            *_header_parameters(method, declared),
        ],
        "responses": _responses(declared),
    }
    if declared.description:
        shown["description"] = "\n".join(line.strip() for line in declared.description.splitlines())
    if declared.body:
        content = {kind: {"schema": _body_schema(declared.body, kind)} for kind in declared.body_types}
        shown["requestBody"] = {"required": not declared.is_body_optional, "content": content}
    return shown


def _body_schema(model: type[Any], kind: str) -> dict[str, Any]:
    if kind == JSON_LINES:
        # OpenAPI has no words for lines: each is one of the rows.
        return {"type": "string", "description": "a row on each line, as those of `actions`; blank lines are skipped"}
    return {"$ref": _REF.format(model=model.__name__)}


def _path_parameters(rule: Rule) -> list[dict[str, Any]]:
    return [
        _parameter(_camel(name), "path", is_required=True, shape=TypeAdapter(_IN_PATHS[name]).json_schema())
        for name in sorted(rule.arguments)
    ]


def _query_parameters(declared: Operation) -> list[dict[str, Any]]:
    if declared.query is None:
        return []
    schema = declared.query.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    return [
        _parameter(name, "query", is_required=name in required, shape=shape)
        for name, shape in schema.get("properties", {}).items()
    ]


def _parameter(name: str, place: str, *, is_required: bool, shape: dict[str, Any]) -> dict[str, Any]:
    if shape.get("default", ...) is None:
        del shape["default"]
        shape = _without_null(shape)
    return {"name": name, "in": place, "required": is_required, "description": shape["description"], "schema": shape}


def _without_null(shape: dict[str, Any]) -> dict[str, Any]:
    """An optional parameter is left out, never null: an address can't hold null."""
    kinds = [kind for kind in shape.pop("anyOf", []) if kind != {"type": "null"}]
    return {**shape, **kinds[0]} if len(kinds) == 1 else {**shape, "anyOf": kinds}


def _header_parameters(method: str, declared: Operation) -> list[dict[str, Any]]:
    names = ["X-Request-ID", *declared.headers]
    if declared.has_etag:
        names.append("If-None-Match")
    if declared.takes_idempotency_key:
        names.append("Idempotency-Key")
    if method in _UNSAFE and errors.CsrfFailed in _possible_errors(declared):
        names.append("X-CSRF-TOKEN")
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema, "example": example}
        for name, (text, schema, example) in ((name, HEADERS[name]) for name in names)
    ]


def _responses(declared: Operation) -> dict[str, Any]:
    success = _with_headers(_success(declared.answer, declared.media_type), *_success_headers(declared))
    responses: dict[str, Any] = {str(declared.status): success}
    for status, model in declared.also.items():
        responses[str(status)] = _with_headers(_success(model, declared.media_type), *_success_headers(declared))
    if declared.has_etag:
        responses["304"] = _with_headers({"description": "Nothing has changed since the ETag in If-None-Match"}, "ETag")
    by_status: dict[int, list[str]] = {}
    for kind in _possible_errors(declared):
        by_status.setdefault(STATUS[kind], []).append(kind.code)
    if declared.body:
        by_status.setdefault(413, []).append("BODY_TOO_LARGE")
        by_status.setdefault(415, []).append("UNSUPPORTED_MEDIA_TYPE")
    if declared.query:
        # The server refuses it before the application sees a request.
        by_status.setdefault(414, []).append("VALIDATION_FAILED")
    for status, codes in sorted(by_status.items()):
        content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
        refusal = {"description": ", ".join(dict.fromkeys(codes)), "content": content}
        responses[str(status)] = _with_headers(refusal, *_REFUSAL_HEADERS.get(status, ()))
    return responses


_REFUSAL_HEADERS: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *_LIMIT_HEADERS),
    503: ("Retry-After",),
}


def _success_headers(declared: Operation) -> list[str]:
    names = list(_LIMIT_HEADERS) if declared.limits else []
    if declared.has_etag:
        names.append("ETag")
    if "Prefer" in declared.headers:
        names.append("Preference-Applied")
    if declared.answer is SignIn:
        names.append("Set-Cookie")
    return names


def _with_headers(response: dict[str, Any], *names: str) -> dict[str, Any]:
    every = ("X-Request-ID", "Date", *names)
    return {**response, "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in every}}


def _possible_errors(declared: Operation) -> list[type[ScoreboardError]]:
    possible = list(declared.errors)
    if declared.body or declared.query:
        possible.append(errors.ValidationFailed)
    if declared.access is not Access.ANYONE:
        possible += [errors.InvalidToken, errors.TokenExpired, errors.AccountBanned, errors.CsrfFailed]
    if declared.access in (Access.USER, Access.ADMIN, Access.SYSTEM):
        possible.append(errors.InsufficientPermissions)
    if declared.takes_idempotency_key:
        possible += [errors.IdempotencyMismatch, errors.ValidationFailed]
    if not declared.is_unlimited:
        possible.append(errors.RateLimitExceeded)
    return [*possible, errors.ServiceUnavailable]


def _success(model: type[Any] | None, media_type: str) -> dict[str, Any]:
    if model is None:
        content: dict[str, Any] = {"schema": {"type": "string"}}
        if media_type == _STREAM:
            # OpenAPI has no words for the events of a stream: their data are these schemas.
            content["x-events"] = {
                name: {"$ref": _REF.format(model=event.__name__)} for name, event in STREAM_EVENTS.items()
            }
        return {"description": "Not JSON; see the description", "content": {media_type: content}}
    schema = {
        "type": "object",
        "required": ["success", "data"],
        "properties": {
            "success": {"const": True, "type": "boolean"},
            "data": {"$ref": _REF.format(model=model.__name__)},
        },
    }
    return {"description": "Success", "content": {media_type: {"schema": schema}}}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
