"""The Celery application as a transport: web sends by name, workers register the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES

from scoreboard.domain.errors import ServiceUnavailable
from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.queue import transport
from scoreboard.live.queue.transport import ADDRESS_OPTION
from scoreboard.redis_url import read_redis_url

SETTLE = "scoreboard.settle"
SWEEP = "scoreboard.sweep"
ENSURE_BOARD = "scoreboard.ensure_board"
COMPARE_BOARD = "scoreboard.compare_board"
REBUILD = "scoreboard.rebuild"
HOUSEKEEPING = "scoreboard.housekeeping"

QUEUE = "scoreboard"
# Written to see whether writes are taken; begins as the queue does, so that a restricted user may.
_PROBE = f"{QUEUE}.probe"
PROBE_S = 60
# Messages that may wait for workers, of up to a thousand ids each: 30 MB at most. Past that a further doorbell
# says nothing new, the sweep will find its rows; so an hour without workers fills no memory.
QUEUE_MAX_MESSAGES = 500
# A batch takes milliseconds; a minute means a hung connection, and the child is replaced.
_SOFT_LIMIT_S, _HARD_LIMIT_S = 50, 60
# Over twice the hard limit, so that a message is never handed out while it is being worked on.
_VISIBILITY_S = 150
# A web process gives up on a silent broker after a second; the sweep rings later. A worker
# waits in BRPOP for a second at a time and needs more than that.
PRODUCER_TIMEOUT_S, CONSUMER_TIMEOUT_S = 1.0, 5.0


def make_celery(broker_url: str, *, timeout_s: float = PRODUCER_TIMEOUT_S) -> Celery:
    """Late acknowledgement, no results, no prefetching, and no wait for the broker over ``timeout_s``."""
    # By its name, because Celery reads a transport from the URL alone.
    TRANSPORT_ALIASES["redis"] = f"{transport.__name__}:Transport"
    # What Celery says in its log; the transport makes connections from the URL itself, password and all.
    shown = f"redis://{read_redis_url(broker_url).host_and_port}"
    app = Celery("scoreboard", broker=shown)
    app.conf.update(
        # Both, or Celery would take CELERY_BROKER_URL from the environment by itself, and read it in its own way.
        broker_read_url=shown,
        broker_write_url=shown,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_soft_time_limit=_SOFT_LIMIT_S,
        task_time_limit=_HARD_LIMIT_S,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=QUEUE,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_S,
            "socket_timeout": timeout_s,
            ADDRESS_OPTION: broker_url,
        },
        # Workers take no remote control through the broker: that needs channels, and could stop them.
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        # A broker that is away for an hour is still the one to wait for.
        broker_connection_max_retries=None,
        broker_pool_limit=4,
        task_publish_retry=False,
        enable_utc=True,
        timezone="UTC",
    )
    return app


def queue_length(celery: Celery) -> int:
    """Messages waiting in the broker. Raises the errors of the broker's client."""
    with celery.connection_for_write() as connection:
        channel: Any = connection.default_channel
        return int(channel.client.llen(QUEUE))


def probe_broker(celery: Celery) -> int:
    """The same, once the broker has taken a write: one that only answers would take no doorbell."""
    with celery.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.client.set(_PROBE, b"1", ex=PROBE_S)
        return int(channel.client.llen(QUEUE))


def request_rebuild(celery: Celery) -> None:
    """Ask a worker to rebuild the board. Raises ServiceUnavailable when the broker does not answer."""
    try:
        celery.send_task(REBUILD)
    except (OperationalError, *UNAVAILABLE) as error:
        raise ServiceUnavailable(2) from error


class Ringer:
    """Sends the doorbell's message for a batch of actions. Both methods raise the errors of the broker's client."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def __call__(self, action_ids: Sequence[UUID]) -> None:
        with self._producer() as producer:
            self._celery.send_task(
                SETTLE,
                args=[[str(each) for each in action_ids]],
                producer=producer,
                # Shown by monitoring tools only; made of the ids it would cost as much as the message.
                argsrepr=f"({len(action_ids)} actions)",
            )

    def count_waiting(self) -> int:
        """Messages that no worker has taken yet, of every kind."""
        with self._producer() as producer:
            channel: Any = producer.channel
            return int(channel.client.llen(QUEUE))

    def _producer(self) -> Any:
        return self._celery.producer_pool.acquire(block=True, timeout=1)
