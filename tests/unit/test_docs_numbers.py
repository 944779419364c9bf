"""Numbers in the documents that stand in the code too: a sentence with a hole for each number, and what belongs there.

Changing such a number in the code fails here until the sentence says it. Changing the sentence means changing it here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from config import ROOT, Settings
from scoreboard import coalesce as coalesce
from scoreboard import logs
from scoreboard.cli import keys
from scoreboard.domain.accounts import PASSWORD_MAX, PASSWORD_MIN, USERNAME_MAX, USERNAME_MIN
from scoreboard.domain.actions import DATA_MAX_BYTES
from scoreboard.domain.rules import BURST_MAXIMUM, BURST_WINDOW, CLOCK_TOLERANCE_MS
from scoreboard.domain.standings import TOP_SIZE
from scoreboard.live.queue import doorbell
from scoreboard.live.queue.app import QUEUE_MAX_MESSAGES
from scoreboard.live.stream import events, hub, stream_slots
from scoreboard.live.stream.outlet import PRIVATE_MAX
from scoreboard.local.supervisor import LOG_BYTES
from scoreboard.replay.run import REGISTERING
from scoreboard.services.actions import catalogue, sweep
from scoreboard.services.upkeep import health, housekeeping, verify
from scoreboard.store import clock, engine, timeouts
from scoreboard.store.timeouts import CONNECT_S
from scoreboard.web.api import errors as api_errors
from scoreboard.web.api import requests
from scoreboard.web.door.preferences import WAIT_MAX_S
from scoreboard.web.server import worker
from scoreboard.web.server.bodies import BODY_MAX_BYTES, BODY_WAIT_S
from scoreboard.web.server.socket_outlet import STALLED_S
from scoreboard.web.views import stream
from tests.unit.test_docs import API, rows
from workers.schedule import SCHEDULE

DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}
RATES = {name: re.findall(r"(\d+)/", str(DEFAULTS[name])) for name in DEFAULTS if name.startswith("rate_limit")}
COMPLETIONS = RATES["rate_limit_complete"]
PERIODS = tuple(SCHEDULE[name]["schedule"] for name in ("sweep", "ensure-board", "compare-board", "housekeeping"))
BURST_S = BURST_WINDOW.total_seconds()
SLACK_S = timeouts._MORE_THAN_STATEMENT_S
ANSWER_S = engine.REQUEST_STATEMENT_S + SLACK_S
CUT = (logs._TEXT_MAX, logs._STACK_MAX, api_errors.PATH_MAX)
LEASE = (stream_slots._LEASE_S, stream_slots._RENEW_S)
RHYTHM = (doorbell._PERIOD_S * 1000, doorbell._BUSY_PERIOD_S * 1000, doorbell._BUSY_PER_S)


def browser(module: str, constant: str) -> float:
    """A constant of the browser's module."""
    source = (ROOT / f"scoreboard/web/static/scoreboard/{module}.js").read_text(encoding="utf-8")
    found = re.search(rf"^const {constant} = ([0-9_.]+);", source, re.MULTILINE)
    assert found, f"{module}.js has no {constant}"
    return float(found[1])


# What is said in words up to here; beyond, in digits.
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Said(NamedTuple):
    """A sentence of a page; a hole ``{}`` takes digits, ``{w}`` a word."""

    page: str
    sentence: str
    numbers: tuple[object, ...]


