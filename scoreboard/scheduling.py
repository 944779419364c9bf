"""How the kernel shares the cores among our processes."""

from __future__ import annotations

import contextlib
import os


def calm_scheduling() -> None:
    """Ask the kernel not to interrupt others for this process, nor, as far as they ask the same, this one for them.

    Web processes, workers and servers wake each other thousands of times a second; each
    time one takes the core from another, that one finds the caches cold. As batch
    processes (``SCHED_BATCH``) they run on to their next wait: measured, a flow costs the
    web processes a sixth less. Where there is no such class nothing changes.
    """
    if hasattr(os, "SCHED_BATCH"):
        # A container may forbid it.
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
