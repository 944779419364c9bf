"""Kombu's transport over Redis, but that a worker outlives a Redis that falls silent for a while."""

from __future__ import annotations

from kombu.transport import redis, virtual


class _QoS(redis.QoS):
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


class _Channel(redis.Channel):
    QoS = _QoS


class Transport(redis.Transport):
    Channel = _Channel
