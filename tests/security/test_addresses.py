"""The client's address: headers count as far as the configured proxies vouch for them, and no further."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from config import ROOT, environment_with
from scoreboard.local.supervisor import Supervisor
from tests.functional.client import Api, assert_refused, data_of, eventually, new_name, pages
from tests.security.beside import web_beside
from tests.security.cast import Cast
from tests.security.raw import exchange, request
from tests.service import START_WAIT_S, Service, open_folder

PEER = "127.0.0.1"
PROXIES = (0, 1, 2)
LOGINS_MAX = 3
FORWARDED = "X-Forwarded-For"
# Each from the range for documentation, and used once: counters last for an hour.
_fresh = (f"203.0.{113 + number // 250}.{number % 250 + 1}" for number in count())


@pytest.fixture(scope="module")
def behind(service: Service) -> Iterator[dict[int, Service]]:
    """The service as it is without a trusted proxy, behind one, behind two."""
    # One process is up sooner, and counting is in Redis.
    settings = {"RATE_LIMIT_LOGIN": f"{LOGINS_MAX}/hour", "WEB_CONCURRENCY": "1", "ENVIRONMENT": "development"}
    with ExitStack() as closing:
        yield {
            number: closing.enter_context(web_beside(service, TRUSTED_PROXIES=str(number), **settings))
            for number in PROXIES
        }


def seen_address(service: Service, *headers: tuple[str, str]) -> str:
    """The address that the service's own log has for a request with these headers."""
    request_id = uuid4().hex
    lines = [f"{name}: {value}" for name, value in headers]
    answer = exchange(service.url, request("GET /v1/actions/types", f"X-Request-ID: {request_id}", *lines))
    assert answer.status == 200, answer
    (line,) = eventually(lambda: [line for line in service.lines if request_id in line], bool, 20)
    logged = json.loads(line.partition("| ")[2])
    assert logged["path"] == "/v1/actions/types"
    return str(logged["ip"])


@dataclass(frozen=True)
class Case:
    """Header values, as each proxy adds its own, and what is believed of them by number of trusted proxies."""

    values: Sequence[str]
    believed: tuple[str, str, str]


CASES = {
    "nothing": Case([], (PEER, PEER, PEER)),
    "one entry": Case(["198.51.100.1"], (PEER, "198.51.100.1", PEER)),
    "two entries": Case(["198.51.100.1, 198.51.100.2"], (PEER, "198.51.100.2", "198.51.100.1")),
    "an invented one in front": Case(["8.8.8.8, 198.51.100.1, 10.0.0.1"], (PEER, "10.0.0.1", "198.51.100.1")),
    "many invented ones": Case([", ".join(["8.8.8.8"] * 20 + ["198.51.100.3"])], (PEER, "198.51.100.3", "8.8.8.8")),
    "two header lines": Case(["8.8.8.8", "198.51.100.1, 10.0.0.1"], (PEER, "10.0.0.1", "198.51.100.1")),
    "an empty value": Case([""], (PEER, PEER, PEER)),
    "IPv6": Case(["2001:db8::7"], (PEER, "2001:db8::7", PEER)),
    "a port": Case(["198.51.100.1:4111"], (PEER, "198.51.100.1", PEER)),
    "ports at every hop": Case(["198.51.100.1:4111, 10.0.0.1:52000"], (PEER, "10.0.0.1", "198.51.100.1")),
    "IPv6 with brackets": Case(["[2001:db8::7]"], (PEER, "2001:db8::7", PEER)),
    "IPv6 with brackets and port": Case(["[2001:db8::7]:4111"], (PEER, "2001:db8::7", PEER)),
    "quotes": Case(['"[2001:db8::7]:4111"'], (PEER, "2001:db8::7", PEER)),
    "a zone": Case(["fe80::7%eth0"], (PEER, "fe80::7", PEER)),
    "IPv4 in IPv6": Case(["::ffff:198.51.100.1"], (PEER, "198.51.100.1", PEER)),
    "IPv4 in IPv6 with a port": Case(["[::FFFF:198.51.100.1]:4111"], (PEER, "198.51.100.1", PEER)),
    "IPv4 through a translator": Case(["64:ff9b::c633:6401"], (PEER, "198.51.100.1", PEER)),
    "no space behind the comma": Case(["8.8.8.8,198.51.100.1,10.0.0.1"], (PEER, "10.0.0.1", "198.51.100.1")),
    "many spaces and tabs": Case(["198.51.100.1 \t ,\t  10.0.0.1"], (PEER, "10.0.0.1", "198.51.100.1")),
    "unknown": Case(["198.51.100.1, unknown"], (PEER, PEER, "198.51.100.1")),
    "unknown behind a known proxy": Case(["unknown, 10.0.0.1"], (PEER, "10.0.0.1", "10.0.0.1")),
    "a hidden name": Case(["_hidden, _proxy"], (PEER, PEER, PEER)),
    # A client's own commas must not move the count, nor its quotes swallow what the proxies say.
    "an empty entry at the end": Case(["198.51.100.1,"], (PEER, PEER, "198.51.100.1")),
    "empty entries in front": Case([",,, 198.51.100.1"], (PEER, "198.51.100.1", "198.51.100.1")),
    "an open quote in front": Case(['"8.8.8.8, 198.51.100.1, 10.0.0.1'], (PEER, "10.0.0.1", "198.51.100.1")),
    "three header lines": Case(["8.8.8.8", "198.51.100.1", "10.0.0.1"], (PEER, "10.0.0.1", "198.51.100.1")),
}


