"""The ledger's hash chain: any later edit shows."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scoreboard.domain.ledger import GENESIS, LedgerEntry, append, entry_hash

PLAYER = UUID(int=1)
START = datetime(2026, 1, 1, tzinfo=UTC)

moments = st.datetimes(datetime(1970, 1, 1), datetime(2255, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # zone apart
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "user_id": st.uuids(),
    "seq": st.integers(0, 2**40),
    "action_id": st.none() | st.uuids(),
    "previous_score": st.integers(0, 2**53),
    "increment": st.integers(-(2**53), 2**53),
    "new_score": st.integers(0, 2**53),
    "reason": st.none() | st.text(max_size=20),
    "actor_id": st.none() | st.uuids(),
    "at": moments,
    "previous_hash": st.binary(min_size=32, max_size=32),
    "hash": st.binary(min_size=32, max_size=32),
}
changes = st.lists(
    st.fixed_dictionaries(
        {
            "increment": st.integers(0, 1_000),
            "at": moments,
            "action_id": VALUES["action_id"],
            "reason": VALUES["reason"],
            "actor_id": VALUES["actor_id"],
        }
    ),
    min_size=1,
    max_size=8,
)


def chain(steps: list[dict[str, Any]]) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    seq, score, sealed = 0, 0, GENESIS
    for step in steps:
        entry = append(user_id=PLAYER, seq=seq, previous_score=score, previous_hash=sealed, **step)
        entries.append(entry)
        seq, score, sealed = entry.seq, entry.new_score, entry.hash
    return entries


def is_intact(entries: list[LedgerEntry], head: bytes) -> bool:
    """Walk the chain as a verifier does; ``head`` is the hash kept beside the player's score."""
    sealed = GENESIS
    for entry in entries:
        values = {field.name: getattr(entry, field.name) for field in fields(entry)}
        values.pop("hash")
        if values.pop("previous_hash") != sealed or entry_hash(sealed, **values) != entry.hash:
            return False
        sealed = entry.hash
    return sealed == head


@given(changes)
def test_a_chain_links_scores_and_hashes(steps: list[dict[str, Any]]) -> None:
    entries = chain(steps)
    assert is_intact(entries, entries[-1].hash)
    assert [entry.seq for entry in entries] == list(range(1, len(steps) + 1))
    assert entries[0].previous_hash == bytes(32)
    assert entries[-1].new_score == sum(step["increment"] for step in steps)
    assert all(entry.previous_score + entry.increment == entry.new_score for entry in entries)
    assert {len(entry.hash) for entry in entries} == {32}


@pytest.mark.parametrize("name", VALUES)
@given(steps=changes, data=st.data())
def test_any_change_of_any_field_shows(name: str, steps: list[dict[str, Any]], data: st.DataObject) -> None:
    entries = chain(steps)
    place = data.draw(st.integers(0, len(entries) - 1), label="place")
    value = data.draw(VALUES[name], label=name)
    assume(value != getattr(entries[place], name))
    changed = [*entries]
    changed[place] = replace(entries[place], **{name: value})
    assert not is_intact(changed, entries[-1].hash)


@given(changes, st.data())
def test_a_missing_doubled_or_moved_entry_shows(steps: list[dict[str, Any]], data: st.DataObject) -> None:
    entries = chain(steps)
    place = data.draw(st.integers(0, len(entries) - 1))
    assert not is_intact(entries[:place] + entries[place + 1 :], entries[-1].hash)
    assert not is_intact([*entries[: place + 1], *entries[place:]], entries[-1].hash)
    if len(entries) > 1:
        assert not is_intact(entries[::-1], entries[-1].hash)


def test_a_field_cannot_slide_into_the_next() -> None:
    known: dict[str, Any] = {
        "user_id": PLAYER,
        "action_id": None,
        "increment": 0,
        "new_score": 0,
        "reason": None,
        "actor_id": None,
        "at": START,
    }
    assert entry_hash(GENESIS, seq=1, previous_score=23, **known) != entry_hash(
        GENESIS, seq=12, previous_score=3, **known
    )
    swapped = {**known, "action_id": UUID(int=9)}
    assert entry_hash(GENESIS, seq=1, previous_score=0, **swapped) != entry_hash(
        GENESIS, seq=1, previous_score=0, **{**known, "actor_id": UUID(int=9)}
    )


def test_reason_and_previous_hash_are_sealed() -> None:
    def sealed(previous_hash: bytes, reason: str) -> bytes:
        return append(
            user_id=PLAYER, seq=0, previous_score=0, previous_hash=previous_hash, increment=1, at=START, reason=reason
        ).hash

    assert len({sealed(GENESIS, "gift"), sealed(GENESIS, "theft"), sealed(bytes([1] * 32), "gift")}) == 3


def test_a_reason_of_no_characters_is_not_no_reason() -> None:
    with_empty = append(
        user_id=PLAYER, seq=0, previous_score=0, previous_hash=GENESIS, increment=1, at=START, reason=""
    )
    without = append(user_id=PLAYER, seq=0, previous_score=0, previous_hash=GENESIS, increment=1, at=START)
    assert with_empty.hash != without.hash


def test_the_zone_of_a_time_makes_no_difference() -> None:
    local = START.astimezone(tz=None)
    one, other = (
        append(user_id=PLAYER, seq=0, previous_score=0, previous_hash=GENESIS, increment=1, at=at)
        for at in (START, local)
    )
    assert one.hash == other.hash
    later = append(
        user_id=PLAYER,
        seq=0,
        previous_score=0,
        previous_hash=GENESIS,
        increment=1,
        at=START + timedelta(microseconds=1),
    )
    assert later.hash != one.hash


def test_a_score_never_falls_below_zero() -> None:
    entry = append(user_id=PLAYER, seq=4, previous_score=5, previous_hash=GENESIS, increment=-5, at=START)
    assert (entry.seq, entry.new_score) == (5, 0)
    with pytest.raises(ValueError, match="below zero"):
        append(user_id=PLAYER, seq=4, previous_score=5, previous_hash=GENESIS, increment=-6, at=START)
