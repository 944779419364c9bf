"""flask-sse's publish interface, on our stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from flask import Flask

from app import create_app
from config import Settings
from scoreboard.local import LocalServers
from scoreboard.web.bootstrap import current_components
from scoreboard.web.views.stream import blueprint as sse
from tests.integration.test_hub import Reader


@pytest.fixture
def application(local_servers: LocalServers, database_url: str) -> Iterator[Flask]:
    app = create_app(Settings.load(database_url=database_url, redis_url=local_servers.redis_url))
    with app.app_context():
        current_components().redis.flushall()
        yield app
        current_components().hub.stop()


def test_a_word_to_everyone_and_one_to_a_player(application: Flask) -> None:
    hub, mine = current_components().hub, uuid4()
    player, stranger = Reader(hub.subscribe(mine, None, None)), Reader(hub.subscribe(None, None, None))
    sse.publish({"text": "maintenance at five"}, type="notice")
    sse.publish({"text": "well done"}, type="praise", channel=f"user:{mine}")
    assert player.until_named("notice")[0].json() == {"text": "maintenance at five"}
    assert player.until_named("praise")[0].id is not None
    assert stranger.until_named("notice")[0].id is None
    assert stranger.named("praise") == []


def test_messages_follow_a_channel(application: Flask) -> None:
    messages = sse.messages("user:" + str(mine := uuid4()))
    # The generator takes its place in the stream when it is first asked: publish until it has.
    current_components().events.position()
    sse.publish({"n": 0}, channel=f"user:{uuid4()}")
    publisher_done = threading.Event()

    def publish_until_seen() -> None:
        with application.app_context():
            while not publisher_done.wait(0.02):
                sse.publish({"n": 1}, type="score", channel=f"user:{mine}")

    thread = threading.Thread(target=publish_until_seen)
    thread.start()
    message = next(messages)
    publisher_done.set()
    thread.join(10)
    assert (message.type, message.data) == ("score", {"n": 1})


def test_ids_are_not_the_callers_to_give(application: Flask) -> None:
    with pytest.raises(ValueError, match="ids and retry"):
        sse.publish({}, id="7")
