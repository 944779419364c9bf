"""Action tokens and stream tickets: only what this service sealed opens, also after a rotation of keys."""

from __future__ import annotations

import base64
import hashlib
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.domain.errors import InvalidActionToken
from scoreboard.services.actions.tokens import TOKEN_MAX_LENGTH, ActionClaims, TicketClaims, TokenBox, token_hash

OLD, NEW, FOREIGN = (Fernet.generate_key().decode() for _ in range(3))
BOX = TokenBox([OLD])
ACTION, USER = UUID(int=1), UUID(int=2)
TICKET = TicketClaims(UUID(int=3), USER, 1_800_000_000)
TTL_S = 60

TOKEN, PROOF_KEY = BOX.seal_action(ACTION, USER, "COMPLETE_LEVEL")
TICKET_AT = 1_700_000_000.5
SEALED_TICKET = BOX.seal_ticket(TICKET, TICKET_AT)


def sealed_at(token: str) -> int:
    """The moment inside a Fernet token: a version byte, then eight bytes of seconds."""
    return int.from_bytes(base64.urlsafe_b64decode(token)[1:9], "big")


def refuses(token: str, box: TokenBox = BOX) -> bool:
    try:
        box.open_action(token)
    except InvalidActionToken:
        return True
    return False


def test_a_token_opens_to_what_was_sealed() -> None:
    assert BOX.open_action(TOKEN) == ActionClaims(ACTION, USER, "COMPLETE_LEVEL", PROOF_KEY)
    assert len(TOKEN) <= TOKEN_MAX_LENGTH


@given(st.uuids(), st.uuids(), st.from_regex(r"[A-Z][A-Z0-9_]{0,49}", fullmatch=True))
def test_every_action_fits_its_token(action_id: UUID, user_id: UUID, code: str) -> None:
    token, proof_key = BOX.seal_action(action_id, user_id, code)
    assert BOX.open_action(token) == ActionClaims(action_id, user_id, code, proof_key)


def test_no_two_actions_have_tokens_or_proof_keys_that_are_alike() -> None:
    sealed = [BOX.seal_action(uuid4(), USER, "JUMP") for _ in range(50)]
    assert len({token for token, _ in sealed}) == len({key for _, key in sealed}) == 50
    # After the version and the time comes the initialisation vector.
    assert len({base64.urlsafe_b64decode(token)[9:25] for token, _ in sealed}) == 50


def test_the_same_action_is_sealed_into_the_same_token_as_long_as_its_key_is_there() -> None:
    assert BOX.seal_action(ACTION, USER, "COMPLETE_LEVEL") == (TOKEN, PROOF_KEY)
    hashed = token_hash(TOKEN)
    for keys in ([OLD], [OLD, NEW], [NEW, OLD], [NEW, FOREIGN, OLD]):
        assert TokenBox(keys).seal_again(ACTION, USER, "COMPLETE_LEVEL", hashed=hashed) == (TOKEN, PROOF_KEY)
    assert TokenBox([NEW, FOREIGN]).seal_again(ACTION, USER, "COMPLETE_LEVEL", hashed=hashed) is None
    # Of another action, player or type the token is another one.
    for parts in ((USER, USER, "COMPLETE_LEVEL"), (ACTION, ACTION, "COMPLETE_LEVEL"), (ACTION, USER, "JUMP")):
        assert BOX.seal_again(*parts, hashed=hashed) is None


def test_another_key_makes_another_token_and_another_proof_key() -> None:
    token, proof_key = TokenBox([NEW]).seal_action(ACTION, USER, "COMPLETE_LEVEL")
    assert token != TOKEN
    assert proof_key != PROOF_KEY


def test_a_token_shows_nothing_of_what_is_inside() -> None:
    plain = base64.urlsafe_b64decode(TOKEN)
    for secret in (PROOF_KEY.encode(), USER.hex.encode(), b"COMPLETE_LEVEL"):
        assert secret not in plain
        assert secret.decode() not in TOKEN


@pytest.mark.parametrize("place", range(len(base64.urlsafe_b64decode(TOKEN))))
def test_a_change_of_any_byte_is_noticed(place: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(TOKEN))
    for bit in range(8):
        raw[place] ^= 1 << bit
        assert refuses(base64.urlsafe_b64encode(raw).decode())
        raw[place] ^= 1 << bit


def test_a_shorter_or_longer_token_is_refused() -> None:
    raw = base64.urlsafe_b64decode(TOKEN)
    for changed in (raw[:-1], raw[1:], raw[:-16], raw + b"\0", raw + raw, b""):
        assert refuses(base64.urlsafe_b64encode(changed).decode())


@given(st.text(st.characters(codec=None)))
@example("")
@example("é")
@example("\ud800")
@example("A" * (TOKEN_MAX_LENGTH + 1))
@example(Fernet(FOREIGN.encode()).encrypt(b"[]").decode())
@example(Fernet(OLD.encode()).encrypt(b"[]").decode())
def test_foreign_text_is_refused_and_nothing_else_happens(text: str) -> None:
    assert refuses(text)
    assert BOX.open_ticket(text, TTL_S, TICKET_AT) is None


def test_a_token_for_one_purpose_does_not_open_for_another() -> None:
    assert refuses(SEALED_TICKET)
    assert BOX.open_ticket(TOKEN, TTL_S, sealed_at(TOKEN)) is None


def test_old_tokens_open_after_a_rotation_and_new_ones_are_sealed_with_the_new_key() -> None:
    rotated = TokenBox([NEW, OLD])
    assert rotated.open_action(TOKEN).action_id == ACTION
    assert rotated.open_ticket(SEALED_TICKET, TTL_S, TICKET_AT) == TICKET
    token, _ = rotated.seal_action(ACTION, USER, "JUMP")
    assert TokenBox([NEW]).open_action(token).user_id == USER
    assert refuses(token, BOX)


def test_a_key_that_was_dropped_or_never_ours_opens_nothing() -> None:
    for keys in ([NEW], [FOREIGN], [NEW, FOREIGN]):
        assert refuses(TOKEN, TokenBox(keys))
        assert TokenBox(keys).open_ticket(SEALED_TICKET, TTL_S, TICKET_AT) is None


def test_the_hash_of_a_token_is_sha256() -> None:
    assert token_hash(TOKEN) == hashlib.sha256(TOKEN.encode("ascii")).digest()


@pytest.mark.parametrize("age_s", [0, 1, TTL_S - 1, TTL_S])
def test_a_ticket_opens_for_its_life(age_s: int) -> None:
    assert BOX.open_ticket(SEALED_TICKET, TTL_S, TICKET_AT + age_s) == TICKET


@pytest.mark.parametrize("age_s", [TTL_S + 1, 10 * TTL_S, 10**7])
def test_a_stale_ticket_does_not(age_s: int) -> None:
    assert BOX.open_ticket(SEALED_TICKET, TTL_S, TICKET_AT + age_s) is None


def test_a_ticket_from_the_future_does_not() -> None:
    assert BOX.open_ticket(SEALED_TICKET, TTL_S, TICKET_AT - 120) is None


@given(st.integers(0, len(base64.urlsafe_b64decode(SEALED_TICKET)) - 1), st.integers(1, 255))
def test_a_changed_ticket_does_not(place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(SEALED_TICKET))
    raw[place] ^= change
    assert BOX.open_ticket(base64.urlsafe_b64encode(raw).decode(), TTL_S, TICKET_AT) is None
