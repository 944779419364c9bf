"""User names and passwords: what is accepted, and under which key it is unique."""

from __future__ import annotations

import unicodedata
from importlib import resources

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoreboard.domain.accounts import (
    PASSWORD_MAX,
    PASSWORD_MIN,
    USERNAME_MAX,
    USERNAME_MIN,
    check_password,
    email_key,
    login_key,
    login_keys,
    name_keys,
    normalise_username,
    username_key,
)
from scoreboard.domain.characters import find_refused_in_text, is_visible

CONTROLS = "\x00\x01\t\n\x0b\x0c\r\x1b\x1c\x1f\x7f\x80\x85\x9f"
SEPARATORS = "\u2028\u2029"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = "\u00ad\u115f\u1160\u180e\u200b\u2060\u3164\ufeff\uffa0"
SURROGATES = "\ud800\udbff\udc00\udfff"
NONCHARACTERS = "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0010fffe\U0010ffff"
REFUSED = CONTROLS + SEPARATORS + BIDI + INVISIBLE + SURROGATES + NONCHARACTERS

any_text = st.text(st.characters(codec=None), max_size=60)


def refusal(raw: str) -> str:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        normalise_username(raw)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "Al",
        "Jean-Luc O'Neill",
        "Zoë Müller",
        "Łukasz Żółć",
        "Nguyễn Văn",
        "Ελένη",
        "Дмитрий",
        "Նարեկ",
        "ნინო",
        "שרה לוי",
        "محمد علی",
        "می‌خواهم",  # Persian with a zero-width non-joiner
        "क्‍षत्रिय",  # Devanagari with a zero-width joiner
        "ஸ்ரீதர்",
        "สมชาย",
        "አበበ",
        "山田太郎",
        "やまだ",
        "김철수",
        "𝒜𝒷",
        "👩‍👩‍👧‍👦🎉",
        "❤️‍🔥!",
        "player_1 [x] <b>&\"'\\",
    ],
)
def test_names_of_any_script_are_kept_as_they_are(name: str) -> None:
    assert normalise_username(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("character", REFUSED, ids=lambda character: f"U+{ord(character):04X}")
def test_a_refused_character_is_named(character: str) -> None:
    assert refusal(f"a{character}b") == f"must not contain the character U+{ord(character):04X}"


@pytest.mark.parametrize("character", REFUSED, ids=lambda character: f"U+{ord(character):04X}")
def test_a_refused_character_is_refused_at_either_end(character: str) -> None:
    refusal(f"{character}ab")
    refusal(f"ab{character}")


SPACES = "\u00a0\u1680\u2002\u2003\u200a\u202f\u205f\u3000"


def test_the_plain_space_may_stand_inside() -> None:
    assert normalise_username("a b") == "a b"


@pytest.mark.parametrize("space", [*SPACES, " "])
def test_no_space_may_stand_at_an_end(space: str) -> None:
    assert refusal(f"{space}ab") == refusal(f"ab{space}") == "must not begin or end with a space"


# Of each kind some that no list of ours ever had: what draws nothing, or nothing of its own.
HIDDEN = {
    "default ignorable": "\u034f\u2061\u2063\u2064\u206a\u206f\u17b4\u17b5\ufff0\U0001bca0\U0001d173\U000e0001",
    "format": "\ufff9\ufffb\U00013430",
    "variation selectors": "\u180b\u180d\u180f\ufe00\ufe0e\ufe0f\U000e0100\U000e01ef",
    "tags": "\U000e0020\U000e0061\U000e007f",
    "private use": "\ue000\uf8ff\U000f0000\U0010fffd",
    "unassigned": "\u0378\u2fef\U0001fbff\U000323b0\U000e0080",
    "blank": "\u2800\ufffc\U0001d159\U00016fe4",
    "spaces": SPACES,
    "joiners": "\u200c\u200d",
}


@pytest.mark.parametrize(
    "character", [each for some in HIDDEN.values() for each in some], ids=lambda each: f"U+{ord(each):04X}"
)
def test_what_draws_nothing_can_not_make_a_second_name(character: str) -> None:
    assert refusal(f"riv{character}al") == f"must not contain the character U+{ord(character):04X}"
    refusal(f"rival{character}")
    refusal(f"{character}rival")
    refusal(character * 2)


def test_a_row_of_spaces_is_drawn_as_one() -> None:
    assert refusal("Big  Boss") == "must not contain two spaces in a row"


@pytest.mark.parametrize("variant", ["𝗋𝗂𝗏𝖺𝗅", "ｒｉｖａｌ", "ʳⁱᵛᵃˡ", "ⓡⓘⓥⓐⓛ", "𝓡𝓘𝓥𝓐𝓛", "ＲｉVal"])
def test_letters_that_are_there_once_more_for_looks_make_no_second_name(variant: str) -> None:
    assert username_key(variant) == username_key("rival")
    # Names of earlier releases keep their keys.
    assert login_keys(variant)[0] == unicodedata.normalize("NFC", variant).casefold()
    assert username_key("rival") in login_keys(variant)


@pytest.mark.parametrize(
    "name",
    [
        "می\u200c\u200cخواهم",  # twice
        "می‌خواهم\u200c",  # with nothing to join
        "क्\u200d\u200dष",
        "क\u200dष",  # without a virama
        "👩\u200d",
        "👩\u200da",
        "\U0001f3f4\U000e0061\U000e0062\U000e007f",  # a flag of nowhere
        "1\ufe0f",
        "👍\ufe0f\ufe0f",
    ],
)
def test_joiners_and_selectors_stand_where_they_do_something(name: str) -> None:
    assert refusal(f"{name}x" if name.endswith("\u200d") else f"a {name}").startswith("must not contain the character")


@pytest.mark.parametrize(
    "name",
    [
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f Ian",
        "1\ufe0f\u20e3 first",
        "🇵🇱 Ola",
        "👍🏽👩🏽‍🚀",
    ],
)
def test_pictures_are_kept(name: str) -> None:
    assert normalise_username(name) == name


@pytest.mark.parametrize("name", ["\u0301ab", "a \u0301b", "\u20ddab"])
def test_a_mark_needs_a_letter(name: str) -> None:
    assert refusal(name) == "must not have a combining mark without a letter before it"


@pytest.mark.parametrize("name", ["Z" + "\u0335\u0322\u0348\u0301" + "algo", "ก" + "\u0e48" * 9 + "ก"])
def test_marks_make_no_towers(name: str) -> None:
    assert refusal(name) == "must not have so many combining marks on one letter"


@pytest.mark.parametrize("name", ["Nguyễn Thị Ngọc", "مُحَمَّدٌ", "שָׁלוֹם", "མཁྱེན་བརྩེ", "မြွှာ", "ö̲̈x", "Ẹ̀kọ́"])
def test_marks_that_scripts_need_are_kept(name: str) -> None:
    assert normalise_username(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "typed",
    [
        "Zoë Ka",
        " Zoë Ka",
        "Zoë Ka \n",
        "zoë ka\u00a0",
        "\ufeffZOE\u0308 KA",
        "Zoë\u00a0Ka",
        "\tZoë\u3000Ka\u200b",
        "Zoë Ka\u2060",
    ],
)
def test_what_copying_adds_to_a_name_signs_in_all_the_same(typed: str) -> None:
    assert username_key("Zoë Ka") in login_keys(typed)
    assert login_key(typed) == username_key("Zoë Ka")


@pytest.mark.parametrize("typed", ["rival\u2063", "\u2800\u2800", "a\u3000b"])
def test_a_name_of_an_earlier_release_is_found_as_it_stands(typed: str) -> None:
    # Its key had all that isn't drawn.
    assert login_keys(typed)[0] == name_keys(typed)[0] == typed


@pytest.mark.parametrize("text", ["cheating", "two\nlines\tand a tab", "שלום \u200f!", "क्‍ष 👩‍👩‍👧‍👦"])
def test_a_text_may_have_lines_and_any_script(text: str) -> None:
    assert find_refused_in_text(text) is None
    assert is_visible(text)


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\u202e", "\u2066", "\u2028", "\ufffe", "\ud800"])
def test_a_text_may_not_steer_what_shows_it(character: str) -> None:
    assert find_refused_in_text(f"a{character}b") == character


@pytest.mark.parametrize("text", ["", " \n", "\u2800\u2800", "\u2063", "\u200d\ufe0f", "\u3164", "\u0301"])
def test_a_text_of_nothing_is_not_visible(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("name", ["\u200d\u200d", "\u200c\u200d\u200c", "\u0301\u0302", "\ufe0f\ufe0f"])
def test_a_name_of_joiners_and_marks_alone_is_refused(name: str) -> None:
    assert refusal(name) == "must contain a visible character"


@pytest.mark.parametrize(
    "name", ["\u2061\u2062", "\u2063\u2064", "\u206a\u206f", "\U000e0020\U000e007f", "\ufff9\ufffb"]
)
def test_a_name_of_format_characters_alone_is_refused(name: str) -> None:
    refusal(name)


def test_the_length_counts_characters_of_the_normal_form() -> None:
    refusal("")
    refusal("e\u0301")
    assert normalise_username("e\u0301" * USERNAME_MIN) == "é" * USERNAME_MIN
    assert normalise_username("e\u0301" * USERNAME_MAX) == "é" * USERNAME_MAX
    assert normalise_username("🎉" * USERNAME_MAX) == "🎉" * USERNAME_MAX
    assert refusal("x" * (USERNAME_MAX + 1)) == refusal("x") == "must have 2 to 50 characters"


def is_safe(character: str) -> bool:
    return (
        unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
        and unicodedata.bidirectional(character) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        and character not in "\u061c\u200e\u200f"
        and ord(character) & 0xFFFE != 0xFFFE
    )


@given(any_text)
@example("a\u2028b")
@example("\ud83d\ude00")
def test_what_is_accepted_is_safe_normal_and_accepted_again(raw: str) -> None:
    try:
        name = normalise_username(raw)
    except ValueError:
        return
    assert unicodedata.is_normalized("NFC", name)
    assert USERNAME_MIN <= len(name) <= USERNAME_MAX
    assert name == name.strip()
    assert all(map(is_safe, name))
    assert normalise_username(name) == name
    assert name.encode().decode() == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice", "aLICE"),
        ("Straße", "STRASSE"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("Дмитрий", "ДМИТРИЙ"),
        ("Zoë", "ZOE\u0308"),
        ("ﬁre", "FIRE"),
        ("Ծով", "ԾՈՎ"),
        ("ᾳ", "ᾼ"),
        ("\u1fb7", "\u1fbc\u0342"),  # alpha with perispomeni and iota, small and title case
    ],
)
def test_names_that_differ_in_case_or_composition_share_a_key(one: str, other: str) -> None:
    assert username_key(one) == username_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("😀😀", "😀\u200d😀"),  # nothing that is drawn as one
        ("👍 ok", "👍\ufe0f ok"),
        ("❤ me", "❤\ufe0f me"),
        ("میخواهم", "می\u200cخواهم"),
        ("क्ष", "क्\u200dष"),
    ],
)
def test_names_that_draw_alike_share_a_key(one: str, other: str) -> None:
    assert normalise_username(one) != normalise_username(other)
    assert username_key(one) == username_key(other)
    assert login_key(one) == login_key(other)
    assert username_key(one) in login_keys(other)


