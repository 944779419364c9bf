"""Where greenlets wait for a coalesced answer: half the price of gevent's locks."""

from __future__ import annotations

from gevent.hub import Waiter


class GreenletParking(Waiter):  # type: ignore[type-arg]
    """For the greenlets of one thread; a thread's ``coalesce.Parking`` would hold up all of them."""

    def wait(self) -> None:
        """Let others run until the wake. Raises what is thrown into the greenlet meanwhile."""
        self.get()

    def wake(self) -> None:
        """In the next turn of the event loop."""
        self.hub.loop.run_callback(self.switch, None)
