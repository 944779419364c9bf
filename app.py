"""The Flask application; ``create_app`` puts it together and touches no server yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from flask import Flask, Response
from flask.json.provider import JSONProvider

from config import Settings
from scoreboard.logs import configure_logging
from scoreboard.tracing import init_tracing, log_processors
from scoreboard.web.api.errors import register_errors
from scoreboard.web.bootstrap import EXTENSION, build_components
from scoreboard.web.door.callers import access_token, init_auth, load_caller
from scoreboard.web.door.cross_origin import allow_origins
from scoreboard.web.door.forwarded import trust_proxies
from scoreboard.web.door.rate_limits import init_limits
from scoreboard.web.door.request_log import add_request_id, init_observation
from scoreboard.web.server.bodies import BODY_MAX_BYTES
from scoreboard.web.static_files import init_static_files, static_files
from scoreboard.web.views import (
    accounts,
    actions,
    admin,
    documents,
    health,
    leaderboard,
    metrics,
    pages,
    players,
    stream,
    system,
)


class OrjsonProvider(JSONProvider):
    """JSON by orjson: several times faster than the standard library on every answer."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS).decode()

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return orjson.loads(s)


class _Application(Flask):
    """Flask with our static files; it does not ask on every call of a hook whether that is a coroutine: none is."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func

    def send_static_file(self, filename: str) -> Response:
        """The view behind ``/static``."""
        return static_files().send(filename)


def create_app(settings: Settings | None = None) -> Flask:
    """The application for these settings, by default those of the environment.

    Raises SettingsError, CatalogueError.
    """
    settings = settings or Settings.load()
    traced = log_processors(settings)
    configure_logging(settings.log_level, [add_request_id, *traced])
    app = _Application(__name__, static_folder="scoreboard/web/static", template_folder="scoreboard/web/templates")
    # Before every hook, so that they all run inside the request's trace.
    init_tracing(settings, "web", app)
    app.json = OrjsonProvider(app)
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    components = app.extensions[EXTENSION] = build_components(settings)
    init_static_files(app, settings)
    if settings.trusted_proxies:
        app.wsgi_app = trust_proxies(  # type: ignore[assignment]  # as the gate below
            app.wsgi_app, settings.trusted_proxies, settings.trusted_proxy_header
        )
    init_observation(app, settings, traced)
    init_auth(app, settings)
    app.before_request(load_caller)
    for module in (accounts, actions, system, leaderboard, stream, players, admin, health, metrics, documents, pages):
        app.register_blueprint(module.blueprint)
    init_limits(app, settings)
    register_errors(app)
    app.wsgi_app = components.admission.gate(app.wsgi_app)  # type: ignore[assignment]
    if settings.cors_origins:
        allow_origins(app, settings.cors_origins)
    return app


def make_access_token(app: Flask, user_id: UUID, session_id: UUID) -> str:
    """An access token for a session that exists, for load tests."""
    with app.app_context():
        return access_token(str(user_id), str(session_id))
