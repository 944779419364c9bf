"""gunicorn's own messages, as lines of the same log."""

from __future__ import annotations

from gunicorn.config import Config
from gunicorn.glogging import Logger

from scoreboard.logs import configure_logging


class ServerLog(Logger):
    """gunicorn's logger without handlers and a format of its own: one JSON object a line, as everywhere."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        configure_logging(cfg.loglevel.upper())
        self.error_log.handlers.clear()
        self.error_log.propagate = True