@pytest.mark.parametrize("name", ["അവന്\u200d", "അവന്\u200d ഇവൻ", "র\u200d্যাব"])
def test_a_joiner_may_stand_where_a_script_is_spelled_so(name: str) -> None:
    assert normalise_username(name) == name


@pytest.mark.parametrize(("one", "other"), [("resume", "résumé"), ("Alice", "Аlice"), ("ab", "a b"), ("1l", "11")])
def test_other_names_have_other_keys(one: str, other: str) -> None:
    assert username_key(one) != username_key(other)


# Latin, Greek, Cyrillic, Armenian: the scripts with two cases. Dotless i has no capital of its own.
cased = st.text(st.characters(max_codepoint=0x0587, exclude_characters="ı\u0345", categories=["L", "N", "P"]))


@given(cased)
def test_the_key_ignores_case(name: str) -> None:
    assert username_key(name.upper()) == username_key(name.lower()) == username_key(name)


@given(any_text)
def test_the_key_is_stable_and_ignores_composition(name: str) -> None:
    key = username_key(name)
    assert username_key(key) == key
    assert username_key(unicodedata.normalize("NFD", name)) == key


def test_the_key_of_an_address_ignores_case_and_composition() -> None:
    assert email_key("Zoe\u0308@Example.ORG") == email_key("zoë@example.org")
    assert email_key("a@example.org") != email_key("b@example.org")


