"""Which PostgreSQL and Redis the tests run on: those in the wheels, or a distribution's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scoreboard.local import LocalServers
from scoreboard.local.software import Software


@dataclass(frozen=True)
class Release:
    """A server program and the first number of its version."""

    name: str
    major: int

    @classmethod
    def parse(cls, text: str) -> Release:
        """From ``redis-7``, ``valkey-8``, ``postgresql-15``: how Debian names its packages, more or less."""
        name, _, major = text.partition("-")
        return cls(name, int(major))


@dataclass(frozen=True)
class Releases:
    """The two servers that a run is for."""

    postgres: Release
    redis: Release

    @property
    def software(self) -> Software:
        """Their programs where Debian's packages put them; a missing one fails the first test that needs it."""
        postgres = Path(f"/usr/lib/postgresql/{self.postgres.major}/bin")
        redis = Path(f"/usr/bin/{self.redis.name}-server")
        for program in (postgres / "initdb", postgres / "postgres", redis):
            if not program.is_file():
                raise FileNotFoundError(f"TEST_SERVERS={os.environ['TEST_SERVERS']}, but there is no {program}")
        return Software(postgres, redis, f"{self.postgres} {self.redis}")


def asked_releases() -> Releases | None:
    """What ``TEST_SERVERS="postgresql-15 redis-7"`` asks for; None when it is not set: the wheels'."""
    text = os.environ.get("TEST_SERVERS")
    if not text:
        return None
    postgres, redis = text.split()
    return Releases(Release.parse(postgres), Release.parse(redis))


def servers_in(folder: Path, *, with_postgres: bool = True, with_valkey: bool = True) -> LocalServers:
    """Servers of the asked releases, with their data in the folder."""
    asked = asked_releases()
    return LocalServers(
        folder, with_postgres=with_postgres, with_valkey=with_valkey, software=asked.software if asked else None
    )
