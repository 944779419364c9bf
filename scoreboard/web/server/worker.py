"""gunicorn's gevent worker, which can give a connection away to the hub."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import Any

import gevent
from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker

# Streams are ended over this time when the worker stops, so that browsers don't all come back at once.
_SPREAD_S = 4.0
# Marks on the greenlet that serves a connection.
_MAY_GIVE_AWAY = "scoreboard_may_give_away"
_GIVEN_AWAY = "scoreboard_gave_away"


def may_give_away(environ: dict[str, Any]) -> bool:
    """Whether this request's connection can be taken over: a plain socket of a StreamWorker, with a chunked body."""
    return (
        getattr(gevent.getcurrent(), _MAY_GIVE_AWAY, False)
        and environ.get("gunicorn.socket") is not None
        and environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        and environ["REQUEST_METHOD"] == "GET"
    )


def give_away() -> None:
    """Tell the worker that somebody else has a duplicate of this greenlet's connection and goes on writing."""
    setattr(gevent.getcurrent(), _GIVEN_AWAY, True)


class _Idle(gevent.Timeout):
    """The wait for a connection's next request; it can be cut short."""

    def __init__(self, seconds: float, waiting: set[_Idle]) -> None:
        # False: the with-block swallows it.
        super().__init__(seconds, False)  # type: ignore[arg-type]  # the stubs know no False
        self._waiting = waiting
        self._greenlet = gevent.getcurrent()

    def __enter__(self) -> _Idle:
        self._waiting.add(self)
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        self._waiting.discard(self)
        return super().__exit__(kind, error, trace)

    def end(self) -> None:
        gevent.kill(self._greenlet, self)


class _Joining:
    """A connection on which the head of an answer waits for the first of its body.

    gunicorn sends them apart; each send wakes the reader, and on a busy machine that
    costs more than putting the answer together. Whatever else is done with the
    connection sends the head first.
    """

    __slots__ = ("_connection", "_head", "_is_begun")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._is_begun = False
        self._head = b""

    def sendall(self, data: bytes) -> None:
        if not self._is_begun:
            self._is_begun, self._head = True, data
        elif self._head:
            head, self._head = self._head, b""
            self._connection.sendall(head + data)
        else:
            self._connection.sendall(data)

    def finish(self) -> None:
        """Send a head that no body followed."""
        head, self._head = self._head, b""
        if head:
            self._connection.sendall(head)

    def __getattr__(self, name: str) -> Any:
        self.finish()
        return getattr(self._connection, name)


class StreamWorker(GeventWorker):
    """Forgets a connection that was given away, and ends all streams, spread out, before it leaves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: set[_Idle] = set()

    def load_wsgi(self) -> None:
        """Load the application, and look through what is loaded no more when garbage is searched for."""
        super().load_wsgi()
        gc.collect()
        gc.freeze()
        # Next to nothing here is cyclic but exceptions; a request makes some hundred objects.
        gc.set_threshold(50_000)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        # TLS in this process would put a cipher between the hub and the socket.
        setattr(gevent.getcurrent(), _MAY_GIVE_AWAY, not self.cfg.is_ssl)
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        joining = _Joining(sock)
        try:
            return bool(super().handle_request(listener_name, req, joining, addr))  # type: ignore[arg-type]  # stands in for it
        finally:
            # A connection that was closed meanwhile is gunicorn's to notice.
            with contextlib.suppress(OSError):
                joining.finish()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what the application could not, as it would have; gunicorn closes the connection in any case."""
        # Not at the top: this module is loaded before the standard library is patched, and those are not to be.
        from scoreboard.web.server.bad_requests import refuse

        application: Any = self.wsgi
        answer = refuse(application.extensions["scoreboard"].settings, req, addr, exc)
        # The sender may have gone.
        with contextlib.suppress(OSError):
            write_nonblock(client, answer)

    def is_already_handled(self, respiter: Any) -> bool:
        if getattr(gevent.getcurrent(), _GIVEN_AWAY, False):
            # gunicorn's own word for: close our side of the connection and say nothing more.
            raise StopIteration
        return bool(super().is_already_handled(respiter))

    def timeout_ctx(self) -> gevent.Timeout:  # type: ignore[override]  # the stubs forget what it returns
        return _Idle(self.cfg.keepalive, self._idle)

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        gevent.spawn(self._let_idle_go)

    def _let_idle_go(self) -> None:
        """Connections that wait for a next request would hold the process up for the whole graceful time-out."""
        for idle in list(self._idle):
            idle.end()

    def run(self) -> None:
        super().run()
        application: Any = self.wsgi
        hub = application.extensions["scoreboard"].hub
        hub.stop(spread_s=_SPREAD_S)
        deadline = time.monotonic() + 2 * _SPREAD_S
        while hub.streams and time.monotonic() < deadline:
            self.notify()
            gevent.sleep(0.1)
