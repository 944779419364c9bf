"""A class at one address, with the limits as they come: 300 watch, 60 play, and all are served.

The calls are those that the page at ``/`` makes. What counts per player goes at its own pace; what counts for the
address, which is what a crowd shares, comes as often in these seconds as it does in ten minutes. With ``--long``
they play for these ten minutes, as fast as a player may.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest

from scoreboard.local import LocalServers
from tests.functional.client import PASSWORD, Json, completion, registration
from tests.service import GENEROUS_LIMITS, Service, running_service

WATCHERS, PLAYERS = 300, 60
# Each page is loaded, loaded again, and loses its network once.
VISITS = 3
# What a page without streams asks for in half a minute, every five seconds.
POLLS = 6
# Rounds of one player, and the time that each takes at least: one completion a second, ten a minute, 100 an hour.
ROUNDS, ROUND_S = 4, 1.1
LONG_ROUNDS, LONG_ROUND_S = 98, 6.1
# Calls at a time: browsers of a class do not wait for each other, but two cores do.
AT_ONCE = 40
LIVE_WAIT_S = 60.0
# Registering, playing and polling take half a minute on two cores; the long form plays for ten.
pytestmark = pytest.mark.timeout(900)

Call = Callable[[], Awaitable[object]]


@pytest.fixture(scope="module")
def school(local_servers: LocalServers) -> Iterator[Service]:
    """A service with every limit as it comes; an empty setting is the default."""
    with running_service(local_servers, **dict.fromkeys(GENEROUS_LIMITS, "")) as service:
        yield service


@dataclass
class Watcher:
    """An open stream, read as it comes."""

    #: The data of the last event about the board, and how many of them were updates.
    board: str = ""
    updates: int = 0
    event: str = ""
    last_event_id: str = ""
    status: int = 0
    task: asyncio.Task[None] | None = None
    live: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, service: Service, query: str = "") -> None:
        target = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        resumed = f"Last-Event-ID: {self.last_event_id}\r\n" if self.last_event_id else ""
        head = f"GET /v1/leaderboard/stream{query} HTTP/1.1\r\nHost: {target.netloc}\r\n{resumed}\r\n"
        try:
            writer.write(head.encode())
            self.status = int((await reader.readline()).split()[1])
            async for line in reader:
                self._take(line.decode())
        finally:
            writer.close()

    def _take(self, line: str) -> None:
        if line.startswith("id:"):
            self.last_event_id = line[3:].strip()
        elif line.startswith("event:"):
            self.event = line[6:].strip()
            self.updates += self.event == "leaderboard:update"
        elif line.startswith("data:") and self.event.startswith("leaderboard:"):
            self.board = line[5:]
            self.live.set()

    def shows(self, leaderboard: list[Json]) -> bool:
        return bool(json.loads(self.board)["leaderboard"] == leaderboard)

    async def open(self, service: Service, query: str = "") -> None:
        self.live.clear()
        self.task = asyncio.create_task(self.run(service, query))
        try:
            await asyncio.wait_for(self.live.wait(), LIVE_WAIT_S)
        except TimeoutError:
            raise AssertionError(f"not live; the status is {self.status}") from None

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Student:
    """A player at the page, with the calls it makes for them."""

    http: httpx.AsyncClient
    account: Json
    tokens: Json = field(default_factory=dict)
    stream: Watcher = field(default_factory=Watcher)
    score: int = 0

    async def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
        bearer = {"Authorization": f"Bearer {self.tokens['accessToken']}"} if self.tokens else {}
        answer = await self.http.request(method, path, json=body, headers={**bearer, **headers})
        assert answer.status_code in (200, 201), answer.text
        data: Json = answer.json()["data"]
        return data

    async def arrive(self, service: Service) -> None:
        """The page loads, the player registers, and the stream opens as theirs."""
        await self.call("GET", "/v1/actions/types")
        self.tokens = await self.call("POST", "/v1/auth/register", self.account)
        await self.open_stream(service)

    async def open_stream(self, service: Service) -> None:
        ticket = (await self.call("POST", "/v1/stream/ticket"))["ticket"]
        await self.stream.open(service, f"?ticket={ticket}")
        await self.call("GET", "/v1/users/me/score")

    async def come_back(self, service: Service) -> None:
        """Another browser, signed in with the password; the access token runs out there, and is renewed."""
        await self.stream.close()
        login = {"username": self.account["username"], "password": PASSWORD}
        self.tokens = await self.call("POST", "/v1/auth/login", login)
        self.tokens = await self.call("POST", "/v1/auth/refresh", {"refreshToken": self.tokens["refreshToken"]})
        await self.open_stream(service)

    async def play(self, rounds: int, round_s: float) -> None:
        for _ in range(rounds):
            body = {"actionType": "SOLVE_PROBLEM", "metadata": {}}
            action = await self.call("POST", "/v1/actions/request", body)
            outcome = await self.call("POST", "/v1/actions/complete", completion(action), Prefer="wait=10")
            assert outcome["status"] == "applied", outcome
            mine = await self.call("GET", "/v1/users/me/score")
            self.score = outcome["newScore"]
            assert mine["score"] == self.score
            # From the answer on: the service counts what arrives, and that was before.
            await asyncio.sleep(round_s)


async def all_of(calls: Iterable[Call], at_once: int = AT_ONCE) -> None:
    """Make these calls, so many at a time; raises what the first failing one raises."""
    free = asyncio.Semaphore(at_once)

    async def one(call: Call) -> None:
        async with free:
            await call()

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))


@asynccontextmanager
async def browser_calls(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=2 * PLAYERS, max_keepalive_connections=2 * PLAYERS)
    async with httpx.AsyncClient(base_url=service.url, timeout=60, limits=limits) as http:
        yield http


def test_a_class_that_plays_and_watches_is_served(school: Service, pytestconfig: pytest.Config) -> None:
    is_long = pytestconfig.getoption("--long")
    asyncio.run(lesson(school, *((LONG_ROUNDS, LONG_ROUND_S) if is_long else (ROUNDS, ROUND_S))))


async def lesson(service: Service, rounds: int, round_s: float) -> None:
    async with browser_calls(service) as http:
        watchers = [Watcher() for _ in range(WATCHERS)]
        students = [Student(http, registration()) for _ in range(PLAYERS)]
        try:
            await all_of(lambda each=each: watch(http, service, each) for each in watchers)  # type: ignore[misc]
            await all_of(lambda each=each: each.arrive(service) for each in students)  # type: ignore[misc]
            await all_of((lambda each=each: each.play(rounds, round_s) for each in students), PLAYERS)  # type: ignore[misc]
            await all_of(lambda each=each: each.come_back(service) for each in students)  # type: ignore[misc]
            await all_of((lambda each=each: each.play(1, round_s) for each in students), PLAYERS)  # type: ignore[misc]
            assert [each.score for each in students] == [rounds + 1] * PLAYERS
            await everybody_sees(http, [*watchers, *(each.stream for each in students)])
            await poll(http)
            await assert_room_left(http)
        finally:
            await asyncio.gather(*(each.close() for each in (*watchers, *(each.stream for each in students))))


async def watch(http: httpx.AsyncClient, service: Service, watcher: Watcher) -> None:
    """A page without a player; in the end its stream is open."""
    for visit in range(VISITS):
        await watcher.close()
        # The last time only the network went, and the page resumes.
        if visit < VISITS - 1:
            watcher.last_event_id = ""
            assert (await http.get("/v1/actions/types")).status_code == 200
        await watcher.open(service)


async def everybody_sees(http: httpx.AsyncClient, streams: list[Watcher]) -> None:
    """Every stream has had updates, and shows the board as it is now."""
    deadline = time.monotonic() + LIVE_WAIT_S
    while True:
        leaderboard = (await http.get("/v1/leaderboard?limit=10&offset=0")).json()["data"]["leaderboard"]
        late = [each for each in streams if not each.shows(leaderboard)]
        if not late:
            break
        assert time.monotonic() < deadline, f"{len(late)} streams of {len(streams)} are behind"
        await asyncio.sleep(0.2)
    assert all(each.task is not None and not each.task.done() for each in streams)
    assert all(each.updates for each in streams[:WATCHERS])


async def poll(http: httpx.AsyncClient) -> None:
    """Half a minute of all watchers where no stream gets through."""

    async def read() -> None:
        answer = await http.get("/v1/leaderboard?limit=10&offset=0")
        assert answer.status_code == 200, answer.text

    await all_of([read] * (WATCHERS * POLLS))


async def assert_room_left(http: httpx.AsyncClient) -> None:
    """What counts for the address has not been used up, by far, or not at all."""
    left: dict[str, tuple[int, int]] = {}
    asked: dict[str, tuple[str, Json | None]] = {
        "/v1/users/me/history": ("GET", None),
        "/v1/leaderboard": ("GET", None),
        "/v1/auth/register": ("POST", {}),
        "/v1/auth/refresh": ("POST", {"refreshToken": "x"}),
    }
    for path, (method, body) in asked.items():
        headers = (await http.request(method, path, json=body)).headers
        left[path] = int(headers["X-RateLimit-Remaining"]), int(headers["X-RateLimit-Limit"])
    assert left["/v1/users/me/history"] == (999, 1_000), "nothing of all this is an anonymous call of the general kind"
    assert left["/v1/leaderboard"][0] >= WATCHERS * POLLS, "the other half of the minute's polls"
    assert left["/v1/auth/register"] == (1_000 - PLAYERS - 1, 1_000)
    assert left["/v1/auth/refresh"] == (999, 1_000), "those that succeed gave theirs back"
