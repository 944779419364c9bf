"""The log: one JSON object a line for any input, nothing that a terminal obeys, and no secret."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from urllib.parse import quote, urlsplit

import httpx
import pytest

from scoreboard.logs import bound_texts
from tests.functional.client import PASSWORD, Json, completion, data_of, new_name
from tests.functional.sse import SseClient
from tests.security.pages_fortress import FRIEND, POISON, Fortress, account, record
from tests.service import Service

# A record may be long where it has a stack trace; then it is still one that a viewer shows.
LINE_MAX = 30_000
PATH_MAX = 300
REQUEST_LINE_MAX = 4_000
FORGED = '{"event":"forged","level":"error"}'
# What ends a line, moves a cursor, turns the direction of writing, or breaks JSON.
NASTY = {
    "line feed": f"a\n{FORGED}",
    "carriage return": f"a\r{FORGED}",
    "both": f"a\r\n{FORGED}\r\n",
    "vertical tab and form feed": f"a\v\f{FORGED}",
    "next line": f"a\x85{FORGED}",
    "line separators": f"a\u2028{FORGED}\u2029",
    "escape": "a\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "one-byte escape": "a\x9b2J\x9b31mred",
    "backspaces": "admin\x08\x08\x08\x08\x08guest\x7f",
    "direction": "a\u202egnp.exe\u2066\u2069\u200f",
    "invisible": "a\u200b\ufeff\U000e0001b",
    "quotes": f'a","event":"forged","x":"{FORGED}',
    "backslashes": "a\\u000a\\n\\\\\\",
    "NUL": f"a\0{FORGED}",
    "not UTF-8": b"a\xff\xfe\xc3(\xed\xa0\x80".decode("latin-1"),
    "long": "A" * 3_000,
    "long and wide": "\U0001f600" * 300,
    "format": "%s%n{0}{x}${jndi:ldap://x}",
}


def assert_sound(lines: list[str], longest: int = LINE_MAX) -> list[Json]:
    """Each line is one JSON object of bounded length, made of visible characters."""
    records = []
    for line in lines:
        assert line.isprintable(), repr(line[:300])
        assert len(line) <= longest, line[:300]
        records.append(record(line))
    assert not [each for each in records if each.get("event") == "forged"]
    return records


def send_head(fortress: Fortress, *lines: bytes) -> bytes:
    """The answer to a request without a body, of lines that no HTTP library would send."""
    return send_bytes(fortress, b"\r\n".join([*lines, b"Connection: close", b"Host: a", b"", b""]))


def send_bytes(fortress: Fortress, request: bytes) -> bytes:
    target = urlsplit(fortress.url)
    with socket.create_connection((target.hostname, target.port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


# -- form ---------------------------------------------------------------------------------


HEADERS = (
    "User-Agent",
    "X-Request-ID",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "Cookie",
    "Authorization",
    "X-CSRF-TOKEN",
    "Last-Event-ID",
    "Origin",
    "Prefer",
    "Host",
    "traceparent",
)


@pytest.mark.parametrize("kind", NASTY)
def test_nothing_that_is_sent_breaks_or_forges_a_line(fortress: Fortress, kind: str) -> None:
    """In every place that reaches the log, and in those that must not reach it."""
    before = len(fortress.service.lines)
    raw = NASTY[kind].encode("latin-1" if kind == "not UTF-8" else "utf-8")
    ids = [*send_in_addresses(fortress, raw), *send_in_bodies(fortress, NASTY[kind])]
    send_in_heads(fortress, raw.translate(None, b"\r\n\0")[:2_000])
    fortress.settle_log()
    written = [line.partition(" | ")[2] for line in fortress.service.lines[before:] if line.startswith("web")]
    records = assert_sound(written, REQUEST_LINE_MAX)
    for request_id in ids:
        (line,) = [each for each in records if each.get("request_id") == request_id and each["event"] == "request"]
        assert len(line["path"]) <= PATH_MAX


def send_in_addresses(fortress: Fortress, raw: bytes) -> list[str]:
    """The ids of requests with this in path and query."""
    path, query = "/v1/" + quote(raw, safe="")[:3_900], quote(raw)[:1_500]
    answers = [fortress.call(method, path) for method in ("GET", "POST")]
    answers.append(fortress.call("GET", f"/v1/leaderboard?{query}={query}"))
    return [answer.headers["X-Request-ID"] for answer in answers]


def send_in_bodies(fortress: Fortress, text: str) -> list[str]:
    """The ids of requests with this in names and fields of their bodies."""
    bodies = [{"username": text, "password": PASSWORD}, {text: text}, {**account(), "username": text}]
    return [
        fortress.call("POST", f"/v1/auth/{where}", json=body).headers["X-Request-ID"]
        for where in ("login", "register")
        for body in bodies
    ]


def send_in_heads(fortress: Fortress, raw: bytes) -> None:
    """As a header's value and name, as a method, and unescaped as a path; the server itself may refuse these."""
    for name in HEADERS:
        send_head(fortress, b"GET /v1/leaderboard?limit=1 HTTP/1.1", name.encode() + b": " + raw)
    send_head(fortress, b"GET / HTTP/1.1", raw + b": a")
    send_head(fortress, raw + b" / HTTP/1.1")
    send_head(fortress, b"GET /" + raw + b" HTTP/1.1")


