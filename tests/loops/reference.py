"""gunicorn's own connection loop with the service's answers to what is not HTTP: what the worker had before."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from gunicorn.util import write_nonblock
from gunicorn.workers.ggevent import GeventWorker


class ReferenceWorker(GeventWorker):
    """gunicorn's gevent worker, loop and parser as they come."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        from scoreboard.web.server.bad_requests import refuse

        application: Any = self.wsgi
        with suppress(OSError):
            write_nonblock(client, refuse(application.extensions["scoreboard"].settings, req, addr, exc))
