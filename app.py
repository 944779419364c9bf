"""The Flask application; ``create_app`` puts it together and touches no server yet.

``FRONT_DOOR`` is the order of everything that touches a request; docs/request.md tells it as a story.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from flask import Flask

from config import Settings
from scoreboard.logs import configure_logging
from scoreboard.tracing import init_tracing, log_processors
from scoreboard.web.api.cross_origin import allow_origins
from scoreboard.web.api.errors import register_errors
from scoreboard.web.application import Application
from scoreboard.web.bootstrap import EXTENSION, Components, build_components
from scoreboard.web.door.forwarded import trust_proxies
from scoreboard.web.door.rate_limits import init_limiter
from scoreboard.web.door.request_log import Finisher, add_request_id
from scoreboard.web.server.bodies import BODY_MAX_BYTES
from scoreboard.web.static_files import init_static_files
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

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Wrap = Callable[["WSGIApplication"], "WSGIApplication"]
#: Puts itself into the application, or answers what to wrap around it.
Step = Callable[[Application, Components], Wrap | None]


def _admit(_app: Application, components: Components) -> Wrap:
    return components.admission.gate


def _trust_proxies(_app: Application, components: Components) -> Wrap | None:
    settings = components.settings
    if not settings.trusted_proxies:
        return None
    return partial(trust_proxies, hops=settings.trusted_proxies, header=settings.trusted_proxy_header)


def _trace(app: Application, components: Components) -> None:
    init_tracing(components.settings, "web", app)


def _route(app: Application, _components: Components) -> None:
    for module in (accounts, actions, system, leaderboard, stream, players, admin, health, metrics, documents, pages):
        app.register_blueprint(module.blueprint)


def _enter(app: Application, components: Components) -> None:
    app.door = components.door
    components.access_tokens.init_app(app)
    init_limiter(app, components.limits)


def _refuse(app: Application, _components: Components) -> None:
    register_errors(app)


def _allow_origins(app: Application, components: Components) -> None:
    if components.settings.cors_origins:
        allow_origins(app, components.settings.cors_origins)


def _finish(app: Application, components: Components) -> None:
    settings = components.settings
    app.finisher = Finisher(settings, components.limits, log_processors(settings))


#: In the order in which a request meets them. The server has read its head by then: ``scoreboard/web/server``.
FRONT_DOOR: tuple[Step, ...] = (
    # 1. Takes the whole body and bounds the requests in progress; adds the security headers to every answer.
    _admit,
    # 2. Puts the client's address and scheme in the places of the proxy's.
    _trust_proxies,
    # 3. Opens the request's span, where traces are sent.
    _trace,
    # 4. Finds the route, and gives the request its record with an id: Flask, as web/application.py shortens it.
    _route,
    # 5. For an operation: who calls, limits, the right to call, query and body, the view (web/door/enter.py).
    _enter,
    # 6. Turns refusals and failures into answers.
    _refuse,
    # 7. Lets pages of the named sites read the answer.
    _allow_origins,
    # 8. Gives back what a success need not have been counted, adds the last headers, counts and logs the request.
    _finish,
)


def create_app(settings: Settings | None = None) -> Flask:
    """The application for these settings, by default those of the environment.

    Raises SettingsError, CatalogueError.
    """
    settings = settings or Settings.load()
    configure_logging(settings.log_level, [add_request_id, *log_processors(settings)])
    app = Application(__name__, static_folder="scoreboard/web/static", template_folder="scoreboard/web/templates")
    app.config["MAX_CONTENT_LENGTH"] = BODY_MAX_BYTES
    components = app.extensions[EXTENSION] = build_components(settings)
    init_static_files(app, settings)
    wraps = [step(app, components) for step in FRONT_DOOR]
    # The outermost is put on last.
    for wrap in filter(None, reversed(wraps)):
        app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[assignment,method-assign]  # Flask's own way to wrap it
    return app


def make_access_token(app: Flask, user_id: UUID, session_id: UUID) -> str:
    """An access token for a session that exists, for load tests."""
    components: Components = app.extensions[EXTENSION]
    with app.app_context():
        return components.access_tokens.access_token(str(user_id), str(session_id))
