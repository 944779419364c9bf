"""The Celery application that ``celery -A workers.celery_app`` starts."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from scoreboard.start import load_settings

# Before the metrics are imported, which open their files in a folder that may be wrong.
settings = load_settings()

import structlog
from celery import Celery
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
)
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from config import Settings
from scoreboard.live.queue.app import CONSUMER_TIMEOUT_S, make_celery
from scoreboard.logs import configure_logging
from scoreboard.metric_values import BOOK, read_folder
from scoreboard.scheduling import calm_scheduling
from scoreboard.store.engine import STATEMENT_S
from scoreboard.store.timeouts import give_up_on_silence, wait_in_thread
from scoreboard.tracing import init_reports, init_tracing, log_processors
from workers.schedule import SCHEDULE
from workers.share_metrics import send_metrics, share_metrics


def create_celery(settings: Settings) -> Celery:
    assert settings.broker_url
    celery = make_celery(settings.broker_url, timeout_s=CONSUMER_TIMEOUT_S)
    celery.conf.update(
        imports=["workers.tasks"],
        worker_concurrency=settings.worker_concurrency,
        beat_schedule=SCHEDULE,
        # The schedule is read anew this often at least; its shortest period is two seconds.
        beat_max_loop_interval=5,
    )
    return celery


app = create_celery(settings)


# The first comes before Celery warns of running as root, the second tells it to leave the log alone.
@celeryd_init.connect
@setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings.log_level, log_processors(settings))


@worker_init.connect
def _start_reports(**_: Any) -> None:
    # The parent knows of lost and timed-out children, and Sentry must be there before the tasks are built.
    init_reports(settings, "worker")


@worker_ready.connect
def _show_metrics(**_: Any) -> None:
    """For workers that Prometheus scrapes directly, instead of through the web's /metrics."""
    folder = settings.prometheus_multiproc_dir
    if settings.worker_metrics_port and folder:
        registry = CollectorRegistry()
        registry.register(_Counts(folder))
        start_http_server(settings.worker_metrics_port, registry=registry)


class _Counts(Collector):
    """What this worker's processes have counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        yield from BOOK.families(read_folder(self._folder))


@worker_process_init.connect
def _start_process(**_: Any) -> None:
    init_tracing(settings, "worker")
    _share_metrics()
    calm_scheduling()
    give_up_on_silence(wait_in_thread, STATEMENT_S)
    # What is loaded by now stays: searching it for garbage again and again was a sixth of a settlement's time. The
    # objects of a batch of a thousand are about fifty thousand, and all but exceptions go without a search.
    gc.freeze()
    gc.set_threshold(100_000)


@worker_process_shutdown.connect
def _end_process(**_: Any) -> None:
    send_metrics()


@beat_init.connect
def _start_beat(**_: Any) -> None:
    share_metrics(settings.redis_url)
    # Celery's own handler raises an exception, and Python ignores those in a finalizer, which runs at any line: of 240
    # beats whose broker ended with them, one went on for ever. Beat holds nothing that is to be saved.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _end_at_once)


def _end_at_once(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the signal module's signature
    os._exit(0)


def _share_metrics() -> None:
    if settings.worker_metrics_port and settings.prometheus_multiproc_dir:
        BOOK.begin()
        BOOK.keep_in(settings.prometheus_multiproc_dir)
    else:
        share_metrics(settings.redis_url)


@task_prerun.connect
def _name_task(task_id: str, task: Any, **_: Any) -> None:
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)


@task_postrun.connect
def _forget_task(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
