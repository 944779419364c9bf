"""The Celery application that ``celery -A workers.celery_app`` starts."""

from __future__ import annotations

import gc
from typing import Any

import structlog
from celery import Celery
from celery.signals import (
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_ready,
)
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from config import Settings, SettingsError
from scoreboard.live.broker import CONSUMER_TIMEOUT_S, make_celery
from scoreboard.logs import configure_logging
from scoreboard.scheduling import calm_scheduling
from scoreboard.store.engine import STATEMENT_S
from scoreboard.store.patience import give_up_on_silence, wait_in_thread
from scoreboard.tracing import init_reports, init_tracing, log_processors
from workers.schedule import SCHEDULE


def create_celery(settings: Settings) -> Celery:
    if not settings.broker_url:
        raise SettingsError("REDIS_URL or CELERY_BROKER_URL is needed; `scoreboard run` sets it for its own server")
    celery = make_celery(settings.broker_url, timeout_s=CONSUMER_TIMEOUT_S)
    celery.conf.update(
        imports=["workers.tasks"],
        worker_concurrency=settings.worker_concurrency,
        beat_schedule=SCHEDULE,
        # The schedule is read anew this often at least; its shortest period is two seconds.
        beat_max_loop_interval=5,
    )
    return celery


settings = Settings.load()
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
    """For workers on machines of their own, whose figures no web process can add to its answer."""
    if settings.worker_metrics_port:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        start_http_server(settings.worker_metrics_port, registry=registry)


@worker_process_init.connect
def _start_process(**_: Any) -> None:
    init_tracing(settings, "worker")
    calm_scheduling()
    give_up_on_silence(wait_in_thread, STATEMENT_S)
    # What is loaded by now stays: searching it for garbage again and again was a sixth of a settlement's time. The
    # objects of a batch of a thousand are about fifty thousand, and all but exceptions go without a search.
    gc.freeze()
    gc.set_threshold(100_000)


@task_prerun.connect
def _name_task(task_id: str, task: Any, **_: Any) -> None:
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)


@task_postrun.connect
def _forget_task(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
