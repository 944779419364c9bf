"""The requests of a flow as bytes, and as much of the answers as a flow needs."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import orjson

# Of the catalogue in the package: no minimum time, so that a completion right after the request is applied.
ACTION_TYPE = "SOLVE_PROBLEM"
REQUEST_PATH, COMPLETE_PATH = "/v1/actions/request", "/v1/actions/complete"
_REQUEST_BODY = orjson.dumps({"actionType": ACTION_TYPE, "metadata": {"problem": "7 x 8"}})
_NEXT = b',"next":' + _REQUEST_BODY
# Younger than a token's life of five minutes, with room for a stall.
_TOKEN_USED_WITHIN_S = 200.0
# A head or a body beyond this is not an answer to these requests.
ANSWER_MAX_BYTES = 65_536
_LENGTH = b"content-length: "


class WireError(Exception):
    """The server answered with something else than was asked for."""


class Player:
    """A player's bearer token, in requests that are ready to be sent."""

    __slots__ = ("complete_head", "issued", "request", "token", "user_id")

    def __init__(self, port: int, user_id: str, token: str) -> None:
        self.user_id, self.token = user_id, token
        self.request = b"%b%d\r\n\r\n%b" % (_head(port, REQUEST_PATH, token), len(_REQUEST_BODY), _REQUEST_BODY)
        self.complete_head = _head(port, COMPLETE_PATH, token)
        # What the last completion brought along, where such are asked for.
        self.issued: Issued | None = None

    def completion(self, issued: Issued, claimed_ms: int, *, asks_for_next: bool = False) -> bytes:
        """The request that completes an action, with its proof; it may ask for the next action in the same call."""
        message = b"%b:%d::" % (issued.action_id, claimed_ms)
        checksum = hmac.digest(issued.proof_key, message, "sha256").hex().encode()
        body = b'{"actionId":"%b","actionToken":"%b","proof":{"completionTime":%d,"checksum":"%b"}%b}' % (
            issued.action_id,
            issued.token,
            claimed_ms,
            checksum,
            _NEXT if asks_for_next else b"",
        )
        return b"%b%d\r\n\r\n%b" % (self.complete_head, len(body), body)


class Issued:
    """An action's token, as the answer to a request holds it."""

    __slots__ = ("action_id", "proof_key", "since", "token")

    def __init__(self, data: Mapping[str, str]) -> None:
        self.action_id = data["actionId"].encode()
        self.token = data["actionToken"].encode()
        self.proof_key = data["proofKey"].encode()
        self.since = time.monotonic()

    @classmethod
    def requested(cls, body: bytes) -> Issued:
        """From the answer to a request."""
        return cls(orjson.loads(body)["data"])

    @classmethod
    def next_of(cls, body: bytes) -> Issued:
        """From the answer to a completion. Raises WireError when it brought none."""
        following = orjson.loads(body)["data"].get("next")
        if not following or "actionToken" not in following:
            raise WireError(f"no next action: {body[:1000].decode(errors='replace')}")
        return cls(following)

    @property
    def is_young(self) -> bool:
        """Whether its token is still good."""
        return time.monotonic() - self.since < _TOKEN_USED_WITHIN_S


class Players:
    """All players, in turn: none acts again before all the others have."""

    def __init__(self, port: int, lines: Sequence[str]) -> None:
        pairs = [line.split("\t") for line in lines]
        self.all = [Player(port, user_id, token) for user_id, token in pairs]
        self._turn = cycle(self.all)

    @classmethod
    def read(cls, port: int, tokens: Path) -> Players:
        """From a file as `scoreboard seed --tokens` writes it."""
        return cls(port, tokens.read_text(encoding="utf-8").splitlines())

    def next(self) -> Player:
        return next(self._turn)


def body_of(answer: bytes, status: bytes) -> bytes | None:
    """The body of a whole answer of this status, None while some of it is missing. Raises WireError."""
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0 or answer[9:12] != status:
        if head_end >= 0 or len(answer) > ANSWER_MAX_BYTES:
            raise WireError(f"{status.decode()} was expected: {answer[:1000].decode(errors='replace')}")
        return None
    start = head_end + 4
    missing = _content_length(answer[:start]) - (len(answer) - start)
    if missing > 0:
        return None
    if missing < 0:
        raise WireError("an answer is longer than it says")
    return answer[start:]


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(_LENGTH)
    if at < 0:
        raise WireError(f"an answer without a length: {head.decode(errors='replace')}")
    at += len(_LENGTH)
    return int(head[at : head.index(b"\r", at)])


def _head(port: int, path: str, token: str) -> bytes:
    """All of a head up to the number of bytes in the body."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench-flows\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: "
    ).encode()
