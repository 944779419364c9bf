"""The bound on what a process works on at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from scoreboard.web.server.admission import Admission

WAIT_S = 5.0
Answer = tuple[str, dict[str, str], bytes]


class Application:
    """Works until it is told to finish."""

    def __init__(self) -> None:
        self.finish = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.begun.release()
        assert self.finish.wait(WAIT_S)
        if environ["PATH_INFO"] == "/broken":
            raise RuntimeError
        start_response("200 OK", [])
        return [b"done"]


def call(application: Any, path: str = "/v1/leaderboard", **environ: str) -> Answer:
    said: list[tuple[str, dict[str, str]]] = []

    def start(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
        said.append((status, dict(headers)))

    body = b"".join(application({"PATH_INFO": path, **environ}, start))
    return *said[0], body


def test_one_too_many_is_told_to_come_back_and_the_next_finds_room() -> None:
    admission, application = Admission(2), Application()
    gated = admission.gate(application)
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(call, gated) for _ in range(2)]
        for _ in working:
            assert application.begun.acquire(timeout=WAIT_S)
        status, headers, body = call(gated)
        assert status.startswith("503")
        assert headers["Retry-After"] == "1"
        assert headers["X-Request-ID"]
        assert headers["Content-Length"] == str(len(body))
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert orjson.loads(body)["error"]["code"] == "SERVICE_UNAVAILABLE"
        probe = pool.submit(call, gated, "/health")
        assert application.begun.acquire(timeout=WAIT_S)
        application.finish.set()
        assert [each.result(WAIT_S)[2] for each in [*working, probe]] == [b"done"] * 3
    assert call(gated)[2] == b"done"
    assert admission.working == 0


def test_a_request_that_fails_makes_room_too() -> None:
    admission, application = Admission(1), Application()
    application.finish.set()
    gated = admission.gate(application)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            call(gated, "/broken")
    assert call(gated)[2] == b"done"


def test_who_only_waits_takes_no_room() -> None:
    admission = Admission(1)
    with admission.pause() as may_wait:
        assert may_wait
        assert (admission.working, admission.parked) == (-1, 1)
    assert (admission.working, admission.parked) == (0, 0)


def test_those_who_only_wait_are_bounded_too() -> None:
    admission = Admission(5, parked_max=1)
    with admission.pause(), admission.pause() as may_wait:
        assert not may_wait
        assert (admission.working, admission.parked) == (-1, 1)
    assert (admission.working, admission.parked) == (0, 0)


FRIEND = "https://game.example"


@pytest.mark.parametrize(
    ("origin", "path", "is_readable"),
    [
        (FRIEND, "/v1/leaderboard", True),
        (FRIEND, "/", False),
        ("https://stranger.example", "/v1/leaderboard", False),
        ("null", "/v1/leaderboard", False),
    ],
)
def test_a_page_of_a_named_site_can_read_that_it_is_too_much(origin: str, path: str, is_readable: bool) -> None:
    gated = Admission(0, origins=[FRIEND]).gate(Application())
    status, headers, _ = call(gated, path, HTTP_ORIGIN=origin)
    assert status.startswith("503")
    assert headers["Vary"] == "Origin"
    assert headers.get("Access-Control-Allow-Origin") == (FRIEND if is_readable else None)
    exposed = headers.get("Access-Control-Expose-Headers", "")
    assert ("Retry-After" in exposed) == is_readable
    assert "Vary" not in call(Admission(0).gate(Application()), path, HTTP_ORIGIN=origin)[1]


def test_a_preflight_is_answered_however_much_there_is_to_do() -> None:
    application = Application()
    application.finish.set()
    gated = Admission(0, origins=[FRIEND]).gate(application)
    asked = {"REQUEST_METHOD": "OPTIONS", "HTTP_ORIGIN": FRIEND}
    assert call(gated, **asked, HTTP_ACCESS_CONTROL_REQUEST_METHOD="POST")[0].startswith("200")
    assert call(gated, **asked)[0].startswith("503")