SAID = (
    # -- for players and newcomers
    Said("README.md", "Open <http://127.0.0.1:{}/>", (str(DEFAULTS["port"]),)),
    Said("docs/quickstart.md", "A heartbeat comes every {} s", (DEFAULTS["heartbeat_s"],)),
    Said("docs/concepts.md", "it expires after {w} minutes", (DEFAULTS["action_token_ttl_s"] / 60,)),
    Said("docs/glossary.md", "lives for {w} minutes (`ACTION_TOKEN_TTL_S`)", (DEFAULTS["action_token_ttl_s"] / 60,)),
    Said("docs/glossary.md", "at most {w} (`MAX_OPEN_ACTIONS`)", (DEFAULTS["max_open_actions"],)),
    Said("docs/glossary.md", "Up to {} bytes of text", (DATA_MAX_BYTES,)),
    Said("docs/glossary.md", "every {} seconds (`HEARTBEAT_S`)", (DEFAULTS["heartbeat_s"],)),
    Said("docs/faq.md", "More than {} completions within {} s are held", (BURST_MAXIMUM, BURST_S)),
    Said("docs/faq.md", "`make run` keeps two files of {} MB", (LOG_BYTES / 1e6,)),
    Said("docs/faq.md", "{} days after their end", (housekeeping._KEEP_SESSIONS_DAYS,)),
    Said("docs/catalogue.md", "more than {} seconds is rejected with CLOCK_MISMATCH", (CLOCK_TOLERANCE_MS / 1000,)),
    Said("docs/catalogue.md", "metadata has {} bytes at most", (catalogue.METADATA_MAX_BYTES,)),
    Said("docs/catalogue.md", "is nested {} deep at most", (requests._DEPTH_MAX,)),
    Said("docs/catalogue.md", "0 to {}; one time", (catalogue._TIME_MAX_MS,)),
    Said("docs/catalogue.md", "`ACTION_TOKEN_TTL_S` ({w} minutes)", (DEFAULTS["action_token_ttl_s"] / 60,)),
    Said("docs/running-an-event.md", "their token expires, {w} minutes later", (DEFAULTS["action_token_ttl_s"] / 60,)),
    # -- for builders
    Said("docs/api.md", "have {} to {} characters of any script", (USERNAME_MIN, USERNAME_MAX)),
    Said("docs/api.md", "Passwords have {} to {} characters", (PASSWORD_MIN, PASSWORD_MAX)),
    Said("docs/api.md", "is at most {} KB", (BODY_MAX_BYTES / 1024,)),
    Said("docs/api.md", "`data` is at most {} bytes", (DATA_MAX_BYTES,)),
    Said("docs/api.md", "lives {w} minutes (`ACTION_TOKEN_TTL_S`)", (DEFAULTS["action_token_ttl_s"] / 60,)),
    Said("docs/api.md", "at most {w} open ones (`MAX_OPEN_ACTIONS`)", (DEFAULTS["max_open_actions"],)),
    Said("docs/api.md", "at most {} s; if it isn't there in time", (WAIT_MAX_S,)),
    Said("docs/api.md", "elapsed time by more than {} s", (CLOCK_TOLERANCE_MS / 1000,)),
    Said("docs/api.md", "more than {} completions within {} s", (BURST_MAXIMUM, BURST_S)),
    Said("docs/api.md", "whose body does not come whole within {} s", (BODY_WAIT_S,)),
    Said("docs/api.md", "when the first {w} change", (TOP_SIZE,)),
    Said("docs/api.md", "a queue of {} private events", (PRIVATE_MAX,)),
    Said("docs/api.md", "takes no bytes for {} s is closed", (STALLED_S,)),
    Said("docs/api.md", "the last {} entries are kept", (events.STREAM_MAX_ENTRIES,)),
    Said("docs/api.md", "stream?ticket=…` within {} s", (DEFAULTS["stream_ticket_ttl_s"],)),
    Said("docs/api.md", "come back after {w} to {w} seconds", tuple(ms / 1000 for ms in stream._RETRY_MS)),
    Said("docs/api.md", "A user has at most {} streams at a time", (DEFAULTS["max_streams_per_user"],)),
    Said("docs/api.md", "{} per s, {} per min, {} per h, {} per day", tuple(COMPLETIONS)),
    Said("docs/api.md", "| action requests | {} per min |", tuple(RATES["rate_limit_request"])),
    # -- for operators
    Said("docs/operations.md", "sweep ({} s), ensure-board ({} s), compare-board ({} s), housekeeping ({} s)", PERIODS),
    Said("docs/operations.md", "up to {w} old ones behind", (keys._KEEP,)),
    Said("docs/operations.md", "It names up to {} findings", (verify._FINDINGS_MAX,)),
    Said("docs/operations.md", "the queue stops at {} messages", (QUEUE_MAX_MESSAGES,)),
    Said("docs/operations.md", "one has swept within {} s", (health.WORKER_SILENT_S,)),
    Said("docs/operations.md", "is younger than {} s", (health._UNSETTLED_LATE_S,)),
    Said("docs/operations.md", "looked up within {} s", (hub._SESSION_CHECK_S,)),
    Said("docs/architecture.md", "one message of up to {} ids", (doorbell.BATCH_MAX,)),
    Said("docs/architecture.md", "rows accepted over {} s ago", (sweep.LEFT_BEHIND_S,)),
    Said("docs/architecture.md", "about {} entries", (events.STREAM_MAX_ENTRIES,)),
    Said("docs/operations.md", "web ends its streams over {} s", (worker._SPREAD_S,)),
    Said("docs/operations.md", "They take batches of up to {} actions", (max(doorbell.BATCH_MAX, sweep._BATCH),)),
    Said("docs/operations.md", "PostgreSQL | {} s; requests in progress", (coalesce._WAIT_S,)),
    Said("docs/operations.md", "an answer may take {} s ({} more than the statement itself)", (ANSWER_S, SLACK_S)),
    Said("docs/operations.md", "connecting {} s, getting a free connection {} s", (CONNECT_S, engine._POOL_TIMEOUT_S)),
    Said("docs/operations.md", "in a worker | {} s |", (engine.STATEMENT_S + SLACK_S,)),
    Said("docs/operations.md", "an answer may take {} s, getting a free", (health._HEALTH_S,)),
    Said("docs/operations.md", "asks for it {} a minute", ("twice" if clock._ASK_EVERY_S == 30 else "-",)),
    Said("docs/operations.md", "buffered for up to {} s", (logs._FLUSH_S,)),
    Said("docs/operations.md", "cut at {} characters, stack traces at {}, paths at {}", CUT),
    Said(
        "docs/architecture.md",
        "expire after {} s | leases are renewed every {} s",
        (stream_slots._LEASE_S, stream_slots._RENEW_S),
    ),
    Said("docs/architecture.md", "at most every {} ms ({} ms above {} ids a second)", RHYTHM),
    Said("docs/embedding.md", "At most {} are kept", (browser("completions", "MAX_QUEUED"),)),
    Said("docs/embedding.md", "settled within {} s", (browser("completions", "WAIT_S"),)),
    Said("docs/embedding.md", "after {} s without a first event", (browser("stream", "OPENING_MS") / 1000,)),
    Said("docs/faq.md", "Signing in allows {} tries per name in 15 minutes", (RATES["rate_limit_login"][0],)),
    Said("docs/faq.md", "{} round per second, {} per minute, {} per hour and {} per day", tuple(COMPLETIONS)),
    Said("docs/faq.md", "while its token lives, {w} minutes after its start", (DEFAULTS["action_token_ttl_s"] / 60,)),
    Said("docs/faq.md", "keeps up to {} of them", (browser("completions", "MAX_QUEUED"),)),
    Said("docs/replay.md", "It registers the players, {w} at a time", (REGISTERING,)),
)


