"""Turn the names of a log into user names that the service accepts, each only once."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from .log import Team

MIN_LENGTH, MAX_LENGTH = 2, 50
# Long enough for any sensible team number, short enough to leave room for the name.
MAX_TEAM_LENGTH = 20
_JOINERS = "\u200c\u200d"
# Letters by category, blank to the eye.
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


def username_key(name: str) -> str:
    """The form under which the service takes two names for the same."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", name).casefold()).casefold()
    return unicodedata.normalize("NFKC", folded)


def choose_usernames(players: Iterable[Team]) -> dict[str, str]:
    """A user name for each team: its own, with the team in brackets where that is too short or not unique."""
    players = list(players)
    cleaned = {player.team: _clean(player.name) for player in players}
    seen = Counter(username_key(_cut(name)) for name in cleaned.values())
    chosen: dict[str, str] = {}
    taken = {key for key, count in seen.items() if count == 1}
    for team, name in cleaned.items():
        own = _cut(name)
        if len(own) < MIN_LENGTH or not _is_visible(own) or seen[username_key(own)] > 1:
            own = _first_free(_with_team(name, team), taken)
            taken.add(username_key(own))
        chosen[team] = own
    return chosen


def fallback_username(team: str) -> str:
    """A plain name for a player whose own the service refuses."""
    return _with_team("player", team)


def number_username(name: str, suffix: int | str) -> str:
    """The name with a number (or another mark) in parentheses, cut to fit."""
    return _append(name, f" ({suffix})")


def _first_free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    # Ends: each turn tries another number, and only finitely many are taken.
    while username_key(candidate) in taken:
        number += 1
        candidate = number_username(name, number)
    return candidate


def _clean(name: str) -> str:
    spaced = (" " if unicodedata.category(char) == "Zs" else char for char in unicodedata.normalize("NFC", name))
    kept = (character for character in spaced if _is_allowed(character))
    return " ".join(part for part in unicodedata.normalize("NFC", "".join(kept)).split(" ") if part)


def _is_allowed(character: str) -> bool:
    if character in _JOINERS:
        return True
    category = unicodedata.category(character)
    return category[0] != "C" and category not in {"Zl", "Zp"} and character not in _BLANK_LETTERS


def _is_visible(name: str) -> bool:
    return any(unicodedata.category(character)[0] not in "MZ" and character not in _JOINERS for character in name)


def _with_team(name: str, team: str) -> str:
    return _append(name, f" [{_clean(team)[:MAX_TEAM_LENGTH].strip()}]").strip()


def _append(name: str, suffix: str) -> str:
    return _cut(name, MAX_LENGTH - len(suffix)) + suffix


def _cut(name: str, length: int = MAX_LENGTH) -> str:
    # A joiner at the cut would join to nothing.
    return name if len(name) <= length else name[:length].rstrip(_JOINERS + " ").strip()
