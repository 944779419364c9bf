"""Password hashing with Argon2id, kept off the event loop and bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from scoreboard.domain.errors import ServiceUnavailable

# OWASP's Password Storage Cheat Sheet: Argon2id with 19 MiB, 2 passes, 1 lane; about 21 ms on a small server.
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1
# Logins that may wait for a hash: at two threads and 21 ms each the last of them waits
# under a second. More means an attack, and they are told to come back.
_WAITING_MAX = 64


class Runner(Protocol):
    """Runs a function elsewhere and waits for its result without blocking other requests."""

    def __call__(self, function: Callable[..., object], *arguments: str) -> object: ...


def run_here(function: Callable[..., object], *arguments: str) -> object:
    """The runner where there is no event loop to protect: threads, tests, commands."""
    return function(*arguments)


class Passwords:
    """Hash and verify. Raises ServiceUnavailable when too many wait."""

    def __init__(self, run: Runner = run_here) -> None:
        self._run = run
        self._hasher = PasswordHasher(_PASSES, _MEMORY_KIB, _LANES, type=Type.ID)
        self._places = threading.BoundedSemaphore(_WAITING_MAX)
        # Checked for names that don't exist, so that the answer takes as long as for those that do.
        self._dummy_hash = self._hasher.hash("no account has this password")

    def hash(self, password: str) -> str:
        return str(self._bounded(self._hasher.hash, password))

    def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; None stands for an unknown account and costs the same time."""
        is_right = bool(self._bounded(self._verify, password_hash or self._dummy_hash, password))
        return is_right and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def _bounded(self, function: Callable[..., object], *arguments: str) -> object:
        if not self._places.acquire(blocking=False):
            raise ServiceUnavailable(1)
        try:
            return self._run(function, *arguments)
        finally:
            self._places.release()
