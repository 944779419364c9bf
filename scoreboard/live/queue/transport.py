"""Kombu's transport over Redis, whose consumer waits and goes on when Redis falls silent, refuses or fails over.

Three things differ from kombu 5.7. Connections are made from the URL as redis-py reads it (``redis_url.py``). A message
that could not be acknowledged keeps no other away. And an error that Redis answers with ends no consumer.
"""

from __future__ import annotations

import time
from queue import Empty
from typing import Any

import structlog
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from scoreboard.live.connection import REFUSED, connection_options, is_elsewhere, reason_of

log = structlog.get_logger(__name__)

# The name of the transport's option that holds the broker's URL; Celery itself sees one without a password.
ADDRESS_OPTION = "scoreboard_url"
# From a refusal to the next question: soon enough for a failover, seldom enough for one that lasts for hours.
_REFUSED_PAUSE_S = 1.0
# Connections of one channel beside the one that waits for messages: one command at a time, and some to spare.
_MAX_CONNECTIONS = 10


class _QoS(kombu_redis.QoS):
    def append(self, message: Any, delivery_tag: str) -> None:
        """Note a message as being at work; one that Redis won't note is worked on all the same.

        It has left the queue already. If its worker is killed, the rows in Postgres still hold the work.
        """
        try:
            super().append(message, delivery_tag)
        except REFUSED as error:
            log.warning("message_not_noted", reason=reason_of(error))
            virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Done with a message, whether or not Redis could be told so.

        Kombu 5.7 keeps a message that it could not acknowledge among those at work. With one at
        a time a worker then takes no other, asks Redis for nothing, and so never notices that it is
        back: it stood still for good after 30 s. Unacknowledged, the message comes once more.
        """
        try:
            self._remove_from_indices(delivery_tag).execute()  # type: ignore[attr-defined]  # not in the stubs
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def restore_visible(self, *arguments: Any, **options: Any) -> None:
        """Hand out again the messages at work for too long; if Redis refuses, a later round does it."""
        try:
            super().restore_visible(*arguments, **options)
        except REFUSED as error:
            log.info("messages_not_restored", reason=reason_of(error))

    def restore_unacked(self, *arguments: Any, **options: Any) -> None:
        """Give back the messages at work, at the end; those that Redis refuses come back when their time is over."""
        try:
            super().restore_unacked(*arguments, **options)
        except REFUSED as error:
            log.info("messages_not_restored", reason=reason_of(error))


class _Channel(kombu_redis.Channel):
    QoS = _QoS
    # In the terms of time.monotonic.
    _asks_at = 0.0
    _is_refused = False

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        transport_options: Any = self.connection.client.transport_options  # type: ignore[union-attr]  # it has a client
        options = {
            "max_connections": _MAX_CONNECTIONS,
            **connection_options(
                transport_options[ADDRESS_OPTION],
                timeout_s=transport_options["socket_timeout"],
                # Waits for messages a second at a time.
                is_blocking=True,
            ),
        }
        # Kombu names its own channels by it.
        options.setdefault("db", 0)
        if asynchronous:
            options["connection_class"] = _polled(options["connection_class"], self)
        return options

    def _brpop_start(self, timeout: float | None = None) -> None:
        # Called with each turn of the loop, which comes once a second at least.
        if time.monotonic() >= self._asks_at:
            super()._brpop_start(timeout)  # type: ignore[misc]  # not in the stubs

    def _brpop_read(self, **options: Any) -> Any:
        connection = self.client.connection
        try:
            found = super()._brpop_read(**options)  # type: ignore[misc]  # not in the stubs
        except Empty:
            self._note_answer()
            raise
        except REFUSED as error:
            self._note_refusal(error)
            if is_elsewhere(error):
                # The next question goes to the server that the name leads to by then.
                connection.disconnect()
            raise Empty from error
        self._note_answer()
        return found

    def _queue_bind(self, *arguments: Any) -> None:
        try:
            super()._queue_bind(*arguments)  # type: ignore[misc]  # not in the stubs
        except REFUSED as error:
            # Each publisher binds the queue as well, and a consumer needs no binding.
            log.warning("queue_not_bound", reason=reason_of(error))

    def _note_refusal(self, error: Exception) -> None:
        self._asks_at = time.monotonic() + _REFUSED_PAUSE_S
        if not self._is_refused:
            self._is_refused = True
            log.warning("broker_refuses", reason=reason_of(error), hint="the worker waits and goes on")

    def _note_answer(self) -> None:
        if self._is_refused:
            self._is_refused = False
            log.info("broker_answers_again")


def _polled(connection_class: type[Any], channel: Any) -> type[Any]:
    """A connection that leaves the channel's poller when it is cut."""

    class Polled(connection_class):  # type: ignore[misc]  # a class given at run time
        def disconnect(self, *arguments: Any, **options: Any) -> None:
            super().disconnect(*arguments, **options)
            if channel._registered:
                channel._on_connection_disconnect(self)

    return Polled


class Transport(kombu_redis.Transport):
    Channel = _Channel
    # A refusal by Redis ends the connection, not the worker: Celery then connects again, with a pause.
    connection_errors = (*kombu_redis.Transport.connection_errors, *REFUSED)
