"""Kills, freezes and restarts the processes of a service as its platform would."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import psutil

from scoreboard.local.process import family, send, wait_until_gone
from tests.functional.client import eventually
from tests.service import Service

# A process that was started a moment ago, on cores that others keep busy.
_START_S = 90.0
# SIGKILL leaves only the kernel's own work.
_GONE_S = 10.0
# Children of a killed parent notice it by themselves: gunicorn's within a second, Celery's at their next task.
_ORPHANS_S = 20.0
# How soon the platform sees that a process has ended.
_LOOK_S = 0.2
# A process that ends by itself again and again is broken, whatever was done to its children.
_REVIVALS_MAX = 30


class Driver:
    """A context manager over a service's processes; at its end nothing that it orphaned or froze is left so.

    Also the platform: a process that ends by itself is started again. Celery's does when
    its child is killed in its first milliseconds ("Could not start worker processes").
    """

    def __init__(self, service: Service) -> None:
        self.revived = 0
        self._service = service
        self._orphans: list[psutil.Process] = []
        # Held by whoever kills and starts, so that the platform doesn't start it as well.
        self._lock = threading.RLock()
        self._is_over = threading.Event()
        self._platform = threading.Thread(target=self._revive, name="platform")

    def __enter__(self) -> Self:
        self._platform.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._platform.join()
        left = wait_until_gone(self._orphans, _ORPHANS_S)
        send(left, signal.SIGKILL)
        wait_until_gone(left, _GONE_S)
        if error is None:
            assert self.revived < _REVIVALS_MAX, f"processes ended by themselves {self.revived} times"

    def main(self, name: str) -> psutil.Process:
        """The process that a line of the Procfile started: gunicorn's master, Celery's main process, beat."""
        return psutil.Process(self._service.supervisor_of(name).pids()[name])

    def children(self, name: str) -> list[psutil.Process]:
        """gunicorn's workers, Celery's pool."""
        with self._lock:
            return self._family(name)[1:]

    def kill_main(self, name: str) -> None:
        """SIGKILL the main process alone and start it again at once, as the platform does; its children are orphans."""
        with self._lock:
            members = self._family(name)
            self._orphans += members[1:]
            self._kill(members[:1])
            self._service.start(name)

    def kill_family(self, name: str) -> None:
        """SIGKILL the main process and all its children at once, as a machine that dies, and start it again."""
        with self.stopped(name):
            pass

    def kill_child(self, name: str) -> None:
        """SIGKILL one child, as soon as there is one; its parent replaces it."""
        self._kill([random.choice(self._some_children(name))])

    def kill_children(self, name: str) -> None:
        """SIGKILL all children; their parent replaces them."""
        self._kill(self._some_children(name))

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """The main process and its children stand still, and go on at the end."""
        members = self._family(name)
        send(members, signal.SIGSTOP)
        try:
            yield
        finally:
            send(members, signal.SIGCONT)

    @contextmanager
    def frozen_child(self, name: str) -> Iterator[psutil.Process]:
        """One child stands still, and goes on at the end if it is still there."""
        child = random.choice(self._some_children(name))
        send([child], signal.SIGSTOP)
        try:
            yield child
        finally:
            send([child], signal.SIGCONT)

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Killed with all its children, and started again only at the end."""
        with self._lock:
            self._kill(self._family(name))
            self._service.supervisor_of(name).forget_ended(name)
        try:
            yield
        finally:
            with self._lock:
                self._service.start(name)

    def _family(self, name: str) -> list[psutil.Process]:
        """The main process and all below it; nothing when it has just ended by itself."""
        return family(self._service.supervisor_of(name).pids()[name])

    def _some_children(self, name: str) -> list[psutil.Process]:
        return eventually(lambda: self.children(name), bool, _START_S)

    def _kill(self, processes: list[psutil.Process]) -> None:
        send(processes, signal.SIGKILL)
        left = wait_until_gone(processes, _GONE_S)
        assert not left, f"not gone after SIGKILL: {left}"

    def _revive(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            with self._lock:
                ended = self._service.supervisor.ended() or self._service.web.ended()
                if ended is not None and self.revived < _REVIVALS_MAX:
                    self.revived += 1
                    self._service.start(ended.name)
