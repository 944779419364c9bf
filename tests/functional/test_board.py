"""The board: its order, slices of it, own standing and history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
import redis

from scoreboard.local import LocalServers
from tests.functional.client import (
    Admin,
    Api,
    Json,
    Player,
    assert_refused,
    board,
    create_staff,
    data_of,
    eventually,
    new_name,
    pages,
    register,
)
from tests.service import Service, running_service

# Scores by the order of registration; equal ones are reached in this order as well.
SCORES = [30, 10, 30, 0, 50, 10, 0, 30, 20, 0, 40, 10]


@dataclass
class Game:
    """A service of its own, whose every player is known."""

    service: Service
    admin: Admin
    players: list[Player]

    @property
    def api(self) -> Api:
        return Api(self.service.url)

    @property
    def in_order(self) -> list[Player]:
        """By score, then by who reached it first, then by id; sorting is stable."""
        numbers = sorted(range(len(SCORES)), key=lambda number: -SCORES[number])
        return [self.players[number] for number in numbers]


@pytest.fixture(scope="module")
def game(local_servers: LocalServers) -> Iterator[Game]:
    with running_service(local_servers) as service:
        admin = create_staff(service)
        players = [register(service.url) for _ in SCORES]
        for player, score in zip(players, SCORES, strict=True):
            if score:
                admin.adjust(player, score)
        _wait_for_scores(service, sum(SCORES))
        yield Game(service, admin, players)


def _wait_for_scores(service: Service, total: int) -> None:
    api = Api(service.url)
    eventually(lambda: sum(row["score"] for row in board(api)), lambda found: found == total)


def test_the_order_is_score_then_who_reached_it_first(game: Game) -> None:
    rows = board(game.api)
    assert [row["userId"] for row in rows] == [player.id for player in game.in_order]
    assert [row["score"] for row in rows] == sorted(SCORES, reverse=True)
    assert [row["username"] for row in rows] == [player.username for player in game.in_order]


def test_ranks_count_from_one_without_shared_places(game: Game) -> None:
    assert [row["rank"] for row in board(game.api)] == list(range(1, len(SCORES) + 1))


def test_a_row_is_as_specified(game: Game) -> None:
    data = data_of(game.api.get("/v1/leaderboard"))
    assert {"leaderboard", "totalPlayers", "lastUpdated", "version"} <= set(data)
    assert len(data["leaderboard"]) == 10, "ten rows unless asked otherwise"
    assert data["totalPlayers"] == len(SCORES), "staff are no players"
    assert isinstance(data["version"], int)
    for row in data["leaderboard"]:
        assert set(row) == {"rank", "userId", "username", "score", "updatedAt"}


def test_players_without_points_stand_at_the_end_by_registration(game: Game) -> None:
    without = [player.id for player, score in zip(game.players, SCORES, strict=True) if score == 0]
    assert [row["userId"] for row in board(game.api)][-len(without) :] == without


@pytest.mark.parametrize(
    ("limit", "offset"), [(1, 0), (5, 0), (5, 5), (5, 10), (3, 11), (10, 12), (100, 0), (100, 1_000_000)]
)
def test_pages_are_slices_of_the_whole(game: Game, limit: int, offset: int) -> None:
    assert board(game.api, limit, offset) == board(game.api)[offset : offset + limit]


def test_the_top_ten_is_the_first_page(game: Game) -> None:
    assert data_of(game.api.get("/v1/leaderboard/top10"))["leaderboard"] == board(game.api, 10)


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": -1},
        {"limit": "x"},
        {"limit": 1.5},
        {"limit": ""},
        {"offset": -1},
        {"offset": "1e3"},
        {"offset": 2**70},
        {"page": 2},
    ],
)
def test_a_bad_page_is_refused(game: Game, params: Json) -> None:
    assert_refused(game.api.get("/v1/leaderboard", **params), 400, "VALIDATION_FAILED", next(iter(params)))


@pytest.mark.parametrize("radius", [None, 0, 1, 3, 50])
@pytest.mark.parametrize("place", [0, 1, 5, len(SCORES) - 2, len(SCORES) - 1])
def test_around_shows_the_rows_on_both_sides(game: Game, place: int, radius: int | None) -> None:
    player = game.in_order[place]
    path = f"/v1/leaderboard/around/{player.id}"
    data = data_of(game.api.get(path) if radius is None else game.api.get(path, radius=radius))
    reach = 5 if radius is None else radius
    assert data["leaderboard"] == board(game.api)[max(0, place - reach) : place + reach + 1]
    me = player.api.get("/v1/leaderboard/around/me", radius=reach)
    assert data_of(me)["leaderboard"] == data["leaderboard"]


def test_around_somebody_unknown_is_not_found(game: Game) -> None:
    for user in (str(uuid4()), "nobody", "1"):
        assert_refused(game.api.get(f"/v1/leaderboard/around/{user}"), 404, "NOT_FOUND")
    for radius in (-1, "x", 1_000_000):
        response = game.api.get(f"/v1/leaderboard/around/{game.players[0].id}", radius=radius)
        assert_refused(response, 400, "VALIDATION_FAILED", "radius")


def test_the_own_score_has_rank_and_percentile(game: Game) -> None:
    others = len(SCORES) - 1
    for place, player in enumerate(game.in_order):
        own = player.score()
        assert own["rank"] == place + 1
        assert own["score"] == board(game.api)[place]["score"]
        assert own["percentile"] == pytest.approx((others - place) / others * 100, abs=0.01)
        assert own["totalActions"] == 0
        assert own["lastUpdated"]
        public = data_of(game.api.get(f"/v1/users/{player.id}/score"))
        assert public == own
    assert_refused(game.api.get(f"/v1/users/{uuid4()}/score"), 404, "NOT_FOUND")


def test_an_unchanged_board_is_answered_by_304(game: Game) -> None:
    for path in ("/v1/leaderboard", "/v1/leaderboard/top10"):
        first = game.api.get(path)
        tag = first.headers["ETag"]
        assert "max-age" in first.headers["Cache-Control"]
        again = game.api.call("GET", path, headers={"If-None-Match": tag})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["ETag"] == tag
        other = game.api.call("GET", path, headers={"If-None-Match": '"another"'})
        assert other.status_code == 200


def test_an_adjustment_is_an_item_of_the_history_without_an_action(game: Game) -> None:
    (item,) = game.players[0].history()
    assert set(item) == {"actionId", "actionType", "previousScore", "increment", "newScore", "reason", "at"}
    assert item["actionId"] is None
    assert (item["previousScore"], item["increment"], item["newScore"]) == (0, 30, 30)
    assert item["reason"] == "a test"


# The tests below change the board; each puts right what the others rely on, or uses players that they don't.


def test_a_change_shows_in_tag_version_and_order(game: Game) -> None:
    before = game.api.get("/v1/leaderboard")
    player, last_with_ten = game.players[3], game.players[11]
    game.admin.adjust(player, 10)
    after = eventually(
        lambda: game.api.call("GET", "/v1/leaderboard", headers={"If-None-Match": before.headers["ETag"]}),
        lambda answer: answer.status_code == 200,
    )
    assert after.headers["ETag"] != before.headers["ETag"]
    assert data_of(after)["version"] > data_of(before)["version"]
    order = [row["userId"] for row in board(game.api)]
    assert order.index(player.id) == order.index(last_with_ten.id) + 1, "the last to reach 10 stands behind the others"
    game.admin.adjust(player, -10)
    _wait_for_scores(game.service, sum(SCORES))


def test_who_reaches_a_score_last_stands_behind_also_when_coming_from_above(game: Game) -> None:
    first, *_, last = [player for player, score in zip(game.players, SCORES, strict=True) if score == 30]
    game.admin.adjust(first, 5)
    game.admin.adjust(first, -5)
    order = eventually(
        lambda: [row["userId"] for row in board(game.api)],
        lambda order: order.index(first.id) == order.index(last.id) + 1,
    )
    assert len(order) == len(SCORES)


def test_history_comes_in_pages_newest_first(game: Game) -> None:
    player = register(game.service.url, username=new_name("busy"))
    outcomes = [player.score_point() for _ in range(5)]
    game.admin.adjust(player, 3)
    whole = player.history()
    assert [item["newScore"] for item in whole] == [8, 5, 4, 3, 2, 1]
    assert [item["actionId"] for item in whole[1:]] == [each["actionId"] for each in reversed(outcomes)]
    assert {item["actionType"] for item in whole[1:]} == {"SOLVE_PROBLEM"}
    assert pages(player.api, "/v1/users/me/history", limit=1) == whole
    assert pages(player.api, "/v1/users/me/history", limit=4) == whole
    for params in ({"cursor": "garbage"}, {"cursor": "é\0"}, {"limit": 0}, {"limit": 101}, {"unknown": 1}):
        assert_refused(player.api.get("/v1/users/me/history", **params), 400, "VALIDATION_FAILED")
    game.admin.act(player.id, "ban")


def test_a_rank_change_says_how_many_were_passed(game: Game) -> None:
    player = register(game.service.url)
    last = player.score()["rank"]
    without_points = sum(1 for row in board(game.api) if row["score"] == 0) - 1
    outcome = player.score_point()
    assert outcome["previousRank"] == last
    assert outcome["rank"] == last - without_points
    assert outcome["rankChange"] == without_points
    game.admin.act(player.id, "ban")


def test_an_emptied_redis_comes_back_by_itself(game: Game) -> None:
    """The board stays right at every moment, first from Postgres, then from Redis again."""
    rows = board(game.api)
    redis.Redis.from_url(game.service.redis_url).flushall()
    for _ in range(10):
        assert board(game.api) == rows
    eventually(lambda: _board_in_redis(game), lambda status: status == "ok", 20)
    assert board(game.api) == rows


def _board_in_redis(game: Game) -> object:
    return data_of(game.api.get("/health/detailed"))["parts"]["board"]["status"]


def test_rebuilding_by_an_admin_changes_nothing(game: Game) -> None:
    rows = board(game.api)
    data_of(game.admin.api.post("/v1/admin/leaderboard/rebuild"), 202)
    for _ in range(10):
        assert board(game.api) == rows


def test_the_books_are_right(game: Game) -> None:
    done = game.service.run("verify")
    assert done.returncode == 0, done.stdout + done.stderr
