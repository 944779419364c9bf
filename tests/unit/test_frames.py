"""Server-sent events by the rules of the HTML standard, read back by a parser that knows nothing of our code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.live.stream.events import Position
from scoreboard.live.stream.frames import frame, json_frame, retry_frame
from tests.functional.sse import SseEvent, SseParser

NASTY = [
    "a\nb",
    "a\rb",
    "a\r\nb",
    "a\n\nevent: score:update\ndata: {}\n\nb",
    "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg",
    "\ufeffa",
    "a\x00b",
    ": comment",
    " leading and trailing ",
    "\\n\\",
    '"quoted"',
    "🎉" * 50,
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def parse(stream: bytes, *, step: int = 0) -> list[SseEvent]:
    parser = SseParser()
    chunks = [stream[i : i + step] for i in range(0, len(stream), step)] if step else [stream]
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_a_frame_is_these_bytes() -> None:
    assert json_frame("heartbeat", {"version": 7}) == b'event: heartbeat\ndata: {"version":7}\n\n'
    expected = b'id: 3:14\nevent: score:update\ndata: {"newScore":5}\n\n'
    assert json_frame("score:update", {"newScore": 5}, Position(3, 14)) == expected


def test_an_id_is_sent_where_there_is_one() -> None:
    (with_id,) = parse(json_frame("a", {}, Position(1, 2)))
    (without,) = parse(json_frame("a", {}))
    (zero,) = parse(json_frame("a", {}, 0))
    assert (with_id.id, without.id, zero.id) == ("1:2", None, "0")


def test_an_event_without_id_keeps_the_last_one() -> None:
    parser = SseParser()
    parser.feed(json_frame("a", {}, "1:2") + json_frame("heartbeat", {}))
    assert parser.last_event_id == "1:2"


def test_the_reconnection_time_is_set_without_an_event() -> None:
    parser = SseParser()
    assert parser.feed(retry_frame(2_500)) == []
    assert parser.retry_ms == 2_500


@pytest.mark.parametrize("name", NASTY)
def test_no_name_breaks_a_frame(name: str) -> None:
    data = {"leaderboard": [{"rank": 1, "username": name}]}
    event, after = parse(json_frame("leaderboard:update", data, "1:2") + json_frame("heartbeat", {"version": 1}))
    assert (event.event, event.id, event.json()) == ("leaderboard:update", "1:2", data)
    assert after.event == "heartbeat"


@given(st.dictionaries(st.text(), json_values, max_size=4), st.integers(1, 7))
def test_any_object_arrives_as_it_was_however_the_stream_is_cut(data: dict[str, Any], step: int) -> None:
    stream = retry_frame(1_000) + json_frame("first", data, "1:1") + json_frame("second", {"whole": True}, "1:2")
    for events in (parse(stream), parse(stream, step=step)):
        assert [(event.event, event.id) for event in events] == [("first", "1:1"), ("second", "1:2")]
        assert json.loads(events[0].data) == data


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_frame_is_one_line_of_data(data: dict[str, Any]) -> None:
    sent = json_frame("a", data, "1:1")
    assert sent.endswith(b"\n\n")
    assert sent.count(b"\n") == 4
    assert sent.count(b"\r") == 0


def test_ready_made_json_is_sent_as_it_is() -> None:
    assert frame("a", b'{"b":1}', "1:1") == json_frame("a", {"b": 1}, "1:1")
