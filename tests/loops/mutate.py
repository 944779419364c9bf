"""Requests that are nearly right: valid ones, mutated as the tools for smuggling do. The same seed, the same bytes."""

from __future__ import annotations

import random
from itertools import pairwise

HOST = b"Host: service.test\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: service.test\r\n\r\n"
VALID = [
    b"GET /echo?a=1&b=%20 HTTP/1.1\r\n" + HOST + b"Accept: */*\r\nUser-Agent: x\r\n\r\n",
    b"GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + HIDDEN,
    b"HEAD /echo HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello" + HIDDEN,
    b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
    b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    b'3;a=b;c="d"\r\nhel\r\n2\r\nlo\r\n0;last\r\nX-Trailer: t\r\n\r\n' + HIDDEN,
    b"PUT /echo HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + HIDDEN,
    b"GET /chunks HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + HIDDEN,
    b"GET /chunks HTTP/1.0\r\n\r\n",
    b"GET /written HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    b"GET /empty HTTP/1.1\r\n" + HOST + b"\r\nGET /unchanged HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    b"GET http://service.test/echo?x#y HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT service.test:443 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    b"GET /echo HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + HIDDEN,
    b"GET //echo/%2e%2e/%00?#f HTTP/1.1\r\n" + HOST + b"Cookie: a\r\nCookie: b\r\nX-A: 1\r\nX_A: 2\r\n\r\n",
    b"DELETE /broken HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
]
LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 44", b"Content-Length: 5, 5", b"Content-Length: +5",
    b"Content-Length: -0", b"Content-Length:", b"Content-Length: 0x5", b"Content-Length: 5 ", b"Content-Length:\t5",
    b"Content-Length: \xb2", b"Content-Length: 99999999999999999999", b"Content_Length: 44", b"Content-Length : 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked", b"Transfer-Encoding\r: chunked",
    b"X: a\r\n Transfer-Encoding: chunked", b"X: a\nTransfer-Encoding: chunked", b"X: a\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"TE: trailers", b"Trailer: X", b"Host: other.test",
    b"Host:",
    b"Connection: close", b"Connection: keep-alive", b"Connection: close, x", b"Connection: x, Close", b"Connection:",
    b"Expect: 100-continue", b"Expect: x", b": empty", b"no colon", b"X\0: a", b"X: \0", b"X: \x7f", b"X: \xff",
    b"X\xff: a",
    b"X: a\tb", b"X:", b"X: " + b"a" * 9_000, b"X" * 200 + b": a", b"SCRIPT_NAME: /echo", b"PATH_INFO: /x",
    b"X-Forwarded-Proto: https", b"Upgrade: h2c", b"HTTP2-Settings: x", b"Content-Type: a\r\nContent-Type: b",
]  # fmt: skip
TARGETS = [b"/", b"*", b"/echo", b"http://a/b", b"ftp://a", b"a:1", b"", b"/\xc3\xa9", b"/\x01", b"/a b", b"//a//b",
           b"/%zz",
           b"/?", b"/#", b"/echo;a", b"/\\", b"/" + b"a" * 8_300, b"http://[::1", b"://a/b", b"/\"<>^`{|}"]  # fmt: skip
METHODS = [
    b"GET",
    b"get",
    b"POST",
    b"FOO",
    b"G",
    b"GE T",
    b"M-SEARCH",
    b"PRI",
    b"GET#",
    b"DESCRIBE",
    b"",
    b"\0GET",
    b"QUERY",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/1.10", b"http/1.1", b"RTSP/1.0",
            b"ICE/1.0",
            b"HTTP/1.1 ", b"HTTP/1.\xb9", b""]  # fmt: skip
BYTES = [bytes([byte]) for byte in b'\r\n\0 \t:;,\x0b\x0c\x7f\x80\xff"\\/%#?_-0aF'] + [
    b"\r\n",
    b"\n\n",
    b"\r\r\n",
    b"\r\n\r\n",
]


def mutated(seed: int) -> bytes:
    """One to four changes to a valid request, or to two in a row."""
    chance = random.Random(seed)  # has to be the same again
    sent = b"".join(chance.choices(VALID, k=chance.choice((1, 1, 1, 2))))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
        sent = chance.choice(_MUTATIONS)(sent, chance)
    return sent


def pieces(sent: bytes, seed: int) -> list[bytes]:
    """The same bytes, in the parts in which a network may bring them."""
    chance = random.Random(seed)
    cuts = sorted({0, len(sent), *chance.choices(range(len(sent) + 1), k=chance.choice((0, 0, 1, 2, 5)))})
    return [sent[begin:end] for begin, end in pairwise(cuts)]


def _insert_byte(sent: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(sent) + 1)
    return sent[:at] + chance.choice(BYTES) + sent[at:]


def _replace_byte(sent: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(sent) + 1)
    return sent[:at] + chance.choice(BYTES) + sent[at + 1 :]


def _delete(sent: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(sent) + 1)
    return sent[:at] + sent[at + chance.choice((1, 1, 2, 10)) :]


def _insert_line(sent: bytes, chance: random.Random) -> bytes:
    """Before a header of the first request."""
    lines = sent.split(b"\r\n")
    lines.insert(chance.randrange(1, max(2, min(5, len(lines)))), chance.choice(LINES))
    return b"\r\n".join(lines)


def _move_line(sent: bytes, chance: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    line = lines[chance.randrange(len(lines))]
    lines.insert(chance.randrange(len(lines)), line)
    return b"\r\n".join(lines)


def _change_line_end(sent: bytes, chance: random.Random) -> bytes:
    lines = sent.split(b"\r\n")
    at = chance.randrange(1, max(2, len(lines)))
    return (
        b"\r\n".join(lines[:at])
        + chance.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n "))
        + b"\r\n".join(lines[at:])
    )


def _change_start(sent: bytes, chance: random.Random) -> bytes:
    line, end, rest = sent.partition(b"\r\n")
    words = line.split(b" ")
    at = chance.randrange(3)
    if at < len(words):
        words[at] = chance.choice((METHODS, TARGETS, VERSIONS)[at])
    return chance.choice((b" ", b" ", b" ", b" ", b"  ", b"\t")).join(words) + end + rest


def _lead(sent: bytes, chance: random.Random) -> bytes:
    return chance.choice((b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\0", b"\xef\xbb\xbf", b"0\r\n\r\n")) + sent


def _cut(sent: bytes, chance: random.Random) -> bytes:
    return sent[: chance.randrange(len(sent) + 1)]


def _follow(sent: bytes, chance: random.Random) -> bytes:
    return sent + chance.choice((HIDDEN, *VALID))


_MUTATIONS = [_insert_byte, _replace_byte, _delete, _insert_line, _insert_line, _move_line, _change_line_end,
              _change_start,
              _lead, _cut, _follow]  # fmt: skip