def test_passwords_are_bounded_in_length() -> None:
    for password in ("", "x7#kQ2p", "x7#kQ2p!" * 16 + "x"):
        with pytest.raises(ValueError, match=r"^must have 8 to 128 characters$"):
            check_password(password)
    for password in ("x7#kQ2p!", "x7#kQ2p!" * 16, "пароль-э", "🎉🎊🎈🎁🎀🎂🎄🎃"):
        assert PASSWORD_MIN <= len(password) <= PASSWORD_MAX
        check_password(password)


@pytest.mark.parametrize("password", ["password", "PassWord1", "12345678", "iloveyou!", "Qwertyuiop"])
def test_the_commonest_passwords_are_refused_in_any_case(password: str) -> None:
    with pytest.raises(ValueError, match=r"^is too easy to guess$"):
        check_password(password)


def test_every_line_of_the_list_is_refused() -> None:
    text = resources.files("scoreboard.domain").joinpath("common_passwords.txt").read_text(encoding="utf-8")
    passwords = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert len(passwords) > 1_000
    for password in passwords:
        with pytest.raises(ValueError, match=r"^is too easy to guess$"):
            check_password(password.upper())


def test_the_name_is_no_password() -> None:
    check_password("Marlene Dietrich", "somebody")
    with pytest.raises(ValueError, match=r"^is too easy to guess$"):
        check_password("Marlene Dietrich", "marlene dietrich")
