"""A worker's transport of messages, on a Redis that falls silent."""

from __future__ import annotations

import pytest
from kombu import Consumer, Message, Queue

from scoreboard.live.connection import UNAVAILABLE
from scoreboard.live.queue.app import QUEUE, make_celery
from scoreboard.local import LocalServers
from tests.service import open_folder

WAIT_S = 30.0


def test_a_message_that_could_not_be_acknowledged_keeps_no_other_away() -> None:
    taken: list[Message] = []
    with open_folder() as folder, LocalServers(folder, with_postgres=False) as servers:
        celery = make_celery(servers.redis_url)
        with celery.connection_for_read() as connection:
            producer, queue = connection.Producer(), Queue(QUEUE)
            for number in range(2):
                producer.publish(number, routing_key=QUEUE, declare=[queue])
            consumer = Consumer(connection.channel(), [queue], on_message=taken.append)
            consumer.qos(prefetch_count=1)
            with consumer:
                connection.drain_events(timeout=WAIT_S)
                servers.valkey.freeze()
                try:
                    with pytest.raises(UNAVAILABLE):
                        taken[0].ack()
                finally:
                    servers.valkey.thaw()
                connection.drain_events(timeout=WAIT_S)
    assert [message.payload for message in taken] == [0, 1]
