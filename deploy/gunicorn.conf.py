"""How gunicorn serves the application; what changes from place to place comes from the settings."""

from __future__ import annotations

import os
import resource
import stat
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

# gunicorn reads this file before it puts the working directory on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import environment_with
from scoreboard.listening import listen_addresses
from scoreboard.scheduling import calm_scheduling
from scoreboard.start import load_settings

_settings = load_settings(listens=True)

# Trying the settings imports redis-py before gevent patches. Only its asyncio half keeps names of ssl, and nothing
# uses that half.
warnings.filterwarnings("ignore", message="Monkey-patching ssl after ssl has already been imported")


def _raise_open_files_limit() -> int:
    """Allow each process as many open files as the system lets us; a stream is one. Returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # An unlimited system is asked for what two full workers' worth of streams would need, not for "infinity".
    limit = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def _metrics_folder() -> str:
    """Where the processes put their metrics so that one of them can add them up.

    One of our own per port when none is given: the next start goes on with it, so none is left behind.
    """
    given = environment_with().get("PROMETHEUS_MULTIPROC_DIR")
    if given:
        return given
    folder = Path(tempfile.gettempdir()) / f"scoreboard-metrics-{os.geteuid()}-{_settings.port}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    except OSError:
        # Full, or a file of that name: each process then shows what it has counted itself.
        is_ours = False
    return str(folder) if is_ours else ""


bind = [f"{address}:{_settings.port}" for address in listen_addresses(_settings)]
# A listening socket per worker: the kernel spreads connections evenly, also those that stay for hours. With a shared
# one the worker that is idle first gets the crowd. `scoreboard run` checks the port, as a second server could share it.
reuse_port = True
# Connections wait here while a worker is busy for a moment; the kernel cuts it at net.core.somaxconn.
backlog = 4096

workers = _settings.web_concurrency
# gevent patches the standard library in the worker, before it loads the application; so never preload: engines, Redis
# clients and the hub belong to the process that uses them.
worker_class = "scoreboard.web.server.worker.StreamWorker"
preload_app = False
# Every open stream is a connection. 12,000 is a tested crowd; fewer where the system allows fewer open files, as
# accepting one too many would fail all. 500 are left for the database, Redis, logs and metrics.
worker_connections = max(100, min(12_000, _raise_open_files_limit() - 500))

# A worker whose loop stands still for this long is replaced; every honest request is answered in a tenth of it.
timeout = 30
# Streams are told to move on and end by themselves within seconds of SIGTERM; `Prefer: wait` lasts 10 s at most.
graceful_timeout = 12
# Longer than the usual 60 s of a proxy in front, which then never writes into a connection that is being closed.
keepalive = 65
# A restart after N requests would end thousands of streams; memory is watched by its metric instead.
max_requests = 0

# Tokens go in headers of at most 4 KB, and paths are short; but a stream's `lastEventId` may be any text, and a
# browser does not come back after a refusal. The most that gunicorn allows.
limit_request_line = 8190
limit_request_fields = 60
limit_request_field_size = 8190

# The application logs requests itself, as JSON with their ids.
accesslog = None
errorlog = "-"
logger_class = "scoreboard.web.server.server_log.ServerLog"
loglevel = _settings.log_level.lower()
# Forwarded headers are judged by the application, which knows how many proxies to trust.
forwarded_allow_ips = ""
# Nothing uses gunicorn's control socket, and a home folder to put it in may not exist.
control_socket_disable = True
# The heartbeat file of a worker, in memory where there is such a folder: a slow disk must not look like a dead worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # gunicorn makes a nameless file
raw_env = [f"PROMETHEUS_MULTIPROC_DIR={_metrics_folder()}"]


def post_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001  # gunicorn's signature
    """Let the process finish what it is at before another one takes its core."""
    calm_scheduling()
