"""Readers slow, frozen, killed or ten thousand at once: no other reader notices, and nothing is left of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import urlsplit

import httpx

from scoreboard.live.connection import make_client
from scoreboard.live.stream.events import EventLog, for_everyone
from scoreboard.local.process import family
from scoreboard.web.server.socket_outlet import STALLED_S
from scoreboard.wire.events import Event
from tests.faults.attempts import Json, Log
from tests.faults.conftest import StartTrial
from tests.faults.crowd import Crowd
from tests.faults.driver import Driver
from tests.faults.instances import further_instances
from tests.faults.scale import Scale
from tests.faults.stream_crowd import Report, StreamCrowd
from tests.functional.client import Api, Player, board, completion, eventually, metric, open_stream, register
from tests.functional.sse import SseClient, SseEvent
from tests.service import Service

STREAMS = "scoreboard_streams"
POINTS = 4
# What a round may bring, and how long it has to take.
ROUND, ROUND_S = 100, 2.1
# From a point's acknowledgement to the board that shows it: half a second of doorbell and coalescing, and busy cores.
SHOWN_WITHIN_S = 3.0
# A message of everybody's; so many are more than what the kernel holds for one reader.
NOTICE = "x" * 4_000
NOTICES = 60
# Of each reader that does not read the process may hold its backlog of notices, joined once, and no more.
GROWN_EACH = NOTICES * len(NOTICE) + 20_000
GROWN_BESIDE = 20_000_000
GONE_WITHIN_S = 30.0
# From the moment the web answers again until the last of the crowd has its board.
BACK_WITHIN_S = 60.0
# What a request may take while a crowd comes in at the same door: thousands of connections are in the queue before it.
ANSWERED_WITHIN_S = 20.0


def streams(service: Service) -> int:
    return int(metric(service.url, STREAMS))


def rss(pid: int) -> int:
    return sum(each.memory_info().rss for each in family(pid))


@contextmanager
def reading_bytewise(service: Service) -> Iterator[None]:
    """A reader that takes one byte in a tenth of a second, from the smallest buffer there is."""
    where, is_over = urlsplit(service.url), threading.Event()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect((where.hostname, where.port))
        connection.sendall(b"GET /v1/leaderboard/stream HTTP/1.1\r\nHost: test\r\n\r\n")

        def read() -> None:
            while not is_over.wait(0.1) and connection.recv(1):
                pass

        thread = threading.Thread(target=read, name="bytewise")
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@dataclass
class Leader:
    """A player at the top of the board, so that every point of theirs is a new board for all who watch."""

    player: Player
    log: Log
    score: int = 0

    def climb(self) -> None:
        """Pass everybody whom other scenarios have left on this board."""
        (best,) = board(Api(self.player.url), limit=1)
        rounds = [self.player.request_action("FINISH_ROUND") for _ in range(1 + best["score"] // ROUND)]
        assert len(rounds) + POINTS <= 8, "more within ten seconds are a burst"
        begun_at = time.monotonic()
        eventually(lambda: time.monotonic() - begun_at, lambda played_s: played_s > ROUND_S)
        for action in rounds:
            self._complete(completion(action, int(ROUND_S * 1000), points=ROUND), action["actionId"])
            self.score += ROUND
        eventually(lambda: self.player.score()["score"], lambda score: score == self.score)

    def score_in_sight(self, watchers: Sequence[SseClient]) -> float:
        """Score a point; seconds from its acknowledgement until the last of the watchers has a board with it."""
        action = self.player.request_action()
        self._complete(completion(action), action["actionId"])
        acknowledged_at = time.monotonic()
        self.score += 1

        def shows_it(event: SseEvent) -> bool:
            row = event.json()["leaderboard"][0] if event.event == "leaderboard:update" else {}
            return (row.get("userId"), row.get("score")) == (self.player.id, self.score)

        return max(watcher.wait_for(shows_it, SHOWN_WITHIN_S * 3).at for watcher in watchers) - acknowledged_at

    def _complete(self, body: Json, action_id: str) -> None:
        attempt = self.log.attempt(action_id, self.player.id, self.player.access_token)
        self.log.sent(attempt)
        answer = self.player.send(body, wait_s=None)
        self.log.answered(attempt, answer.status_code, answer.json())


def test_readers_that_do_not_read(fault_service: Service, start_trial: StartTrial, scale: Scale) -> None:
    count, log = scale.pick(40, 500), Log()
    with (
        start_trial(
            "slow, frozen and vanishing readers",
            f"{count} readers frozen in mid-stream, as many killed, one that reads byte by byte",
            "the others see each point within three seconds; memory is bounded; who wakes up gets the newest board",
        ) as trial,
        further_instances(fault_service, {"WEB_CONCURRENCY": "1"}) as (instance,),
        ExitStack() as watching,
    ):
        service = replace(fault_service, url=instance.url)
        port, pid = urlsplit(instance.url).port or 0, instance.supervisor.pids()["web"]
        event_log = EventLog(make_client(service.redis_url))
        before = streams(service)
        leader = Leader(register(service.url), log)
        leader.climb()
        watchers = [watching.enter_context(open_stream(service.url)) for _ in range(3)]
        for watcher in watchers:
            watcher.wait_for("leaderboard:initial")
        frozen = watching.enter_context(StreamCrowd())
        watching.enter_context(reading_bytewise(service))
        with StreamCrowd() as killed:
            for crowd in (frozen, killed):
                crowd.open(port, count)
                crowd.wait_until(lambda report: report.open == count, GONE_WITHIN_S)
            eventually(lambda: streams(service), lambda found: found == before + 2 * count + 4, GONE_WITHIN_S)
            held = rss(pid)
            killed.process.kill()
            frozen.process.suspend()
        try:
            for number in range(NOTICES):
                event_log.publish([for_everyone(Event("notice", {"n": number, "text": NOTICE}))])
            delays = [leader.score_in_sight(watchers) for _ in range(POINTS)]
            assert max(delays) < SHOWN_WITHIN_S, delays
            assert rss(pid) - held < count * GROWN_EACH + GROWN_BESIDE
            eventually(lambda: streams(service), lambda found: found <= before + count + 4, GONE_WITHIN_S)
            if scale.is_long:
                eventually(lambda: streams(service), lambda found: found <= before + 4, STALLED_S + GONE_WITHIN_S)
        finally:
            frozen.process.resume()
        trial.hit()
        newest = int(watchers[0].named("leaderboard:update")[-1].json()["version"])
        # They wake up with the newest board, and have missed the ones in between; who was given up comes back.
        report = frozen.wait_until(lambda report: report.open == count and report.oldest_version >= newest, 60)
        assert report.backwards == 0
        trial.count(service, log)
        watching.close()
        eventually(lambda: streams(service), lambda found: found == before, GONE_WITHIN_S)


def test_a_crowd_that_comes_back_at_once(
    fault_service: Service, driver: Driver, start_trial: StartTrial, scale: Scale
) -> None:
    count = scale.pick(300, 10_000)
    with (
        start_trial(
            f"{count:,} readers reconnecting at once",
            "all web processes killed under open streams; every reader knocks ten times a second until it is in",
            "a board for each within a minute of the web's return, no status but 200, 429 and 503 with Retry-After; "
            "other requests are answered within twenty seconds",
        ) as trial,
        StreamCrowd() as readers,
        Crowd(fault_service, players=60, clients=4, rate=scale.pick(20, 10)) as crowd,
    ):
        before = streams(fault_service)
        readers.open(urlsplit(fault_service.url).port or 0, count)
        readers.wait_until(lambda report: report.open == count, BACK_WITHIN_S)
        for _ in range(scale.pick(1, 3)):
            crowd.resume()
            crowd.wait_for_answers(10)
            lost = readers.report().ended + count
            driver.kill_family("web")
            trial.hit()
            up_at = up_again(fault_service)
            readers.wait_until(partial(have_ended, lost), BACK_WITHIN_S)
            report = readers.wait_until(lambda report: report.open == count, BACK_WITHIN_S)
            assert time.monotonic() - up_at < BACK_WITHIN_S
            assert set(report.statuses) <= {0, 200, 429, 503}
            assert report.impolite == 0
            crowd.wait_for_answers(10)
            trial.count(fault_service, crowd)
        assert streams(fault_service) == before + count
    eventually(lambda: streams(fault_service), lambda found: found == before, GONE_WITHIN_S)


def have_ended(count: int, report: Report) -> bool:
    """Whether so many streams have ended since the crowd began."""
    return report.ended >= count


def up_again(service: Service) -> float:
    """The moment (monotonic) of the first answer, and that a next one comes soon, whoever else is at the door."""

    def is_up() -> bool:
        try:
            return httpx.get(f"{service.url}/health", timeout=ANSWERED_WITHIN_S).status_code == 200
        except httpx.HTTPError:
            return False

    eventually(is_up, bool, 45)
    up_at = time.monotonic()
    for path in ("/health", "/v1/leaderboard/top10", "/v1/actions/types"):
        answer = httpx.get(service.url + path, timeout=ANSWERED_WITHIN_S)
        assert answer.status_code == 200 or (answer.status_code == 503 and answer.headers["Retry-After"])
    return up_at
