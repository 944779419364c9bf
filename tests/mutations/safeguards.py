"""The safeguards, how each is taken out, and the few tests that should notice."""

from __future__ import annotations

from dataclasses import dataclass

STORE, LIVE, SERVICES = "scoreboard/store", "scoreboard/live", "scoreboard/services"
TESTS = "tests/integration"


@dataclass(frozen=True)
class Edit:
    """A piece of text, as short as it can be and still be there exactly once, and what comes in its place."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """``what`` is gone when all edits have been made."""

    name: str
    what: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "ledger-key",
        "the unique key of the ledger",
        (
            Edit(
                f"{STORE}/migrations/versions/0001_initial.sql",
                "    CONSTRAINT uq_score_history_action_id_at UNIQUE (action_id, at),\n",
                "",
            ),
        ),
        (f"{TESTS}/test_settling.py::test_what_the_database_refuses_fails_alone",),
    ),
    Mutation(
        "standing-version",
        "the comparison of versions when a standing is written",
        (Edit(f"{LIVE}/scripts/apply_standings.lua", "if version > old_version then", "if true then"),),
        (
            f"{TESTS}/test_standings.py::test_an_older_version_changes_nothing",
            f"{TESTS}/test_standings.py::test_a_hidden_player_leaves_and_cannot_be_brought_back_by_an_old_write",
        ),
    ),
    Mutation(
        "rebuild-version",
        "the comparison of versions when a rebuild fills the board",
        (Edit(f"{LIVE}/scripts/fill_standings.lua", "is_newer = versions[i] > old_version", "is_newer = true"),),
        (f"{TESTS}/test_standings.py::test_filling_keeps_what_is_newer",),
    ),
    Mutation(
        "lock-order",
        "the order in which settling locks players",
        (
            Edit(f"{STORE}/sql/lock_players.sql", "ORDER BY id FOR NO KEY UPDATE", "FOR NO KEY UPDATE"),
            Edit(f"{STORE}/sql/lock_free_players.sql", "ORDER BY id FOR NO KEY UPDATE", "FOR NO KEY UPDATE"),
        ),
        (f"{TESTS}/test_lock_order.py",),
    ),
    Mutation(
        "lock-order-random",
        "any order in which settling locks players",
        (
            Edit(f"{STORE}/sql/lock_players.sql", "ORDER BY id FOR", "ORDER BY random() FOR"),
            Edit(f"{STORE}/sql/lock_free_players.sql", "ORDER BY id FOR", "ORDER BY random() FOR"),
        ),
        (f"{TESTS}/test_lock_order.py::test_settlers_of_the_same_players_never_wait_in_a_ring",),
    ),
    Mutation(
        "token-once",
        "the state as guard of accepting: a token is good for any number of completions",
        (
            Edit(f"{STORE}/sql/accept_actions.sql", "AND state || '' = 'issued' ORDER BY id", "ORDER BY id"),
            Edit(f"{STORE}/sql/accept_actions.sql", "AND actions.state || '' = 'issued' AND", "AND"),
        ),
        (f"{TESTS}/test_intake.py::test_only_what_matches_is_accepted",),
    ),
    Mutation(
        "token-expiry",
        "the expiry as guard of accepting",
        (Edit(f"{STORE}/sql/accept_actions.sql", " AND actions.expires_at > clock_timestamp()", ""),),
        (f"{TESTS}/test_intake.py::test_only_what_matches_is_accepted",),
    ),
    Mutation(
        "session-ended",
        "the end of a session as guard of issuing and accepting",
        (
            Edit(f"{STORE}/sql/issue_actions.sql", "sessions.revoked_at IS NULL AND ", ""),
            Edit(f"{STORE}/sql/accept_actions.sql", "sessions.revoked_at IS NULL AND ", ""),
        ),
        (f"{TESTS}/test_life_cycle_model.py::test_the_moderated_are_out_at_once_and_keep_what_is_theirs",),
    ),
    Mutation(
        "settle-once",
        "the state as guard of settling: any action may be settled again",
        (
            Edit(f"{STORE}/sql/lock_accepted.sql", "state || '' = 'accepted'", "true"),
            Edit(f"{STORE}/sql/write_settlement.sql", "actions.state || '' = 'accepted'", "true"),
        ),
        (f"{TESTS}/test_settling.py::test_any_number_of_deliveries_counts_once",),
    ),
    Mutation(
        "reached-first",
        "that a score was reached at the latest acceptance, whatever was settled last",
        (
            Edit(
                f"{SERVICES}/actions/judge.py",
                "max(self.reached_at, action.accepted_at)",
                "action.accepted_at",
            ),
        ),
        (f"{TESTS}/test_order_properties.py::test_who_was_first_does_not_depend_on_what_was_settled_first",),
    ),
    Mutation(
        "accept-commit",
        "the commit before the 202",
        (
            Edit(
                f"{SERVICES}/actions/intake.py",
                "with self._database.autocommit() as connection:\n            accepted = ",
                "with self._database.read() as connection:\n            accepted = ",
            ),
        ),
        (
            # Through the processes of the Procfile: they too are the copy's.
            "tests/functional/test_actions.py::test_without_prefer_the_answer_is_202_and_the_outcome_follows",
            f"{TESTS}/test_intake.py::test_a_refused_completion_sees_the_stored_action",
        ),
    ),
    Mutation(
        "accept-commit-first",
        "waiting for the commit: the 202 is sent, and 0.3 s later it is committed",
        (
            Edit(
                f"{SERVICES}/actions/intake.py",
                "with self._database.autocommit() as connection:\n            accepted = ",
                "connection = self._database.primary.connect()\n"
                "        __import__('threading').Timer(0.3, connection.commit).start()\n"
                "        if True:\n            accepted = ",
            ),
        ),
        (f"{TESTS}/test_intake.py::test_a_row_that_postgres_refuses_fails_alone",),
    ),
    Mutation(
        "next-room",
        "the room that a completed action makes: what comes next counts it as open",
        (
            Edit(
                f"{STORE}/sql/accept_actions.sql",
                "- (SELECT count(*) FROM accepted",
                "- 0 * (SELECT count(*) FROM accepted",
            ),
        ),
        (f"{TESTS}/test_next_actions.py::test_completions_make_room_before_what_comes_next_is_counted",),
    ),
    Mutation(
        "next-cap",
        "the lock of a player's open actions while what comes next is counted",
        (
            Edit(
                f"{STORE}/intake.py",
                "_ACCEPT.fetch_after(_LOCK, _lock_keys(issues), connection, **arguments)\n        if issues",
                "_ACCEPT.fetch(connection, **arguments)\n        if issues",
            ),
        ),
        (f"{TESTS}/test_next_actions.py::test_a_player_whose_slots_are_locked_is_accepted_without_what_comes_next",),
    ),
    Mutation(
        "next-once",
        "the id that makes a next action the only one",
        (Edit("scoreboard/domain/actions.py", 'b"next action" + action_id.bytes', "__import__('os').urandom(16)"),),
        (f"{TESTS}/test_next_actions.py::test_fifty_of_one_body_at_once_are_one_acceptance_and_one_next_action[3]",),
    ),
)
