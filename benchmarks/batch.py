"""``python -m benchmarks.batch``: settled actions a second when a game server sends batches, and what one costs.

One web and one worker process on a PostgreSQL and a Valkey of their own. A few connections send full batches one after
the other, of players in turn, and wait for no outcome; sending pauses while a backlog waits, so the worker's pace is
measured.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import httpx
import orjson

from benchmarks.flow_servers import FlowServer, running_ours
from benchmarks.settled import Outcomes
from scoreboard.scheduling import calm_scheduling
from scoreboard.services.actions.batch import BATCH_MAX

PATH = "/v1/system/actions"
ONE_OF_EACH = {"WEB_CONCURRENCY": "1", "WORKER_CONCURRENCY": "1", "RATE_LIMIT_BATCH": "1000000/minute"}
_PASSWORD = "a long enough pass phrase"  # noqa: S105 - of an account that lives as long as the run
# Senders: one batch is written while the next is read.
_CONNECTIONS = 4
# Accepted and unsettled; above that sending pauses: some half a second's work.
_BACKLOG_MAX = 3_000
_LOOK_S = 0.02
_WAIT_S = 120.0
_WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class BatchRun:
    """What was sent and settled; CPU in microseconds per action, by kind of process. ``words`` are those of verify."""

    is_right: bool
    words: list[str]
    actions: int
    applied: int
    seconds: float
    settled_per_s: float
    cpu_us: dict[str, float]

    @property
    def is_whole(self) -> bool:
        """Whether all that was accepted was applied, and the books are right."""
        return self.is_right and self.applied == self.actions

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "isWhole": self.is_whole}


class Sender:
    """A game server: sends batches of its players in turn, each as of a second ago."""

    def __init__(self, url: str, token: str, players: Sequence[str]) -> None:
        # Nothing is encrypted, and making what checks certificates takes longer than a batch.
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            verify=False,  # noqa: S501
        )
        self._players, self._place = players, random.randrange(len(players))
        self._number, self._name = 0, f"{random.getrandbits(64):x}"
        self.accepted = 0

    def send(self) -> None:
        """One full batch, all of which has to be accepted."""
        answer = self._http.post(PATH, content=orjson.dumps({"actions": list(self._rows())}), headers=_JSON)
        answer.raise_for_status()
        refused = [item for item in answer.json()["data"]["items"] if "error" in item]
        if refused:
            raise RuntimeError(f"{len(refused)} rows were refused, as {refused[0]}")
        self.accepted += BATCH_MAX

    def _rows(self) -> Iterator[dict[str, object]]:
        now = datetime.now(UTC)
        for _ in range(BATCH_MAX):
            self._number, self._place = self._number + 1, (self._place + 1) % len(self._players)
            yield {
                "externalId": f"{self._name}-{self._number}",
                "userId": self._players[self._place],
                "actionType": "COMPLETE_LEVEL",
                "metadata": {"difficulty": "easy"},
                "startedAt": (now - timedelta(seconds=6)).isoformat(),
                "completedAt": (now - timedelta(seconds=1)).isoformat(),
            }


#: So many that none acts more than eight times in ten seconds (rule BURST) up to 16,000 actions a second.
PLAYERS = 20_000
_JSON = {"Content-Type": "application/json"}


def run(*, seconds: float, players: int) -> BatchRun:
    """Measure on servers of its own."""
    with running_ours(players, ONE_OF_EACH) as server:
        url = f"http://127.0.0.1:{server.port}"
        token, ids = _sign_in(server, url), [line.split()[0] for line in server.tokens.read_text().splitlines()]
        outcomes = Outcomes(server.database_url)
        try:
            _send_for(url, token, ids, outcomes, min(_WARM_UP_S, seconds))
            return _measured(server, url, token, ids, outcomes, seconds)
        finally:
            outcomes.close()


def _sign_in(server: FlowServer, url: str) -> str:
    made = server.command(
        "create-admin", "--username", "game server", "--email", "game@example.org", "--password", _PASSWORD,
        "--role", "system",
    )  # fmt: skip
    if made.returncode:
        raise RuntimeError(made.stderr)
    answer = httpx.post(f"{url}/v1/auth/login", json={"username": "game server", "password": _PASSWORD})
    return str(answer.raise_for_status().json()["data"]["accessToken"])


def _measured(
    server: FlowServer, url: str, token: str, ids: Sequence[str], outcomes: Outcomes, seconds: float
) -> BatchRun:
    groups = server.groups()
    before = {name: group.cpu_s() for name, group in groups.items()}
    applied_before, started_at = outcomes.states(0).get("applied", 0), time.monotonic()
    accepted = _send_for(url, token, ids, outcomes, seconds)
    took_s = time.monotonic() - started_at
    cpu_us: dict[str, float] = {
        name: round((group.cpu_s() - before[name]) / accepted * 1e6) for name, group in groups.items()
    }
    applied = outcomes.states(0).get("applied", 0) - applied_before
    checked = server.command("verify")
    return BatchRun(
        checked.returncode == 0,
        checked.stdout.splitlines(),
        accepted,
        applied,
        round(took_s, 2),
        round(accepted / took_s),
        cpu_us,
    )


def _send_for(url: str, token: str, ids: Sequence[str], outcomes: Outcomes, seconds: float) -> int:
    """Send for so long, then wait until all is settled; how many were accepted."""
    senders = [Sender(url, token, ids) for _ in range(_CONNECTIONS)]
    until = time.monotonic() + seconds
    may_send = threading.Event()
    may_send.set()
    failures: list[BaseException] = []

    def work(sender: Sender) -> None:
        try:
            # Each sends one at least, however slow the machine is.
            sender.send()
            while time.monotonic() < until and not failures:
                if may_send.wait(_LOOK_S):
                    sender.send()
        except Exception as error:  # told by the one who started it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    _pace(threads, may_send, outcomes)
    if failures:
        raise failures[0]
    if not outcomes.wait_until_settled(_WAIT_S, lambda _: None):
        raise RuntimeError("not all was settled in time")
    return sum(sender.accepted for sender in senders)


def _pace(threads: Sequence[threading.Thread], may_send: threading.Event, outcomes: Outcomes) -> None:
    """Let them send while little waits to be settled; returns when all have ended."""
    while any(thread.is_alive() for thread in threads):
        if outcomes.backlog() > _BACKLOG_MAX:
            may_send.clear()
        else:
            may_send.set()
        time.sleep(_LOOK_S)


def table(found: BatchRun) -> str:
    cost = ", ".join(f"{name} {microseconds:,}" for name, microseconds in found.cpu_us.items())
    return (
        f"batches, one web and one worker process: {found.settled_per_s:,} settled actions a second "
        f"({found.actions:,} in {found.seconds} s)\n  µs of CPU per action: {cost}"
    )


@click.command()
@click.option("--seconds", type=click.FloatRange(1, 600), default=20, show_default=True)
@click.option("--players", type=click.IntRange(100, 1_000_000), default=PLAYERS, show_default=True)
def main(seconds: float, players: int) -> None:
    """Measure, and say what came out."""
    calm_scheduling()
    click.echo(table(run(seconds=seconds, players=players)))


if __name__ == "__main__":
    main()
