"""User names, passwords and roles: what is accepted, and under which key it is unique."""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from functools import cache
from importlib import resources

from scoreboard.domain.characters import as_drawn, as_pasted, find_refused, find_wrong_mark, is_visible

USERNAME_MIN, USERNAME_MAX = 2, 50
PASSWORD_MIN, PASSWORD_MAX = 8, 128


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
    if "  " in name:
        # A page draws any number of spaces as one.
        raise ValueError("must not contain two spaces in a row")
    if not is_visible(name):
        raise ValueError("must contain a visible character")
    if (refused := find_refused(name)) is not None:
        raise ValueError(f"must not contain the character U+{ord(refused):04X}")
    if (wrong := find_wrong_mark(name)) is not None:
        raise ValueError(wrong)
    return name


def username_key(name: str) -> str:
    """The form under which names are unique: what draws alike is one name.

    Compatibility caseless matching (Unicode, section 3.13, D146) of what is drawn. So neither joiners and variation
    selectors make a second name, nor the letters that Unicode has once more for looks (bold, sans-serif, wide, raised).
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", as_drawn(name)).casefold()).casefold()
    return unicodedata.normalize("NFKC", folded)


def name_keys(name: str) -> list[str]:
    """The keys that an account of this name may be stored under; first that of earlier releases, which kept more."""
    earlier = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return list(dict.fromkeys((earlier, username_key(name))))


def login_keys(typed: str) -> list[str]:
    """The keys under which somebody who typed or pasted this may be found, the likeliest first.

    As it stands first: names of earlier releases may hold what copying adds.
    """
    return list(dict.fromkeys((*name_keys(typed), *name_keys(as_pasted(typed)))))


def login_key(typed: str) -> str:
    """One key for all spellings of a name that sign the same person in; attempts are counted by it."""
    return username_key(as_pasted(typed))


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
