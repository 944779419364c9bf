"""The application's short way to a route: what it remembers, and that it answers as Werkzeug does."""

from __future__ import annotations

from typing import Any

import pytest
from flask import request
from flask.globals import request_ctx
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.test import create_environ

from scoreboard.web.application import Application


@pytest.fixture(name="app")
def make_app() -> Application:
    app = Application("test", static_folder=None)
    app.add_url_rule("/plain", endpoint="plain", view_func=lambda: "", methods=["POST"])
    app.add_url_rule("/of/<int:number>", endpoint="of", view_func=lambda number: str(number))
    return app


def _matched(app: Application, path: str, method: str, **environ: Any) -> tuple[str | None, Any]:
    context = app.request_context({**create_environ(path, method=method), **environ})
    with context:
        return request.endpoint, request.routing_exception


def test_known_paths_are_few(app: Application) -> None:
    for _ in range(2):
        assert _matched(app, "/plain", "POST") == ("plain", None)
        assert _matched(app, "/of/7", "GET") == ("of", None)
        assert isinstance(_matched(app, "/plain", "GET")[1], MethodNotAllowed)
        assert isinstance(_matched(app, "/other", "POST")[1], NotFound)
    # Other spellings of one path would be any number of entries.
    for slashes in range(2, 50):
        _matched(app, "/plain", "POST", PATH_INFO="/" * slashes + "plain")
    assert list(app._routes) == [("POST", "/plain")]


@pytest.mark.parametrize("host", ["a.example", "a.example:8080", "a.example:80", "[::1]:80", "bad host", ""])
def test_addresses_are_built_as_before(app: Application, host: str) -> None:
    with app.request_context({**create_environ("/plain", method="POST"), "HTTP_HOST": host}):
        known, adapter = request.host, request_ctx.url_adapter
        assert adapter is not None
        assert adapter.build("of", {"number": 3}) == "/of/3"
        assert adapter.build("of", {"number": 3}, force_external=True) == f"http://{known}/of/3"
        assert sorted(adapter.allowed_methods()) == ["OPTIONS", "POST"]
