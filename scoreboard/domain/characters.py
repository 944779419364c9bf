"""Tells visible characters from those that draw nothing, turn text around or hide in it.

Decided by Unicode's own properties: general category, Default_Ignorable_Code_Point, Bidi_Control, Script, Emoji and
others, and where joiners may stand by IDNA's contextual rules (RFC 5892, appendix A). A character that this Python's
tables do not know can't be normalised, so it is none yet.
"""

from __future__ import annotations

import unicodedata

import idna
import regex

ZWNJ, ZWJ = "\u200c", "\u200d"
_JOINERS = frozenset((ZWNJ, ZWJ))
# Of joiners those that stand right are left over when the others are looked for.
_NEVER = regex.compile(
    r"[\p{Cc}\p{Cs}\p{Cn}\p{Co}\p{Zl}\p{Zp}\p{Bidi_Control}"
    r"[\p{Zs}--\x20][\p{Cf}--\p{Prepended_Concatenation_Mark}]\p{Default_Ignorable_Code_Point}]",
    regex.V1,
)
# UTS #51: flags, keycaps, and pictures with variation selector, skin tone and joiners. Tags spell three flags only
# (RGI_Emoji_Tag_Sequence); others would hide text.
_PICTURE = r"[\p{Emoji}--[0-9#*]](?:\uFE0F|\p{Emoji_Modifier})?"
_TAGGED = "|".join(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
_EMOJI = regex.compile(
    rf"{_TAGGED}|\p{{Regional_Indicator}}{{2}}|[0-9#*]\uFE0F\u20E3|{_PICTURE}(?:\u200D{_PICTURE})*", regex.V1
)
# No property says that a letter or symbol is blank; their names, which never change, do.
_BLANK_NAME = regex.compile(r"\b(?:BLANK|FILLER|NULL|REPLACEMENT)\b")
_EMPTY = regex.compile(r"[\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}]", regex.V1)
_BASELESS = regex.compile(r"(?:^|\p{Z})\p{M}")
# Marks that go with any script make towers; Arabic needs three on a letter. No script stacks nine of its own.
_MARKS_MAX, _SHARED_MARKS_MAX = 8, 3
_TOWER = regex.compile(
    rf"\p{{M}}{{{_MARKS_MAX + 1},}}|[\p{{M}}&&\p{{Script=Inherited}}]{{{_SHARED_MARKS_MAX + 1},}}", regex.V1
)
# In texts of several lines; marks that only lean to one side (U+200E, U+200F, U+061C) can't turn what is around them.
_NEVER_IN_TEXT = regex.compile(
    r"[[\p{Cc}--[\n\r\t]]\p{Cs}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}[\p{Bidi_Control}--[\u061c\u200e\u200f]]]",
    regex.V1,
)
_EDGE = r"[\s\p{Z}\p{Cc}\p{Default_Ignorable_Code_Point}]+"
_EDGES = regex.compile(rf"^{_EDGE}|{_EDGE}$", regex.V1)
_UNDRAWN = regex.compile(r"\p{Default_Ignorable_Code_Point}|(?<=\x20)\x20", regex.V1)
_VIRAMA_CLASS = 9
# Bengali writes ra before a hanging ya with the joiner in front of the virama (The Unicode Standard, section 12.2).
_BENGALI_RA = "\u09b0\u200d\u09cd"
_SPACES = regex.compile(r"[\s\p{Zs}]", regex.V1)


def find_refused(name: str) -> str | None:
    """The first character that may not stand in a name where it does: it draws nothing, or hides or turns others."""
    # Of the same length, so that joiners are looked at where they stand.
    rest = _EMOJI.sub(lambda found: "x" * len(found[0]), name)
    for place, character in enumerate(rest):
        if character in _JOINERS:
            if not _is_joining(rest, place):
                return character
        elif _NEVER.match(character) or _is_unknown(character) or _is_blank(character):
            return character
    return None


def find_wrong_mark(name: str) -> str | None:
    """What is wrong with the combining marks of a name; None when each has its base and there are not too many."""
    rest = _EMOJI.sub("x", name)
    if _BASELESS.search(rest):
        return "must not have a combining mark without a letter before it"
    # Taken apart: a letter's own marks are of the tower.
    if _TOWER.search(unicodedata.normalize("NFD", rest)):
        return "must not have so many combining marks on one letter"
    return None


def find_refused_in_text(text: str) -> str | None:
    """The first character that may not stand in a text that others read."""
    found = _NEVER_IN_TEXT.search(text)
    return found[0] if found else None


def is_visible(text: str) -> bool:
    """Whether anything of it can be seen."""
    return any(not _is_blank(character) for character in _EMPTY.sub("", text))


def as_pasted(name: str) -> str:
    """A name without what copying adds: white space and invisible characters around it, other spaces inside."""
    return _SPACES.sub(" ", _EDGES.sub("", name))


def as_drawn(name: str) -> str:
    """A name without its invisible characters: equal results look alike on a screen."""
    return _UNDRAWN.sub("", name)


def _is_joining(text: str, place: int) -> bool:
    """Whether a joiner stands between letters, behind a virama or, for the non-joiner, between letters that join.

    Behind a virama ZWJ may also end a word (UAX #31, rule B), as in the chillus of Malayalam.
    """
    if text[place - 1 : place + 2] == _BENGALI_RA:
        return True
    is_after_virama = place > 0 and unicodedata.combining(text[place - 1]) == _VIRAMA_CLASS
    if text[place] == ZWJ and is_after_virama and text[place + 1 : place + 2] in ("", " "):
        return True
    if place + 1 >= len(text) or unicodedata.category(text[place + 1])[0] not in "LM":
        return False
    try:
        return idna.valid_contextj(text, place)
    except ValueError:
        return False


def _is_unknown(character: str) -> bool:
    return unicodedata.category(character) == "Cn"


def _is_blank(character: str) -> bool:
    return bool(_BLANK_NAME.search(unicodedata.name(character, "")))
