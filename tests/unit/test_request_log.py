"""The log of requests: whole lines, soon, and only at a level that asks for them."""

from __future__ import annotations

import io
import threading
from typing import Any

import orjson
import pytest

from scoreboard.logs import RequestLog

WAIT_S = 5.0


class Stream(io.BytesIO):
    """Says when it has been flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_flushed = threading.Event()

    def flush(self) -> None:
        super().flush()
        self.is_flushed.set()


def test_a_line_is_json_with_everything_in_it_and_arrives_by_itself() -> None:
    stream = Stream()

    def add_trace(_logger: object, _method: str, event: Any) -> Any:
        event["trace_id"] = "abc"
        return event

    log = RequestLog("INFO", [add_trace], stream)
    log.write({"path": "/v1/…\nforged", "status": 200})
    log.write({"path": "/second", "status": 404})
    assert stream.is_flushed.wait(WAIT_S)
    first, second = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert first["event"] == "request"
    assert first["level"] == "info"
    assert first["path"] == "/v1/…\nforged"
    assert first["trace_id"] == "abc"
    assert first["timestamp"].endswith("Z")
    assert second["status"] == 404


def test_later_lines_arrive_too() -> None:
    stream = Stream()
    log = RequestLog("INFO", stream=stream)
    for number in range(3):
        stream.is_flushed.clear()
        log.write({"number": number})
        assert stream.is_flushed.wait(WAIT_S)
    assert len(stream.getvalue().splitlines()) == 3


@pytest.mark.parametrize(
    ("level", "is_wanted"), [("DEBUG", True), ("INFO", True), ("WARNING", False), ("ERROR", False)]
)
def test_the_level_decides(level: str, is_wanted: bool) -> None:
    assert RequestLog(level, stream=Stream()).is_wanted is is_wanted
