"""One message of the doorbell speaks for many requests: its span belongs to the first and links to the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind
from wrapt import wrap_function_wrapper

# As many as may wait in the doorbell's own queue; past that the oldest are forgotten.
_WAITING_MAX = 10_000


class WaitingTraces:
    """Which request rang for which action, until the message is sent."""

    def __init__(self) -> None:
        self._contexts: dict[UUID, SpanContext] = {}
        self._lock = threading.Lock()

    def remember(self, action_id: UUID) -> None:
        context = trace.get_current_span().get_span_context()
        if not context.trace_flags.sampled:
            return
        with self._lock:
            self._contexts[action_id] = context
            if len(self._contexts) > _WAITING_MAX:
                del self._contexts[next(iter(self._contexts))]

    def take(self, action_ids: Sequence[UUID]) -> list[SpanContext]:
        with self._lock:
            return [found for action_id in action_ids if (found := self._contexts.pop(action_id, None))]


def trace_doorbell() -> None:
    """Instrument the doorbell and what sends its messages, in this process."""
    waiting = WaitingTraces()
    tracer = trace.get_tracer(__name__)

    def ring(wrapped: Callable[..., Any], _self: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        waiting.remember(kwargs["action_id"] if kwargs else args[0])
        return wrapped(*args, **kwargs)

    def send(wrapped: Callable[..., Any], _self: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        action_ids = kwargs["action_ids"] if kwargs else args[0]
        contexts = waiting.take(action_ids)
        if not contexts:
            return wrapped(*args, **kwargs)
        first, *others = contexts
        with tracer.start_as_current_span(
            "ring scoreboard.settle",
            context=trace.set_span_in_context(NonRecordingSpan(first)),
            kind=SpanKind.PRODUCER,
            links=[Link(context) for context in others],
            attributes={"messaging.system": "redis", "messaging.batch.message_count": len(action_ids)},
        ):
            return wrapped(*args, **kwargs)

    wrap_function_wrapper("scoreboard.live.queue.doorbell", "Doorbell.ring", ring)
    wrap_function_wrapper("scoreboard.live.queue.app", "Ringer.__call__", send)
