"""Requests at about the same time share one query, and none gets another's answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from scoreboard.coalesce import Coalescer
from scoreboard.domain.errors import NotFound, ServiceUnavailable

WAIT_S = 10.0


class Server:
    """Answers n with 2n and refuses odd ones; each question waits at a gate and is noted."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.questions: list[list[int]] = []
        self.gate = threading.Event()
        if is_open:
            self.gate.set()

    def ask(self, items: Sequence[int]) -> list[int | Exception]:
        self.questions.append(list(items))
        assert self.gate.wait(WAIT_S)
        return [NotFound(str(item)) if item % 2 else 2 * item for item in items]


class Stuck:
    """Answers each question only when it is told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)

    def ask(self, items: Sequence[int]) -> list[int]:
        self.begun.release()
        assert self.answer.acquire(timeout=WAIT_S)
        return [2 * item for item in items]


def wait_until(is_so: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def crowd(
    pool: ThreadPoolExecutor, coalesced: Coalescer[int, int], server: Server, items: Sequence[int]
) -> list[Future[int]]:
    """The first asks alone; all others are waiting when this returns."""
    first = pool.submit(coalesced, items[0])
    wait_until(lambda: server.questions)
    others = [pool.submit(coalesced, each) for each in items[1:]]
    wait_until(lambda: coalesced.waiting == len(others))
    return [first, *others]


def test_a_lone_caller_asks_at_once_and_in_its_own_thread() -> None:
    asked_in: list[int] = []

    def ask(items: Sequence[int]) -> list[int]:
        asked_in.append(threading.get_ident())
        return [2 * item for item in items]

    assert Coalescer(ask)(21) == 42
    assert asked_in == [threading.get_ident()]


def test_each_of_a_crowd_gets_its_own_answer_or_error() -> None:
    server = Server()
    coalesced: Coalescer[int, int] = Coalescer(server.ask)
    with ThreadPoolExecutor(20) as pool:
        calls = crowd(pool, coalesced, server, range(20))
        server.gate.set()
        for item, call in enumerate(calls):
            if item % 2:
                with pytest.raises(NotFound, match=str(item)):
                    call.result(WAIT_S)
            else:
                assert call.result(WAIT_S) == 2 * item
    assert server.questions[0] == [0]
    assert sorted(server.questions[1]) == list(range(1, 20))
    assert len(server.questions) == 2


def test_a_question_is_bounded_and_the_rest_follows() -> None:
    server = Server()
    coalesced: Coalescer[int, int] = Coalescer(server.ask, batch_max=4)
    with ThreadPoolExecutor(11) as pool:
        calls = crowd(pool, coalesced, server, range(0, 22, 2))
        server.gate.set()
        assert [call.result(WAIT_S) for call in calls] == list(range(0, 44, 4))
    assert [len(each) for each in server.questions] == [1, 4, 4, 2]


def test_one_too_many_is_told_to_come_back() -> None:
    server = Server()
    coalesced: Coalescer[int, int] = Coalescer(server.ask, waiting_max=2)
    with ThreadPoolExecutor(3) as pool:
        calls = crowd(pool, coalesced, server, [0, 2, 4])
        with pytest.raises(ServiceUnavailable):
            coalesced(6)
        server.gate.set()
        assert [call.result(WAIT_S) for call in calls] == [0, 4, 8]


def test_who_has_waited_too_long_leaves_and_the_others_go_on() -> None:
    server = Server()
    coalesced: Coalescer[int, int] = Coalescer(server.ask, wait_s=0.05)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(coalesced, 0)
        wait_until(lambda: server.questions)
        with pytest.raises(ServiceUnavailable):
            coalesced(2)
        assert coalesced.waiting == 0
        server.gate.set()
        assert first.result(WAIT_S) == 0
    assert coalesced(4) == 8


def test_who_shares_a_question_without_an_answer_leaves_too() -> None:
    stuck = Stuck()
    with ThreadPoolExecutor(3) as pool:
        waiting: Coalescer[int, int] = Coalescer(stuck.ask, wait_s=0.05)
        held = pool.submit(waiting, 0)
        assert stuck.begun.acquire(timeout=WAIT_S)
        shared = [pool.submit(waiting, each) for each in (2, 4)]
        wait_until(lambda: waiting.waiting == 2)
        stuck.answer.release()
        assert held.result(WAIT_S) == 0
        assert stuck.begun.acquire(timeout=WAIT_S)
        # Now one of the two leads a question that gets no answer, and the other shares it.
        wait_until(lambda: any(each.done() for each in shared))
        (late,) = [each for each in shared if each.done()]
        with pytest.raises(ServiceUnavailable):
            late.result(WAIT_S)
        stuck.answer.release()
        (leader,) = [each for each in shared if each is not late]
        assert leader.result(WAIT_S) in (4, 8)


def test_what_a_question_raises_is_raised_to_each_and_the_next_is_asked_anew() -> None:
    server = Server()
    failures = [ConnectionError("down"), ConnectionError("still down")]

    def ask(items: Sequence[int]) -> list[int | Exception]:
        answers = server.ask(items)
        if failures:
            raise failures.pop(0)
        return answers

    coalesced: Coalescer[int, int] = Coalescer(ask)
    with ThreadPoolExecutor(6) as pool:
        calls = crowd(pool, coalesced, server, range(0, 12, 2))
        server.gate.set()
        for call in calls:
            with pytest.raises(ConnectionError, match="down"):
                call.result(WAIT_S)
    assert coalesced(2) == 4


def test_an_interrupted_leader_takes_nobody_along() -> None:
    server = Server()
    is_first = [True]

    def ask(items: Sequence[int]) -> list[int | Exception]:
        answers = server.ask(items)
        if is_first.pop() if is_first else False:
            raise KeyboardInterrupt
        return answers

    coalesced: Coalescer[int, int] = Coalescer(ask)
    with ThreadPoolExecutor(3) as pool:
        calls = crowd(pool, coalesced, server, [0, 2, 4])
        server.gate.set()
        with pytest.raises(KeyboardInterrupt):
            calls[0].result(WAIT_S)
        assert [call.result(WAIT_S) for call in calls[1:]] == [4, 8]


def test_many_threads_lose_nothing() -> None:
    server = Server(is_open=True)
    coalesced: Coalescer[int, int] = Coalescer(server.ask, batch_max=7)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(coalesced, range(0, 8_000, 2)))
    assert answers == list(range(0, 16_000, 4))
    assert sorted(item for question in server.questions for item in question) == list(range(0, 8_000, 2))