def test_an_id_of_the_callers_is_taken_only_if_it_is_one(fortress: Fortress) -> None:
    taken = fortress.call("GET", "/v1/actions/types", headers={"X-Request-ID": "trace-1.2_3"})
    assert taken.headers["X-Request-ID"] == "trace-1.2_3"
    for wrong in ("a b", "a" * 65, '","event":"forged', "a\tb", "é", "<script>", "a;b"):
        answer = fortress.call("GET", "/v1/actions/types", headers={"X-Request-ID": wrong.encode("latin-1")})
        assert answer.headers["X-Request-ID"] != wrong
        assert answer.headers["X-Request-ID"].isalnum()
    folded = send_head(fortress, b"GET /health HTTP/1.1", b"X-Request-ID: a", b" b: c")
    # An id of the service's own may begin with an a, too.
    assert b"X-Request-ID: a\r\n" not in folded
    assert b"X-Request-ID: a b" not in folded


def test_every_process_writes_json_from_its_start_on(fortress: Fortress) -> None:
    fortress.settle_log()
    for name in ("web", "worker", "beat"):
        lines = fortress.written(name)
        records = assert_sound(lines)
        assert all({"event", "level", "logger", "timestamp"} <= set(each) for each in records), name
    started = [each["event"] for each in map(record, fortress.written("web"))]
    assert any(str(event).startswith("Listening at") for event in started)


def test_a_text_without_end_is_cut_and_rows_of_the_database_are_left_out() -> None:
    row = "(psycopg2.errors.NotNullViolation) null value\nDETAIL:  Failing row contains (1, ann,\n\n$argon2id$…).\n"
    more = f"The above exception was the direct cause of the following exception:\n{'y' * 100_000}"
    event = {
        "event": "x" * 100_000,
        "error": f"{row}\n[SQL: INSERT INTO users]",
        "exception": f"Traceback\n{row}\n{more}",
        "number": 1,
    }
    tidy = bound_texts(None, "error", event)
    assert len(tidy["event"]) == 4_000
    assert len(tidy["exception"]) == 20_000
    assert tidy["error"] == "(psycopg2.errors.NotNullViolation) null value\n[SQL: INSERT INTO users]"
    assert "argon2id" not in tidy["exception"]
    assert "The above exception" in tidy["exception"]
    assert tidy["number"] == 1


# -- secrets ------------------------------------------------------------------------------


def test_no_secret_of_anybody_gets_into_the_log(fortress: Fortress) -> None:
    """Somebody does everything that there is to do, right and wrong, at the level that says most."""
    secrets = Secrets()
    secrets.add(**fortress.secrets)
    for name in ("DATABASE_URL", "REDIS_URL"):
        secrets.add(**{name: urlsplit(fortress.service.settings_env[name]).password or ""})
    body = account(username=new_name("secretive"), password="a pass phrase nobody may read", cookies=True)
    secrets.add(password=body["password"], email=body["email"])
    play(fortress, body, secrets)
    fail(fortress, body, secrets)
    fortress.settle_log()
    written = "\n".join(fortress.written("web", "worker", "beat"))
    assert len(secrets.found) >= 18
    assert [name for name, value in secrets.found.items() if value in written] == []
    for word in ("$argon2id$", "eyJ", "gAAAA", "Bearer ", "ticket=", "password=", "lastEventId"):
        assert word not in written, word
    assert "request_failed" in written, "a failure with a stack trace was to be among it"


