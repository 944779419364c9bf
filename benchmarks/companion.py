"""A process beside the driver, with one loop of its own and a pipe between the two."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psutil

# A loop looks at its pipe at least every second; what does not end within this is killed.
_STOP_WAIT_S = 20.0


class CompanionError(Exception):
    """The process died, does not answer, or says what went wrong."""


class Companion:
    """A context manager over a freshly spawned process that runs ``target(pipe, *arguments)``.

    A text as an answer means that something went wrong.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._name = name
        self._pipe, theirs = spawning.Pipe()
        self._process = spawning.Process(target=target, args=(theirs, *arguments), name=name, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(_STOP_WAIT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_STOP_WAIT_S)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def send(self, message: object) -> None:
        """Raises CompanionError."""
        try:
            self._pipe.send(message)
        except BrokenPipeError:
            raise CompanionError(f"the {self._name} died") from None

    def has_answer(self, timeout_s: float) -> bool:
        """Wait so long for an answer to be there."""
        return self._pipe.poll(max(0.0, timeout_s))

    def receive(self, timeout_s: float) -> Any:
        """The next answer. Raises CompanionError."""
        try:
            if not self._pipe.poll(timeout_s):
                raise CompanionError(f"the {self._name} does not answer")
            answer = self._pipe.recv()
        except EOFError:
            raise CompanionError(f"the {self._name} died") from None
        if isinstance(answer, str):
            raise CompanionError(f"the {self._name}: {answer}")
        return answer
