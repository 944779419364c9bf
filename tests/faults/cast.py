"""Players for the crowds of a service, made by the hundred with the command that operators use."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.service import Service

# Made at once, for two or three crowds: starting the command takes longer than making them.
_BATCH = 400
_numbers = count(1)


@dataclass(frozen=True)
class Account:
    """A player with a token."""

    id: str
    token: str


@dataclass
class Cast:
    """The players of one service that no test has taken yet."""

    service: Service
    free: list[Account] = field(default_factory=list)

    def take(self, wanted: int) -> list[Account]:
        """Players of the caller's own: all entries in their ledgers are the caller's doing."""
        while len(self.free) < wanted:
            self.free += seeded(self.service, max(_BATCH, wanted))
        taken, self.free = self.free[:wanted], self.free[wanted:]
        return taken


def seeded(service: Service, wanted: int) -> list[Account]:
    """New players by `scoreboard seed`."""
    with TemporaryDirectory() as folder:
        tokens = Path(folder, "tokens")
        done = service.run(
            "seed", "--users", str(wanted), "--tokens", str(tokens), "--prefix", f"crowd{next(_numbers)}"
        )
        assert done.returncode == 0, done.stderr
        return [Account(*line.split("\t")) for line in tokens.read_text(encoding="utf-8").splitlines()]


# By database, which no two services share.
_casts: dict[str, Cast] = {}


def cast_of(service: Service) -> Cast:
    return _casts.setdefault(service.direct_env["DATABASE_URL"], Cast(service))