class Secrets:
    """What must not be in the log, by name; a part of a secret counts as the whole."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def add(self, **values: str) -> None:
        for name, value in values.items():
            assert len(value) >= 8, f"{name} is too short to be looked for"
            # The end: tokens of one kind begin alike.
            self.found[f"{name} {len(self.found)}"] = value[-40:]


def play(fortress: Fortress, body: Json, secrets: Secrets) -> None:
    """Register, sign in, refresh, score, watch, sign out."""
    credentials = {"username": body["username"], "password": body["password"], "cookies": True}
    note_tokens(fortress.call("POST", "/v1/auth/register", json=body), secrets)
    answer = fortress.call("POST", "/v1/auth/login", json=credentials)
    note_tokens(answer, secrets)
    tokens = answer.json()["data"]
    note_tokens(fortress.call("POST", "/v1/auth/refresh", json={"refreshToken": tokens["refreshToken"]}), secrets)
    # The second use of a refresh token revokes its family; the session of the registration goes on.
    fortress.call("POST", "/v1/auth/refresh", json={"refreshToken": tokens["refreshToken"]})
    answer = fortress.call("POST", "/v1/auth/login", json=credentials)
    note_tokens(answer, secrets)
    bearer = {"Authorization": f"Bearer {answer.json()['data']['accessToken']}"}
    request = {"actionType": "SOLVE_PROBLEM", "metadata": {}}
    action = data_of(fortress.call("POST", "/v1/actions/request", json=request, headers=bearer))
    secrets.add(action_token=action["actionToken"], proof_key=action["proofKey"])
    sent = completion(action, data="data of the proof that is nobody's business")
    secrets.add(checksum=sent["proof"]["checksum"], data=sent["proof"]["data"])
    done = fortress.call("POST", "/v1/actions/complete", json=sent, headers={**bearer, "Prefer": "wait=10"})
    assert done.status_code == 200, done.text
    ticket = fortress.call("POST", "/v1/stream/ticket", headers=bearer).json()["data"]["ticket"]
    secrets.add(ticket=ticket)
    with SseClient(f"{fortress.url}/v1/leaderboard/stream", params={"ticket": ticket, "lastEventId": "1-1"}) as stream:
        stream.wait_for("leaderboard:initial")
    fortress.call("POST", "/v1/auth/logout", headers=bearer)


def fail(fortress: Fortress, body: Json, secrets: Secrets) -> None:
    """Everything that is refused or breaks, with secrets in the places where they don't belong."""
    wrong = "a wrong pass phrase that nobody may read"
    secrets.add(wrong_password=wrong)
    fortress.call("POST", "/v1/auth/login", json={"username": body["username"], "password": wrong})
    fortress.call(
        "POST",
        "/v1/auth/login",
        content=json.dumps({"password": wrong})[:-1],
        headers={"Content-Type": "application/json"},
    )
    fortress.call("POST", "/v1/auth/login", json={"username": "a", "password": [wrong]})
    fortress.call("POST", "/v1/auth/register", json={**account(), "password": wrong * 20})
    poisoned = account(username=f"{POISON} {new_name()}", password=wrong)
    secrets.add(email=poisoned["email"])
    assert fortress.call("POST", "/v1/auth/register", json=poisoned).status_code == 500
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJlIHRoYXQgaXMgbm9uZQ"
    secrets.add(token=token)
    fortress.call("GET", "/v1/users/me/score", headers={"Authorization": f"Bearer {token}"})
    fortress.call("GET", "/v1/users/me/score", cookies={"__Host-access_token_cookie": token})
    fortress.call("GET", f"/v1/leaderboard/stream?ticket={token}&lastEventId={token}")
    fortress.call("GET", f"/v1/leaderboard?access_token={token}&password={quote(wrong)}")
    fortress.call("POST", "/v1/auth/refresh", json={"refreshToken": token})
    fortress.call("GET", "/metrics", headers=fortress.operator)
    fortress.call("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
    send_bytes(
        fortress, f"GET /?ticket={token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nBad\x1b: {token}\r\n\r\n".encode()
    )
    send_bytes(fortress, f"GET /?ticket={token}\x1b HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    fortress.call("OPTIONS", "/v1/auth/login", headers={"Origin": FRIEND, "Cookie": f"a={token}"})


def note_tokens(answer: httpx.Response, secrets: Secrets) -> None:
    assert answer.is_success, answer.text
    data = answer.json()["data"]
    secrets.add(access=data["accessToken"], refresh=data["refreshToken"], **dict(answer.cookies))


SECRET = "S3cretS3cret"
WRONG_SETTINGS = {
    "DATABASE_URL": f"mysql://user:{SECRET}@127.0.0.1:1/none",
    "DATABASE_REPLICA_URL": f"postgresql://user:{SECRET}@127.0.0.1:port/none",
    "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:port/0",
    "CELERY_BROKER_URL": f"http://:{SECRET}@127.0.0.1:1/0",
    "JWT_SECRET": SECRET,
    "OPERATOR_TOKEN": SECRET,
    "ACTION_TOKEN_KEYS": SECRET,
}


@pytest.mark.parametrize("command", ["verify", "migrate"])
def test_a_start_that_fails_quotes_no_secret(service: Service, command: str) -> None:
    unreachable = {"DATABASE_URL": f"postgresql://user:{SECRET}@127.0.0.1:1/none"}
    short = {**WRONG_SETTINGS, "JWT_SECRET": SECRET[:8], "OPERATOR_TOKEN": SECRET[:8]}
    for settings in (unreachable, short):
        changed = replace(service, settings_env={**service.settings_env, "LOG_LEVEL": "DEBUG", **settings})
        done = changed.run(command)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert SECRET[:8] not in said
        assert "Traceback" not in said
        if settings is short:
            assert set(re.findall(r"^([A-Z_]+): ", said, re.MULTILINE)) == set(WRONG_SETTINGS)
