"""Flask, with the short way through it: one look at the route, one ``enter``, one last step.

Everything else is Flask's own: blueprints, error handlers, hooks of extensions, contexts, the test client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask
from flask.globals import request_ctx
from flask.json.provider import JSONProvider
from flask.sessions import NullSession, SessionInterface
from flask.signals import request_finished, request_started
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


class _Adapter(MapAdapter):
    """Finds the route of a path without arguments by one look-up; the others as Werkzeug does."""

    def __init__(self, known: dict[tuple[str, str], Rule], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known = known

    def match(
        self,
        path_info: str | None = None,
        method: str | None = None,
        return_rule: bool = False,
        query_args: Mapping[str, Any] | str | None = None,
        websocket: bool | None = None,
    ) -> tuple[Any, Mapping[str, Any]]:
        is_plain = return_rule and path_info is None and method is None and query_args is None and websocket is None
        if not is_plain:
            return super().match(path_info, method, return_rule, query_args, websocket)  # type: ignore[call-overload, no-any-return]
        key = (self.default_method, self.path_info)
        rule = self._known.get(key)
        if rule is not None:
            return rule, {}
        rule, arguments = super().match(return_rule=True)
        if not arguments:
            # Each such rule has one path and few methods, so there is an end to them.
            self._known[key] = rule
        return rule, arguments


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
        return _Adapter(
            self._routes,
            self.url_map,
            _ascii_host(get_host(request.environ)),
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
        response = super().process_response(response)
        http: Any = request_ctx.request
        answer: Any = response
        self.finisher.finish(answer, http)
        return response

    def send_static_file(self, filename: str) -> Response:
        """The view behind ``/static``."""
        return static_files().send(filename)


_NO_ROUTES = Map()


# Clients say few hosts; others are worked out anew.
@lru_cache(maxsize=100)
def _ascii_host(host: str) -> str:
    """As Werkzeug binds it. Raises BadHost."""
    return _NO_ROUTES.bind(host.lower()).server_name