@pytest.mark.parametrize("proxies", PROXIES)
@pytest.mark.parametrize("case", CASES)
def test_the_log_has_the_address_that_the_trusted_proxies_vouch_for(
    behind: dict[int, Service], case: str, proxies: int
) -> None:
    headers = [(FORWARDED, value) for value in CASES[case].values]
    assert seen_address(behind[proxies], *headers) == CASES[case].believed[proxies]


OTHERS = [
    ("Forwarded", "for=198.51.100.9"),
    ("X-Real-IP", "198.51.100.9"),
    ("CF-Connecting-IP", "198.51.100.9"),
    ("True-Client-IP", "198.51.100.9"),
    ("X-Client-IP", "198.51.100.9"),
    ("X-Cluster-Client-IP", "198.51.100.9"),
    ("Fastly-Client-IP", "198.51.100.9"),
    ("Fly-Client-IP", "198.51.100.9"),
    ("X-Originating-IP", "198.51.100.9"),
    ("X-Remote-IP", "198.51.100.9"),
    ("X-Remote-Addr", "198.51.100.9"),
    ("Client-IP", "198.51.100.9"),
    ("REMOTE_ADDR", "198.51.100.9"),
    ("X_Forwarded_For", "198.51.100.9"),
    ("X-Forwarded", "for=198.51.100.9"),
    ("X-ProxyUser-Ip", "198.51.100.9"),
    ("Via", "1.1 198.51.100.9"),
]


@pytest.mark.parametrize("proxies", PROXIES)
def test_no_other_header_says_who_is_calling(behind: dict[int, Service], proxies: int) -> None:
    """Not even all of them at once, in any number of proxies."""
    assert seen_address(behind[proxies], *OTHERS) == PEER


def test_no_proxy_protocol_line_says_who_is_calling(behind: dict[int, Service]) -> None:
    for proxies in PROXIES:
        line = b"PROXY TCP4 198.51.100.9 127.0.0.1 4000 80\r\n"
        assert exchange(behind[proxies].url, line + request("GET /health")).status == 400


# -- limits ----------------------------------------------------------------------------


def try_login(service: Service, name: str, *, forwarded: str, **headers: str) -> int:
    body = {"username": name, "password": "not the password"}
    return Api(service.url).post("/v1/auth/login", body, **{FORWARDED: forwarded}, **headers).status_code


def statuses(service: Service, values: Sequence[str]) -> list[int]:
    """The answers to one bad login of one name for each header value."""
    name = new_name("nobody")
    return [try_login(service, name, forwarded=value) for value in values]


LIMITED = [401] * LOGINS_MAX + [429]


def test_invented_addresses_make_no_room_under_a_limit(behind: dict[int, Service]) -> None:
    """Each attempt says that it comes from elsewhere; what the trusted proxies say is the same."""
    invented = [f"{next(_fresh)}" for _ in LIMITED]
    real = next(_fresh)
    assert statuses(behind[0], invented) == LIMITED
    assert statuses(behind[1], [f"{each}, {real}" for each in invented]) == LIMITED
    assert statuses(behind[2], [f"{each}, {real}, 10.0.0.1" for each in invented]) == LIMITED


