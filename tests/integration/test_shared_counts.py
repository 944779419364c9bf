"""What workers have counted, as a scrape reads it from Redis."""

from __future__ import annotations

import redis

from scoreboard.live.shared_counts import SharedCounts


def test_what_no_worker_wrote_hides_nothing(client: redis.Redis) -> None:
    counts = SharedCounts(client)
    counts.add({"a": 1.5, "b": 2.0})
    for number, value in enumerate((b"x", b"", b"nan", b"inf", b"\xff")):
        client.hset("sb:metrics", f"odd {number}", value)
    client.hset("sb:metrics", b"\xff\xfe", b"1")
    assert counts.read() == {"a": 1.5, "b": 2.0, "\ufffd\ufffd": 1.0}
    counts.add({"a": 1.0})
    assert counts.read()["a"] == 2.5


def test_while_there_is_no_hash_the_last_numbers_are_told(client: redis.Redis) -> None:
    counts = SharedCounts(client)
    counts.add({"a": 1.5})
    counts.read()
    client.set("sb:metrics", "no hash")
    assert counts.read() == {"a": 1.5}
