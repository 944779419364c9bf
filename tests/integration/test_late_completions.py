"""Actions that a game server sends after they were completed are judged by its times, beside those that came live."""

from __future__ import annotations

from uuid import UUID

from scoreboard.services.actions.catalogue import Catalogue
from scoreboard.services.actions.settle import settle_actions
from scoreboard.services.upkeep.verify import verify
from scoreboard.store import actions, users
from scoreboard.store.engine import Database
from tests.integration.conftest import Accepted, add_accepted, add_user

_HOUR_S = 3_600


def played(completed_s: float, took_s: float = 5.0, action_type: str = "SOLVE_PROBLEM") -> Accepted:
    """An action that was completed so many seconds from now, and is accepted now."""
    return Accepted(
        action_type, issued_s=completed_s - took_s, completed_s=completed_s, claimed_ms=round(took_s * 1_000)
    )


def outcomes(database: Database, ids: list[UUID]) -> list[tuple[str, str | None]]:
    with database.read() as connection:
        found = {action.id: (action.state.value, action.reason) for action in actions.get_actions(connection, ids)}
    return [found[action_id] for action_id in ids]


def settled(database: Database, catalogue: Catalogue, user_id: UUID, *accepted: Accepted) -> list[tuple[str, object]]:
    ids = [add_accepted(database, user_id, how) for how in accepted]
    settle_actions(database, catalogue, ids)
    return list(outcomes(database, ids))


def test_a_day_sent_at_once_is_no_burst(database: Database, catalogue: Catalogue) -> None:
    player = add_user(database)
    day = [played(-60.0 * minute) for minute in range(1, 30)]
    assert settled(database, catalogue, player.id, *day) == [("applied", None)] * len(day)
    assert verify(database, None).findings == []


def test_a_burst_of_hours_ago_is_one_whenever_it_is_sent(database: Database, catalogue: Catalogue) -> None:
    """Nine within ten seconds, sent in two parts; what was played at other times does not count."""
    player = add_user(database)
    assert (
        settled(database, catalogue, player.id, *(played(-_HOUR_S + second) for second in range(8)))
        == [("applied", None)] * 8
    )
    ninth, later = settled(database, catalogue, player.id, played(-_HOUR_S + 8), played(-_HOUR_S + 60))
    assert (ninth, later) == (("held", "BURST"), ("applied", None))


def test_live_completions_and_late_ones_of_the_same_moment_are_one_burst(
    database: Database, catalogue: Catalogue
) -> None:
    player = add_user(database)
    for second in range(5):
        settled(database, catalogue, player.id, Accepted(issued_s=-_HOUR_S, accepted_s=-_HOUR_S + 60 + second))
    late = settled(database, catalogue, player.id, *(played(-_HOUR_S + 65 + second) for second in range(4)))
    assert late == [("applied", None)] * 3 + [("held", "BURST")]
    # And the other way round: the live one comes when the late ones are known.
    other = add_user(database)
    settled(database, catalogue, other.id, *(played(-second) for second in range(1, 9)))
    assert settled(database, catalogue, other.id, Accepted()) == [("held", "BURST")]


def test_the_game_servers_times_are_the_elapsed_time(database: Database, catalogue: Catalogue) -> None:
    """COMPLETE_LEVEL: easy levels take 1 s to 300 s, and the points fall from the fourth second on."""
    player = add_user(database)
    level = "COMPLETE_LEVEL"
    assert settled(
        database,
        catalogue,
        player.id,
        played(-_HOUR_S, 0.5, level),
        played(-_HOUR_S + 60, 301.0, level),
        played(-_HOUR_S + 120, 3.0, level),
    ) == [("rejected", "COMPLETION_TIME"), ("rejected", "COMPLETION_TIME"), ("applied", None)]
    with database.read() as connection:
        user = users.get_user(connection, player.id)
    assert user is not None
    assert user.score == 10
    assert (user.updated_at - user.score_reached_at).total_seconds() < 60, "reached when it was accepted"