def test_the_proxies_before_the_trusted_ones_make_no_difference(behind: dict[int, Service]) -> None:
    """Behind two the last entry is the outer proxy's address: another one is the same caller still."""
    real = next(_fresh)
    assert statuses(behind[2], [f"{real}, 10.0.0.{number}" for number in range(4)]) == LIMITED


def test_callers_of_different_addresses_do_not_count_together(behind: dict[int, Service]) -> None:
    assert statuses(behind[1], [next(_fresh) for _ in LIMITED]) == [401] * len(LIMITED)
    assert statuses(behind[2], [f"{next(_fresh)}, 10.0.0.1" for _ in LIMITED]) == [401] * len(LIMITED)


def test_who_names_fewer_proxies_than_there_are_is_the_peer(behind: dict[int, Service]) -> None:
    assert statuses(behind[2], [next(_fresh) for _ in LIMITED]) == LIMITED


def test_what_is_no_address_counts_as_the_proxys_own(behind: dict[int, Service]) -> None:
    """A proxy that passes on nonsense gives its clients no counters of their own; those behind others keep theirs."""
    nonsense = ["garbage", "198.51.100.300", "a" * 500, "198.51.100.1:four"]
    assert statuses(behind[1], nonsense) == LIMITED
    name = new_name("nobody")
    behind_proxies = [f"unknown, {next(_fresh)}" for _ in LIMITED]
    assert [try_login(behind[2], name, forwarded=value) for value in behind_proxies] == [401] * len(LIMITED)


def test_a_port_makes_no_other_caller(behind: dict[int, Service]) -> None:
    real = next(_fresh)
    assert statuses(behind[1], [f"{real}:{4000 + number}" for number in range(4)]) == LIMITED
    assert statuses(behind[1], [f"{next(_fresh)}:4000" for _ in LIMITED]) == [401] * len(LIMITED)


def forwarded_problems(service: Service) -> dict[str, float]:
    metrics = Api(service.url).get("/metrics").text
    found = re.findall(r'scoreboard_forwarded_problems_total\{problem="(\w+)"\} (\S+)', metrics)
    return {"missing": 0, "too_few": 0, "unreadable": 0, **{problem: float(number) for problem, number in found}}


def test_what_proxies_do_not_tell_is_counted(behind: dict[int, Service]) -> None:
    # The first answer is checked against the description, which is fetched for it.
    Api(behind[2].url).get("/health")
    before = forwarded_problems(behind[2])
    for values in (["unknown, unknown"], ["unknown, 10.0.0.1"], ["198.51.100.1"], []):
        seen_address(behind[2], *((FORWARDED, value) for value in values))
    after = forwarded_problems(behind[2])
    # The metrics are those of all processes of the tests; nobody else calls meanwhile.
    assert {problem: after[problem] - before[problem] for problem in after} == {
        "missing": 1,
        "too_few": 1,
        "unreadable": 2,
    }


# -- the Forwarded header, and unix sockets ----------------------------------------------


@pytest.fixture(scope="module")
def standard(service: Service) -> Iterator[Service]:
    """Behind one proxy that writes the standard's header."""
    settings = {"TRUSTED_PROXIES": "1", "TRUSTED_PROXY_HEADER": "Forwarded"}
    with web_beside(service, WEB_CONCURRENCY="1", ENVIRONMENT="development", **settings) as beside:
        yield beside


@pytest.mark.parametrize(
    ("value", "believed"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("for=198.51.100.1:4111;proto=https;by=10.0.0.1", "198.51.100.1"),
        ('For="[2001:db8::7]:4111"', "2001:db8::7"),
        ('by=10.0.0.1; FOR = "198.51.100.1"', "198.51.100.1"),
        ("for=8.8.8.8, for=198.51.100.1", "198.51.100.1"),
        ('for="8.8.8.8, for=198.51.100.1', "198.51.100.1"),
        ("for=unknown", PEER),
        ("for=_hidden", PEER),
        ("proto=https", PEER),
        ("for=198.51.100.1;for=8.8.8.8", PEER),
        ("198.51.100.1", PEER),
    ],
)
def test_where_forwarded_is_configured_only_that_header_counts(standard: Service, value: str, believed: str) -> None:
    assert seen_address(standard, ("Forwarded", value), (FORWARDED, "8.8.8.8")) == believed


