"""Beat ends when it is told to, at any moment."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from config import ROOT, environment_with
from scoreboard.local import LocalServers
from tests.integration import late_beat

# The end is at once; the rest is for a busy machine.
ENDED_WITHIN_S = 20.0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=lambda sig: sig.name)
def test_beat_ends_also_where_an_exception_would_be_lost(local_servers: LocalServers, sig: signal.Signals) -> None:
    environment = environment_with(DATABASE_URL=local_servers.database_url, REDIS_URL=local_servers.redis_url)
    schedule = f"{late_beat.__name__}:{late_beat.LateScheduler.__name__}"
    celery = [sys.executable, "-m", "celery", "--quiet", "--app", "workers.celery_app"]
    command = [*celery, "beat", "--scheduler", schedule]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as beat:
        try:
            assert beat.stdout is not None
            assert any(late_beat.SAID in line for line in beat.stdout)
            beat.send_signal(sig)
            assert beat.wait(ENDED_WITHIN_S) == 0
        finally:
            beat.kill()
