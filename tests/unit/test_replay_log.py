"""The parts of a replay that need no service: reading the log, choosing names, comparing the board."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from scoreboard.domain.accounts import normalise_username
from scoreboard.replay.board import Expected, Row, differences
from scoreboard.replay.log import LogError, Team, read_log
from scoreboard.replay.names import choose_usernames, number_username, username_key
from scoreboard.replay.play import sign
from scoreboard.replay.stats import percentile

CONTEST = {"kind": "contest", "name": "Practice", "durationMs": 1000}
RED = {"kind": "team", "team": "T1", "name": "red"}
BLUE = {"kind": "team", "team": "T2", "name": "blue"}
START = datetime(2026, 1, 1, tzinfo=UTC)


def submission(team: str, problem: str, at_ms: object, accepted: object = True) -> dict[str, object]:
    return {"kind": "submission", "team": team, "problem": problem, "atMs": at_ms, "accepted": accepted}


def write(folder: Path, *entries: object) -> Path:
    path = folder / "log.jsonl"
    lines = [entry if isinstance(entry, bytes) else json.dumps(entry, ensure_ascii=False).encode() for entry in entries]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_only_first_accepted_submissions_are_actions(tmp_path: Path) -> None:
    log = read_log(
        write(
            tmp_path,
            CONTEST,
            RED,
            BLUE,
            submission("T1", "A", 10, accepted=False),
            submission("T1", "A", 20),
            submission("T2", "A", 20),
            submission("T1", "A", 30),
            submission("T1", "B", 40),
        )
    )
    assert [[(solve.problem, solve.at_ms) for solve in player.solves] for player in log.players] == [
        [("A", 20), ("B", 40)],
        [("A", 20)],
    ]
    assert log.action_count == 3
    assert [player.team for player in log.first(1).players] == ["T1"]


def test_a_line_separator_inside_a_name_does_not_end_the_line(tmp_path: Path) -> None:
    log = read_log(write(tmp_path, {"kind": "team", "team": "T1", "name": "a\u2028b\u0085c"}))
    assert log.players[0].name == "a\u2028b\u0085c"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"kind": "team", "team": "\xff"}', "not UTF-8"),
        ({"kind": "balloon"}, "kind must be"),
        ({"team": "T9"}, "kind must be"),
        ({"kind": "team", "team": "T9"}, "name must be a text"),
        (RED, "team T1 is listed twice"),
        (submission("T9", "A", 10), "team T9 is not listed above"),
        (submission("T1", "", 10), "problem must be a text"),
        (submission("T1", "A" * 65, 10), "problem must have at most 64"),
        (submission("T1", "A", -1), "atMs must be a whole number"),
        (submission("T1", "A", True), "atMs must be a whole number"),
        (submission("T1", "A", 1.5), "atMs must be a whole number"),
        (submission("T1", "A", 10**30), "atMs must be a whole number"),
        (submission("T1", "A", 4), "atMs 4 is before 5"),
        (submission("T1", "A", 10, accepted="yes"), "accepted must be true or false"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: object, complaint: str) -> None:
    path = write(tmp_path, RED, submission("T1", "Z", 5), bad)
    with pytest.raises(LogError, match=r"^log\.jsonl, line 3: ") as caught:
        read_log(path)
    assert complaint in str(caught.value)


def test_a_log_without_teams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="has no teams"):
        read_log(write(tmp_path, CONTEST))


def test_names_are_kept_where_the_service_takes_them() -> None:
    assert names("无名", "Team Ω", "naïve 🐈") == ["无名", "Team Ω", "naïve 🐈"]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        (" spaced out ", "spaced out"),
        ("零", "零 [T0]"),
        ("   ", "[T0]"),
        ("\u200d\u200d\u200d", "\u200d\u200d\u200d [T0]"),
        ("a\x00b\u2028c\u202ed\ufeff", "abcd"),
        ("e\u0301tude", "étude"),
        ("x" * 60, "x" * 50),
        ("x" * 49 + " y", "x" * 49),
    ],
)
def test_a_name_is_adapted(name: str, chosen: str) -> None:
    assert names(name) == [chosen]


def test_equal_names_get_their_team() -> None:
    assert names("无名", "other", "无名") == ["无名 [T0]", "other", "无名 [T2]"]
    assert names("STRASSE", "straße") == ["STRASSE [T0]", "straße [T1]"]


def test_an_adapted_name_never_collides_with_a_real_one() -> None:
    chosen = names("a", "A [t0]", "x" * 50, "x" * 51, "x" * 49 + "X")
    assert len({username_key(name) for name in chosen}) == 5
    assert all(2 <= len(name) <= 50 and name == unicodedata.normalize("NFC", name).strip() for name in chosen)


def test_a_numbered_name_still_fits() -> None:
    assert number_username("red", 2) == "red (2)"
    assert number_username("x" * 50, 12) == "x" * 45 + " (12)"


def names(*given: str) -> list[str]:
    return list(choose_usernames(Team(f"T{index}", name) for index, name in enumerate(given)).values())


def test_the_checksum_leaves_points_and_data_empty() -> None:
    # HMAC-SHA256 of "id:1500::" under "key", computed with openssl.
    assert sign("key", "id", 1500) == "2db7c4dedee332304309f71acf61f1f1bd96437d8549960903fc7946d1e4dc37"


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([], 0.5) == 0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(1, 101)), 0.95) == 95


def expected(user_id: str, score: int, reached_s: float | None) -> Expected:
    reached_at = None if reached_s is None else START + timedelta(seconds=reached_s)
    return Expected(user_id, f"player {user_id}", score, reached_at)


def board(*scores: tuple[str, int]) -> list[Row]:
    return [Row(rank, user_id, f"player {user_id}", score) for rank, (user_id, score) in enumerate(scores, start=1)]


def test_a_board_in_order_matches_and_strangers_do_not_matter() -> None:
    players = [expected("a", 2, 9), expected("b", 2, 3), expected("c", 0, None)]
    assert differences(board(("x", 5), ("b", 2), ("y", 2), ("a", 2), ("c", 0), ("z", 0)), players) == []


def test_equal_times_may_stand_in_either_order() -> None:
    players = [expected("a", 2, 3), expected("b", 2, 3)]
    assert differences(board(("a", 2), ("b", 2)), players) == []
    assert differences(board(("b", 2), ("a", 2)), players) == []


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (board(("a", 3), ("b", 1)), "player a: 3 on the board, 2 in the log"),
        (board(("a", 2)), "player b: not among the 1 rows of the board, 2 in the log"),
        (board(("a", 2), ("b", 2)), "player a stands above player b, who reached 2 first"),
        (board(("b", 2), ("a", 2), ("b", 2)), "a player stands on the board twice"),
        ([Row(1, "b", "b", 2), Row(1, "a", "a", 2)], "b (2) stands above a (2)"),
    ],
)
def test_each_difference_is_named(rows: list[Row], complaint: str) -> None:
    found = differences(rows, [expected("a", 2, 9), expected("b", 2, 3)])
    assert complaint in found


@pytest.mark.parametrize(
    ("given", "chosen"), [("Ada\u00a0Team", "Ada Team"), ("山\u3000田", "山 田"), ("\u2800\u2800", "[T0]")]
)
def test_a_name_becomes_one_that_the_service_takes(given: str, chosen: str) -> None:
    assert names(given) == [normalise_username(chosen)]