def test_the_peer_at_a_unix_socket_is_a_proxy_like_any_other(service: Service) -> None:
    with open_folder() as folder:
        at_socket = str(folder / "web.sock")
        # Such a socket can't be shared between processes as a port can.
        config = folder / "gunicorn.conf.py"
        own = f"bind, reuse_port = {f'unix:{at_socket}'!r}, False\n"
        config.write_text((ROOT / "deploy" / "gunicorn.conf.py").read_text(encoding="utf-8") + own, encoding="utf-8")
        lines: list[str] = []
        web = Supervisor(lines.append)
        settings = {"TRUSTED_PROXIES": "1", "WEB_CONCURRENCY": "1"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = environment_with(**{**service.settings_env, **settings}, PATH=path)
        web.start("web", f'gunicorn --config {config} "app:create_app()"', env=environment, cwd=ROOT)
        try:
            eventually(lambda: Path(at_socket).exists(), bool, START_WAIT_S)
            with httpx.Client(transport=httpx.HTTPTransport(uds=at_socket), base_url=service.url, timeout=30) as http:
                for value, expected in (("198.51.100.1", "198.51.100.1"), ("unknown", "unix"), (None, "unix")):
                    headers = {"X-Request-ID": uuid4().hex, **({FORWARDED: value} if value else {})}
                    assert http.get("/v1/actions/types", headers=headers).status_code == 200
                    (line,) = eventually(lambda: [each for each in lines if headers["X-Request-ID"] in each], bool, 20)  # noqa: B023
                    assert json.loads(line.partition("| ")[2])["ip"] == expected
                name = {"username": new_name("nobody"), "password": "not the password"}
                assert http.post("/v1/auth/login", json=name).status_code == 401
                with http.stream("GET", "/v1/leaderboard/stream", headers={FORWARDED: "198.51.100.1"}) as stream:
                    assert "leaderboard:initial" in next(text for text in stream.iter_text() if "event:" in text)
        finally:
            web.stop()


def test_a_network_of_one_customer_counts_as_one(behind: dict[int, Service]) -> None:
    network = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}"
    assert statuses(behind[1], [f"{network}::{number}" for number in range(4)]) == LIMITED
    assert statuses(behind[1], [f"2001:db8:ffff:{number:x}::1" for number in range(4)]) == [401] * len(LIMITED)


def test_one_address_in_two_notations_counts_as_one(behind: dict[int, Service]) -> None:
    real = next(_fresh)
    notations = [real, f"::ffff:{real}", f"::FFFF:{real}", real]
    assert statuses(behind[1], notations) == LIMITED


# -- the audit log ---------------------------------------------------------------------


def test_the_audit_log_has_the_same_address(behind: dict[int, Service], cast: Cast) -> None:
    for proxies, expected in ((0, PEER), (1, "198.51.100.2"), (2, "198.51.100.1")):
        name = new_name()
        body = {"username": name, "email": f"{uuid4().hex}@example.com", "password": "a long enough pass phrase"}
        answer = Api(behind[proxies].url).post(
            "/v1/auth/register", body, **{FORWARDED: "8.8.8.8, 198.51.100.1, 198.51.100.2", "X-Real-IP": "8.8.8.8"}
        )
        user_id = data_of(answer, 201)["user"]["id"]
        (item,) = pages(cast.admin.api, "/v1/admin/audit", userId=user_id, event="user.registered")
        assert item["ip"] == expected


def test_nonsense_from_a_trusted_proxy_is_no_address_in_the_audit_log(behind: dict[int, Service], cast: Cast) -> None:
    body = {"username": cast.player.username, "password": "not the password"}
    answer = Api(behind[1].url).post("/v1/auth/login", body, **{FORWARDED: "<script>alert(1)</script>"})
    assert_refused(answer, 401, "INVALID_CREDENTIALS")
    items = pages(cast.admin.api, "/v1/admin/audit", userId=cast.player.id, event="user.login_failed")
    assert items[0]["ip"] == PEER
