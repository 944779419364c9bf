"""gunicorn's gevent worker with a connection loop of its own, which can give a connection away to the hub."""

from __future__ import annotations

import errno
import gc
import time
from contextlib import suppress
from typing import Any

import gevent
from gunicorn.config import Config
from gunicorn.http.wsgi import base_environ
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

from scoreboard.web.server.connection import Connection, Serving
from scoreboard.web.server.giving_away import allow_giving_away, was_given_away
from scoreboard.web.server.request_head import HeadLimits
from scoreboard.web.server.waits import Wait, Waits

# Streams are ended over this time when the worker stops, so that browsers don't all come back at once.
_SPREAD_S = 4.0
# A worker that stops waits so long for the request on a connection that it has just accepted.
_LAST_WAIT_S = 1.0
# A client that goes away in the middle is no fault of ours.
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
# Settings that only gunicorn's own loop obeys: a server with one of them gets that loop.
_OF_GUNICORN = (
    "protocol", "proxy_protocol", "http_protocols", "http2_cleartext", "header_map", "strip_header_spaces",
    "permit_obsolete_folding", "permit_unconventional_http_method", "permit_unconventional_http_version",
    "casefold_http_method", "pre_request", "post_request", "accesslog", "logconfig", "logconfig_dict", "logconfig_json",
    "syslog", "statsd_host", "max_requests",
)  # fmt: skip


class StreamWorker(GeventWorker):
    """Forgets a connection that was given away, and ends all streams, spread out, before it leaves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits = Waits()
        self._environ: dict[str, Any] = {}
        self._serving: Serving | None = None

    def load_wsgi(self) -> None:
        """Load the application, then keep its objects out of garbage collection."""
        super().load_wsgi()
        if needs_gunicorns_loop(self.cfg):
            self.log.info("Requests go through gunicorn's own loop, as a setting asks for what only it does")
        else:
            self._prepare()
        gc.collect()
        gc.freeze()
        # Next to nothing here is cyclic but exceptions; a request makes some hundred objects.
        gc.set_threshold(50_000)

    def _prepare(self) -> None:
        # Not at the top: this module is loaded before the standard library is patched, and that one is not to be.
        from config import environment_with

        self._environ = {
            **base_environ(self.cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
            "SCRIPT_NAME": environment_with().get("SCRIPT_NAME", ""),
        }
        self._serving = Serving(
            application=self.wsgi,  # type: ignore[arg-type]  # the stubs spell WSGI's types in their own way
            limits=HeadLimits(
                line=self.cfg.limit_request_line,
                fields=self.cfg.limit_request_fields,
                field_size=self.cfg.limit_request_field_size,
            ),
            is_alive=lambda: self.alive,
            waiting=self.timeout_ctx,
        )

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        # TLS in this process would put a cipher between the hub and the socket.
        allow_giving_away(is_allowed=not self.cfg.is_ssl)
        if self._serving is None or not isinstance(addr, tuple):
            # A unix socket's peer has no address, and gunicorn believes what it says of others'.
            super().handle(listener, client, addr)
            return
        name, port = listener.getsockname()[:2]
        base = {
            **self._environ,
            "gunicorn.socket": client,
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "REMOTE_ADDR": addr[0],
            "REMOTE_PORT": str(addr[1]),
        }
        connection = Connection(client, base, self._serving)
        try:
            self._serve(connection, client, addr)
        finally:
            # A connection that has gone already is closed all the same.
            with suppress(OSError):
                client.close()

    def _serve(self, connection: Connection, client: Any, addr: Any) -> None:
        try:
            connection.serve()
            if connection.has_unread:
                connection.linger()
        except TimeoutError:
            self.log.debug("Closing a connection that takes nothing")
        except OSError as error:
            if error.errno not in _GONE:
                self.log.exception("Socket error processing request.")
        except Exception as error:
            self.handle_error(connection.request, client, addr, error)
            connection.linger()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer as the application would have, where it can't; the connection is closed in any case."""
        # Not at the top: see above.
        from scoreboard.web.server.bad_requests import refuse

        application: Any = self.wsgi
        answer = refuse(application.extensions["scoreboard"].settings, req, addr, exc)
        # The sender may have gone.
        with suppress(OSError):
            write_nonblock(client, answer)

    def is_already_handled(self, respiter: Any) -> bool:
        """For gunicorn's own loop."""
        if was_given_away():
            # gunicorn's own word for: close our side of the connection and say nothing more.
            raise StopIteration
        return bool(super().is_already_handled(respiter))

    def timeout_ctx(self) -> Wait:  # type: ignore[override]  # gunicorn's is a gevent.Timeout
        """Connections that wait for a next request would hold a stop up for the whole graceful time-out."""
        return self._waits.at_most(self.cfg.keepalive if self.alive else _LAST_WAIT_S)

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._waits.end_all()

    def run(self) -> None:
        super().run()
        application: Any = self.wsgi
        hub = application.extensions["scoreboard"].hub
        hub.stop(spread_s=_SPREAD_S)
        deadline = time.monotonic() + 2 * _SPREAD_S
        while hub.streams and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(0.1)


def needs_gunicorns_loop(cfg: Config) -> bool:
    """Whether the settings ask for something that our loop leaves to gunicorn's: TLS, other protocols, laxer rules."""
    untouched = Config()
    is_changed = any(cfg.settings[name].get() != untouched.settings[name].get() for name in _OF_GUNICORN)
    return bool(is_changed or cfg.is_ssl or cfg.keepalive <= 0 or cfg.forwarded_allow_ips)
