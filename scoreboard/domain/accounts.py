"""User names, passwords and roles: what is accepted, and under which key it is unique."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from functools import cache
from importlib import resources

USERNAME_MIN, USERNAME_MAX = 2, 50
PASSWORD_MIN, PASSWORD_MAX = 8, 128
# Cc control, Cs surrogate, Zl and Zp line and paragraph separators.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Characters that turn the direction of the text around them (Unicode TR 9, explicit formatting).
_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Invisible on their own; joiners U+200C and U+200D stay allowed, several scripts and emoji need them.
_INVISIBLE = frozenset("\u00ad\u115f\u1160\u180e\u200b\u2060\u3164\ufeff\uffa0")


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"
    SYSTEM = "system"


class Status(StrEnum):
    ACTIVE = "active"
    FLAGGED = "flagged"
    BANNED = "banned"


def normalise_username(raw: str) -> str:
    """The name as it is stored and shown (NFC); raises ValueError saying what is wrong."""
    name = unicodedata.normalize("NFC", raw)
    if not USERNAME_MIN <= len(name) <= USERNAME_MAX:
        raise ValueError(f"must have {USERNAME_MIN} to {USERNAME_MAX} characters")
    if name != name.strip() or name[0].isspace() or name[-1].isspace():
        raise ValueError("must not begin or end with a space")
    for character in name:
        if _is_refused(character):
            raise ValueError(f"must not contain the character U+{ord(character):04X}")
    # Marks, spaces and format characters show nothing by themselves.
    if all(unicodedata.category(character) == "Cf" or unicodedata.category(character)[0] in "MZ" for character in name):
        raise ValueError("must contain a visible character")
    return name


def _is_refused(character: str) -> bool:
    is_noncharacter = ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF
    return (
        is_noncharacter
        or unicodedata.category(character) in _REFUSED_CATEGORIES
        or character in _BIDI_CONTROLS
        or character in _INVISIBLE
    )


def username_key(name: str) -> str:
    """The form under which names are unique: canonical caseless matching (Unicode, section 3.13, D145)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def email_key(email: str) -> str:
    """The form under which addresses are unique; providers do not tell case apart in practice."""
    return unicodedata.normalize("NFC", email).casefold()


def check_password(password: str, username: str = "") -> None:
    """Raise ValueError when the password is too short, too long or among the commonest."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise ValueError(f"must have {PASSWORD_MIN} to {PASSWORD_MAX} characters")
    folded = password.casefold()
    if folded in _common_passwords() or (username and folded == username_key(username)):
        raise ValueError("is too easy to guess")


@cache
def _common_passwords() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line.casefold() for line in text.splitlines() if line and not line.startswith("#"))
