"""The number of players that a stream shows is the one that pages show."""

from __future__ import annotations

from tests.functional.client import Api, data_of, open_stream, register
from tests.service import Service

# The bound on telling a number alone, a round of the reader, and other tests on the same cores.
TOLD_S = 30.0


def test_a_newcomer_below_the_top_is_counted_on_open_streams(service: Service) -> None:
    for _ in range(11):
        register(service.url).score_point()
    with open_stream(service.url) as stream:
        stream.wait_for("leaderboard:initial")
        # The first one may come along with the last of the points above; nothing else moves for the second.
        for _ in range(2):
            newcomer = register(service.url)
            assert newcomer.score()["rank"] > 10
            shown = data_of(Api(service.url).get("/v1/leaderboard/top10"))["totalPlayers"]
            stream.wait_for(lambda event: event.json().get("totalPlayers", 0) >= shown, TOLD_S)  # noqa: B023
        with open_stream(service.url) as late:
            assert late.wait_for("leaderboard:initial").json()["totalPlayers"] >= shown
