"""Flask, with the short way through it: one look at the route, one ``enter``, one last step.

Everything else is Flask's own: blueprints, error handlers, hooks of extensions, contexts, the test client.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask
from flask.globals import request_ctx
from flask.json.provider import JSONProvider
from flask.sessions import NullSession, SessionInterface
from flask.signals import appcontext_tearing_down, request_finished, request_started, request_tearing_down
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.wsgi import get_host

from scoreboard.web.api.answers import Answer
from scoreboard.web.api.operation import operation_of
from scoreboard.web.door.enter import Door, enter
from scoreboard.web.door.record import RecordedRequest
from scoreboard.web.door.request_log import Finisher
from scoreboard.web.static_files import static_files

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue
    from flask.wrappers import Request, Response


class OrjsonProvider(JSONProvider):
    """JSON by orjson: several times faster than the standard library on every answer."""

    def dumps(self, obj: Any, **_options: Any) -> str:
        return orjson.dumps(obj, option=orjson.OPT_NON_STR_KEYS).decode()

    def loads(self, s: str | bytes, **_options: Any) -> Any:
        return orjson.loads(s)


class _NoSession(SessionInterface):
    """Flask's session cookies are not used: nothing is opened, nothing saved."""

    _nothing = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002  # Flask's signature
        return self._nothing

    def is_null_session(self, obj: object) -> bool:  # noqa: ARG002
        return True


class _Routes:
    """A request's way to its route: one look-up for a path without arguments, Werkzeug's adapter for everything else.

    The adapter takes four times as long to make as the look-up takes, and next to no request needs one.
    """

    __slots__ = ("_http", "_known", "_make")

    def __init__(self, known: dict[tuple[str, str], Rule], http: Request, make: Callable[[], MapAdapter]) -> None:
        self._known = known
        self._http = http
        self._make = make

    def match(self, *arguments: Any, **options: Any) -> Any:
        """As MapAdapter's. Raises what it raises."""
        is_plain = not arguments and options == _PLAIN_MATCH
        key = (self._http.method, self._http.environ.get("PATH_INFO", ""))
        if is_plain and (rule := self._known.get(key)) is not None:
            return rule, {}
        found = self._make().match(*arguments, **options)
        # Each rule without arguments has one path as it is written, and few methods: so there is an end to them.
        if is_plain and not found[1] and key[1] == found[0].rule:
            self._known[key] = found[0]
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(), name)


_PLAIN_MATCH = {"return_rule": True}


class Application(Flask):
    """Flask for operations: a view that was declared as one is entered by ``enter``."""

    request_class = RecordedRequest
    response_class = Answer
    session_interface = _NoSession()
    # Set by create_app, before the first request.
    door: Door
    finisher: Finisher

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.json = OrjsonProvider(self)
        self._routes: dict[tuple[str, str], Rule] = {}

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view or hook is a coroutine: Flask asks that at every call."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """As Flask's, for an application that answers to every host name. Raises BadHost."""
        if request is None or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        environ = request.environ
        stated: str | None = environ.get("HTTP_HOST")
        host = _ascii_host(get_host(environ)) if stated is None else _stated_host(environ["wsgi.url_scheme"], stated)
        routes: Any = _Routes(self._routes, request, partial(self._make_adapter, request, host))
        return routes  # type: ignore[no-any-return]  # stands in for an adapter

    def _make_adapter(self, request: Request, host: str) -> MapAdapter:
        return MapAdapter(
            self.url_map,
            host,
            request.root_path,
            self.url_map.default_subdomain,
            request.scheme,
            request.path if request.environ.get("PATH_INFO") else "",
            request.method,
            request.query_string.decode("utf-8", "replace"),
        )

    def full_dispatch_request(self) -> Response:
        """Flask's, which asks about signals and hooks also where there are none."""
        http: Any = request_ctx.request
        try:
            if request_started.receivers:
                request_started.send(self, _async_wrapper=self.ensure_sync)
            value = self.preprocess_request() if self.before_request_funcs else None
            if value is None:
                value = self._dispatch(http)
        except Exception as error:  # an error handler answers every one
            value = self.handle_user_exception(error)
        response = value if type(value) is Answer else self.make_response(value)
        response = self.process_response(response)
        if request_finished.receivers:
            request_finished.send(self, _async_wrapper=self.ensure_sync, response=response)
        return response

    def dispatch_request(self) -> ResponseReturnValue:
        """As Flask's for pages and files; ``enter`` for operations."""
        http: Any = request_ctx.request
        return self._dispatch(http)

    def _dispatch(self, http: RecordedRequest) -> ResponseReturnValue:
        rule = http.url_rule
        if rule is None or (http.method == "OPTIONS" and getattr(rule, "provide_automatic_options", False)):
            return super().dispatch_request()
        view: Any = self.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is None:
            return super().dispatch_request()
        return enter(self.door, operation, view, http)

    def process_response(self, response: Response) -> Response:
        """The hooks of extensions and of this request, and then our own last step."""
        context: Any = request_ctx._get_current_object()  # type: ignore[attr-defined]  # a proxy
        if self.after_request_funcs or context._after_request_functions:
            response = super().process_response(response)
        answer: Any = response
        self.finisher.finish(answer, context.request)
        return response

    def do_teardown_request(self, *error: Any) -> None:
        """Flask's, which looks for hooks under each blueprint's name also where there are none."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*error)

    def do_teardown_appcontext(self, *error: Any) -> None:
        """Flask's, where there is a hook."""
        if self.teardown_appcontext_funcs or appcontext_tearing_down.receivers:
            super().do_teardown_appcontext(*error)

    def send_static_file(self, filename: str) -> Response:
        """The view behind ``/static``."""
        return static_files().send(filename)


_NO_ROUTES = Map()


# Clients say few hosts; others are worked out anew.
@lru_cache(maxsize=100)
def _ascii_host(host: str) -> str:
    """As Werkzeug binds it. Raises BadHost."""
    return _NO_ROUTES.bind(host.lower()).server_name


@lru_cache(maxsize=100)
def _stated_host(scheme: str, host: str) -> str:
    """A Host field, as Werkzeug reads and binds it. Raises BadHost."""
    return _ascii_host(get_host({"wsgi.url_scheme": scheme, "HTTP_HOST": host, "SERVER_NAME": "", "SERVER_PORT": "0"}))
