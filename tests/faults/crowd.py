"""Clients at work while things break: whole flows by many players, each attempt and each answer noted."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.faults.attempts import Attempt, Json, Log
from tests.faults.cast import Account, cast_of
from tests.functional.client import QUICK, completion
from tests.service import Service

REQUEST, COMPLETE = "/v1/actions/request", "/v1/actions/complete"
# A client of the service's own page gives up after as long; what it waits for with Prefer is two seconds.
_ANSWER_S = 5.0
# Between two tries. The service asks for a second or two; a crowd that is quicker sees sooner that all is well again.
_AGAIN_S = (0.05, 0.5)
# After the last fault every client must learn what became of its completion: a restart takes seconds, this machine's
# slowest moments some more. The server's own longest wait is twenty seconds.
_RESOLVE_S = 90.0
# Every third client waits for the outcome, so that both kinds of acknowledgement come.
_PREFER: tuple[dict[str, str], ...] = ({}, {}, {"Prefer": "wait=2"})


class Crowd:
    """``clients`` threads that play up to ``rate`` flows a second between them as ``players`` accounts.

    A context manager: works from its beginning until its end, or until ``pause``. A client that gets no answer, or
    503 or 429, sends the very same completion again, as a real one does, until it knows what became of it.
    """

    def __init__(self, service: Service, *, players: int = 150, clients: int = 8, rate: float = 60) -> None:
        # Nine completions of a player within ten seconds are held for review as a burst: fewer than that, with room.
        assert rate / players <= 0.5, "each player would be too quick for the rules against cheating"
        self.log = Log()
        self._address = urlsplit(service.url)
        self._accounts = cast_of(service).take(players)
        self.log.add_users(account.id for account in self._accounts)
        self._turns = itertools.cycle(self._accounts)
        self._pause_s = clients / rate
        self._lock = threading.Condition()
        self._is_playing, self._is_over, self._gives_up = False, False, False
        self._busy = 0
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(_PREFER[number % len(_PREFER)],), name=f"client-{number}")
            for number in range(clients)
        ]

    @property
    def accounts(self) -> list[Account]:
        return self._accounts

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_over = True
            # Nobody wants to know any more what a failed scenario's clients would have learnt.
            self._gives_up = error is not None
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(_RESOLVE_S)
        if error is None:
            self._check()

    def resume(self) -> None:
        with self._lock:
            self._is_playing = True
            self._lock.notify_all()

    def pause(self) -> None:
        """Begin no more flows; returns when every client knows what became of its last one."""
        with self._lock:
            self._is_playing = False
            is_done = self._lock.wait_for(lambda: self._busy == 0, _RESOLVE_S)
        self._check()
        assert is_done, f"clients without an answer {_RESOLVE_S:.0f} s after the last flow began; {self.log.describe()}"

    def wait_for_answers(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many more completions have been acknowledged."""
        self.log.wait_for_answers(count, timeout_s)
        self._check()

    def _check(self) -> None:
        if self._errors:
            raise self._errors[0]

    # -- a client ------------------------------------------------------------------------

    def _run(self, headers: dict[str, str]) -> None:
        due_at = time.monotonic() + random.uniform(0, self._pause_s)
        while (account := self._next_turn(due_at)) is not None:
            due_at = max(time.monotonic(), due_at + self._pause_s)
            try:
                self._play(account, headers)
            except BaseException as error:  # shown by the next call from the test
                self._errors.append(error)
                return
            finally:
                with self._lock:
                    self._busy -= 1
                    self._lock.notify_all()

    def _next_turn(self, due_at: float) -> Account | None:
        """Whose turn it is, when it is time for it; None when all is over."""
        with self._lock:
            while not self._is_over and (not self._is_playing or time.monotonic() < due_at):
                self._lock.wait(max(0.0, due_at - time.monotonic()) if self._is_playing else None)
            if self._is_over:
                return None
            self._busy += 1
            return next(self._turns)

    def _play(self, account: Account, headers: dict[str, str]) -> None:
        action = self._request(account)
        if action is None:
            return
        attempt = self.log.attempt(action["actionId"], account.id, account.token)
        body = completion(action)
        give_up_at = time.monotonic() + _RESOLVE_S
        for pause_s in _pauses():
            self._send(account, attempt, body, headers)
            if not attempt.is_open or self._gives_up or time.monotonic() > give_up_at:
                return
            time.sleep(pause_s)

    def _request(self, account: Account) -> Json | None:
        """An action to complete. One whose answer got lost is left alone: it must never be counted."""
        body = {"actionType": QUICK, "metadata": {}}
        try:
            status, answer = self._call(account, REQUEST, body, {})
        except (OSError, http.client.HTTPException, ValueError):
            self.log.unanswered()
            time.sleep(random.uniform(*_AGAIN_S))
            return None
        self.log.requested(status, answer)
        if status != 200:
            time.sleep(random.uniform(*_AGAIN_S))
            return None
        data: Json = answer["data"]
        return data

    def _send(self, account: Account, attempt: Attempt, body: Json, headers: dict[str, str]) -> None:
        self.log.sent(attempt)
        try:
            status, answer = self._call(account, COMPLETE, body, headers)
        except (OSError, http.client.HTTPException, ValueError):
            # Refused, cut, reset, too slow, or half an answer: nobody knows.
            self.log.unanswered(attempt)
            return
        self.log.answered(attempt, status, answer)

    def _call(self, account: Account, path: str, body: Json, headers: dict[str, str]) -> tuple[int, Json]:
        """One request on a connection of its own: any of the web processes may answer."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=_ANSWER_S)
        try:
            given = {"Authorization": f"Bearer {account.token}", "Content-Type": "application/json", **headers}
            connection.request("POST", path, json.dumps(body), given)
            response = connection.getresponse()
            answer: Any = json.loads(response.read())
            return response.status, answer
        finally:
            connection.close()


def _pauses() -> itertools.chain[float]:
    least, most = _AGAIN_S
    growing = (random.uniform(0.5, 1.0) * least * 2**number for number in range(4))
    return itertools.chain(growing, (random.uniform(0.5, 1.0) * most for _ in itertools.count()))