UNITS = {"second": "s", "minute": "min", "minutes": "min", "hour": "h", "day": "day"}


def in_words(rates: str) -> str:
    """A setting's rates as the page writes them: "5/15 minutes" is "5 per 15 min"."""
    parts = []
    for count, period in (rate.split("/") for rate in rates.split(";")):
        *length, unit = period.split()
        parts.append(" per ".join([f"{int(count):,}", " ".join([*length, UNITS[unit]])]))
    return ", ".join(parts)


def test_the_table_of_limits_has_every_rate_with_its_default() -> None:
    table = {setting.strip("`").lower(): default for _, default, _, setting in rows(API, "Limits")}
    rates = {name: in_words(str(default)) for name, default in DEFAULTS.items() if name.startswith("rate_limit")}
    assert {name: default.split(", in addition")[0] for name, default in table.items()} == rates


def test_the_limits_for_a_large_event_are_settings_and_higher_than_the_defaults() -> None:
    page = (ROOT / "docs/running-an-event.md").read_text(encoding="utf-8")
    section = page.split("### Think of the shared address\n", 1)[1].split("\n### ", 1)[0]
    values = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|$", section, re.MULTILINE))
    Settings.load(**{name.lower(): value for name, value in values.items()})
    for name, value in values.items():
        first = [int(re.split(r"/", str(text))[0]) for text in (value, DEFAULTS[name.lower()])]
        assert first[0] > first[1], name


def shown(number: object) -> str:
    if isinstance(number, str):
        return number
    assert isinstance(number, int | float)
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


@pytest.mark.parametrize("said", SAID, ids=lambda said: f"{said.page}: {said.sentence}")
def test_the_page_says_the_number_of_the_code(said: Said) -> None:
    text = re.sub(r"\s+", " ", (ROOT / said.page).read_text(encoding="utf-8"))
    numbers = iter(said.numbers)

    def fill(hole: re.Match[str]) -> str:
        number = next(numbers)
        return WORDS[int(str(shown(number)))] if hole[0] == "{w}" else shown(number)

    sentence = re.sub(r"\{w?\}", fill, said.sentence)
    assert next(numbers, None) is None, "a number without a hole"
    assert sentence in text
