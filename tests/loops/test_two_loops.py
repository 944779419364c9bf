"""Our connection loop beside gunicorn's own: thousands of mutated requests are answered alike, or refused by ours.

Both run the same application behind the same settings. Where ours is stricter, ``STRICTER`` says in what.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.loops.mutate import HIDDEN, HOST, LINES, METHODS, TARGETS, VALID, VERSIONS, mutated, pieces
from tests.loops.servers import GUNICORNS, OURS, Server, running

# Some 2 ms each.
CASES, CASES_LONG = 4_000, 40_000
_ANSWER = re.compile(rb"(?=HTTP/1\.[0-9] [1-5][0-9]{2} )")
_VOLATILE = re.compile(rb"(?<=\r\n)(?:Date|X-Request-ID): [^\r]*\r\n")
_CONNECTION = re.compile(rb"(?<=\r\n)Connection: ([a-z-]*)\r\n")
_REFUSED = (b"400", b"414", b"431")
_KNOWN = rb"GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|QUERY|M-SEARCH"
STRICTER = {
    "a method that llhttp does not know, in pieces or of another protocol": re.compile(
        rb"(?:^|\n|hello|abc)(?!(?:" + _KNOWN + rb") )[^\s:]{3,20} \S+ HTTP/1\.[01]"
    ),
    "HTTP/1.2 and later": re.compile(rb" HTTP/1\.[2-9]"),
    "HTTP/1.1 without a Host": re.compile(rb" HTTP/1\.1\r\n(?:(?!Host:)[^\r\n]+\r\n)*\r\n", re.IGNORECASE),
    "any transfer coding but chunked": re.compile(rb"\nTransfer-Encoding:[^\n]*(?:gzip|identity|,)", re.IGNORECASE),
    "a length that no computer can hold": re.compile(rb"\nContent-Length:\s*[0-9]{20}", re.IGNORECASE),
    "an absolute address that llhttp does not take": re.compile(rb"[A-Z]{3,} [^/*\s]\S* HTTP/"),
    "a second expectation": re.compile(rb"\nExpect:.*\nExpect:", re.IGNORECASE | re.DOTALL),
}
# Ours takes "close" at its word also among other options, and answers nothing behind it.
CLOSES = re.compile(
    rb"\nConnection:[^\n]*(?:,[^\n]*close|close[^\n]*,|\n(?:.*\n)?Connection:[^\n]*close)", re.IGNORECASE
)


@pytest.fixture(scope="module")
def gunicorns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(GUNICORNS, tmp_path_factory.mktemp("gunicorn")) as server:
        yield server


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(OURS, tmp_path_factory.mktemp("ours")) as server:
        yield server


def answers(received: bytes) -> list[bytes]:
    return [answer for answer in _ANSWER.split(_VOLATILE.sub(b"", received)) if answer]


def without_connection(found: list[bytes]) -> list[bytes]:
    return [_CONNECTION.sub(b"", answer) for answer in found]


def is_refusal(answer: bytes) -> bool:
    return answer[9:12] in _REFUSED and b'"code":"VALIDATION_FAILED"' in answer


def compare(sent: bytes, theirs: list[bytes], mine: list[bytes]) -> str:
    """What the difference is called. Raises AssertionError for one that is not allowed."""
    their_answers, my_answers = without_connection(theirs), without_connection(mine)
    if their_answers == my_answers:
        check_endings(theirs, mine)
        return "alike"
    same = next((at for at, pair in enumerate(zip(their_answers, my_answers, strict=False)) if pair[0] != pair[1]),
                min(len(theirs), len(mine)))  # fmt: skip
    rest = my_answers[same:]
    if not rest:
        assert CLOSES.search(sent), "ended before its time"
        return "close among other options"
    assert len(rest) == 1, "something was understood that gunicorn does not understand, or in another way"
    assert is_refusal(rest[0]), "something was understood that gunicorn does not understand, or in another way"
    if same == len(theirs):
        return "refused, where gunicorn waits for the rest"
    if is_refusal(their_answers[same]):
        return "refused, with another status"
    named = [name for name, pattern in STRICTER.items() if pattern.search(sent)]
    assert named, "refused for no reason that is written down"
    return named[0]


def check_endings(theirs: list[bytes], mine: list[bytes]) -> None:
    """Ours may say that the connection ends where gunicorn does not, never the other way round."""
    for their_answer, my_answer in zip(theirs, mine, strict=True):
        if _CONNECTION.findall(their_answer) == [b"close"]:
            assert _CONNECTION.findall(my_answer) == [b"close"]


def exchange(gunicorns: Server, ours: Server, *parts: bytes) -> str:
    theirs, mine = answers(gunicorns.exchange(*parts)), answers(ours.exchange(*parts))
    try:
        return compare(b"".join(parts), theirs, mine)
    except AssertionError as error:
        raise AssertionError(f"{error}\nsent: {b''.join(parts)!r}\ntheirs: {theirs}\nmine: {mine}") from None


@pytest.mark.timeout(600)
def test_mutated_requests_are_answered_alike_or_refused(
    gunicorns: Server, ours: Server, pytestconfig: pytest.Config
) -> None:
    cases = CASES_LONG if pytestconfig.getoption("--long") else CASES
    found: Counter[str] = Counter()
    for seed in range(cases):
        sent = mutated(seed)
        found[exchange(gunicorns, ours, *pieces(sent, seed))] += 1
    # The comparison is worth nothing if most is served, or refused, by neither.
    assert found["alike"] > 0.9 * cases, found
    assert set(found) >= {"alike", "HTTP/1.2 and later", "HTTP/1.1 without a Host"}, found


@pytest.mark.parametrize("request_", VALID)
def test_each_valid_request_is_answered_byte_for_byte(gunicorns: Server, ours: Server, request_: bytes) -> None:
    theirs, mine = answers(gunicorns.exchange(request_)), answers(ours.exchange(request_))
    assert theirs == mine
    assert mine


@pytest.mark.parametrize("path", ["/short", "/broken", "/broken-later", "/split", "/chunks", "/empty", "/unchanged"])
@pytest.mark.parametrize("start", [b"GET %b HTTP/1.1\r\n", b"HEAD %b HTTP/1.1\r\n", b"GET %b HTTP/1.0\r\n"])
def test_odd_applications_are_served_alike(gunicorns: Server, ours: Server, path: str, start: bytes) -> None:
    sent = start % path.encode() + HOST + b"\r\n"
    assert answers(gunicorns.exchange(sent)) == answers(ours.exchange(sent))


@pytest.mark.parametrize("begin", [b"POST /echo HTTP/1.1\r\n", b"GET /echo HTTP/1.1\r\n", b"POST /echo HTTP/1.0\r\n"])
@pytest.mark.parametrize("end", [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"])
def test_no_two_lines_make_one_request_into_two(gunicorns: Server, ours: Server, begin: bytes, end: bytes) -> None:
    """Every pair of the lines that smuggling is made of."""
    framing = [line for line in LINES if b"ncoding" in line or b"ength" in line]
    for first in framing:
        for second in framing:
            exchange(gunicorns, ours, begin + HOST + first + b"\r\n" + second + b"\r\n\r\n" + end + HIDDEN)


def test_every_start_line_is_read_alike_or_refused(gunicorns: Server, ours: Server) -> None:
    for method in METHODS:
        for target in TARGETS:
            for version in VERSIONS:
                exchange(gunicorns, ours, method + b" " + target + b" " + version + b"\r\n" + HOST + b"\r\n")


HELLO = b"5\r\nhello\r\n"
SIZES = [
    b"5", b"5 ", b" 5", b"05", b"5;", b"5;a", b"5 ; a = b", b'5;a="b;c"', b'5;a="\r\n"', b"5;a=\n", b"5;a\rb",
    b"5;\0", b"0x5", b"+5",
    b"-1", b"5_0", b"FFFFFFFFFFFFFFFF", b"10000000000000005", b"", b"\xb25", b"5;" + b"a" * 20_000, b"\t5", b"5\t",
    b"5\x0b",
]  # fmt: skip
TRAILERS = [
    b"", b"X: y\r\n", b"Content-Length: 9\r\n", b"Transfer-Encoding: x\r\n", b"Host: other\r\n", b"X : y\r\n",
    b" X: y\r\n",
    b"X: y\n\r\n", b"no colon\r\n", b"X: \0\r\n", b"X: " + b"a" * 9_000 + b"\r\n", b"X: y\r\n" * 100, b"TE: x\r\n",
    b"\n",
    b"Authorization: x\r\n", b"Trailer: x\r\n", b"X_Y: z\r\n", b"Expect: x\r\n", b"X: a\r\n b\r\n",
]  # fmt: skip
CHUNKS = [
    *(size + b"\r\nhello\r\n0\r\n\r\n" for size in SIZES),
    *(HELLO + b"0\r\n" + lines + b"\r\n" for lines in TRAILERS),
    b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", HELLO, HELLO + b"0\r\n",
    HELLO + b"00\r\n\r\n",
    HELLO + b"0;x\r\n\r\n", b"5\r\nhel", b"0\r\n\r\n", b"0", b"", HELLO + b"0\r\n\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("chunks", CHUNKS)
def test_chunks_are_read_alike_or_refused(gunicorns: Server, ours: Server, chunks: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    exchange(gunicorns, ours, head + chunks + HIDDEN)
    exchange(gunicorns, ours, head, *(bytes([byte]) for byte in chunks), HIDDEN)
