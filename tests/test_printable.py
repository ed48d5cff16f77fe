"""Names from data become harmless text, and cells and JSON give the names back."""

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_bench.printable import (
    UNSAFE,
    accept_all_characters,
    cell_text,
    printable,
    printable_json,
    text_of_cell,
)

# Lone surrogates too: Python reads bytes of a file name that are not UTF-8 as such.
any_text = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "\x00\x1b\r\n\t\x9b\u202e\u2066\u200b\ufeff\udce9;\"\\u{}'=+-@1 "
            "\u200c\u200d\u06cc\u094d🔥🏴\U000e0061\U000e007f"
        ),
    )
)
BIDI_MARKS = [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f", "\u061c"]
ZERO_WIDTH = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u180e", "\u034f"]


@pytest.mark.parametrize(
    "code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0xD800, 0xDFFF, *map(ord, [*BIDI_MARKS, *ZERO_WIDTH])]
)
def test_each_unsafe_character_becomes_a_visible_escape(code):
    shown = printable(f"a{chr(code)}b")
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert shown.isascii()
    assert shown.isprintable()


def test_escapes_look_as_in_python():
    assert printable("\x1b]0;t\x07 \r\n \x9b \u202e \udce9 \ud800") == r"\x1b]0;t\x07 \r\n \x9b \u202e \xe9 \ud800"
    assert printable("one\ntwo\x1b", newlines=True) == "one\ntwo\\x1b"


@pytest.mark.parametrize(
    "text", ["Tench, Tinca tinca", "größe", "ночь", "猫", "עברית", "❤️", "🦔", r"C:\new", "e\u0301", "a\xa0b"]
)
def test_names_in_any_script_stay_as_they_are(text):
    assert printable(text) == cell_text(text) == text


SPELLED_WITH_JOINERS = {
    "Persian": "می\u200cخواهم",
    "Hindi": "क्\u200dष",
    "Kannada": "ರ್\u200cಕ",
    "Malayalam, at the end": "അവന്\u200d",
    "Sinhala": "ශ්\u200dරී",
    "family": "👨\u200d👩\u200d👧",
    "skin tone": "👩🏽\u200d🔬",
    "variation selector": "❤️\u200d🔥",
    "Scotland": "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
}


@pytest.mark.parametrize("text", SPELLED_WITH_JOINERS.values(), ids=SPELLED_WITH_JOINERS)
def test_names_that_are_spelled_with_invisible_characters_stay_too(text):
    for name in (text, f"x {text}, {text}"):
        assert printable(name) == cell_text(name) == name
        assert printable_json(json.dumps(name, ensure_ascii=False)) == f'"{name}"'


@pytest.mark.parametrize(
    "text",
    [
        "pay\u200dpal", "é\u200cé", "猫\u200d猫", "ночь\u200cю", "می\u200c", "\u200cمی", "می\u200c\u200cخ",
        "🔥\u200d", "🔥\u200ca",
        "🔥\u200c🔥", "a\ufe0f\u200d🔥", "12\u200c3", "🏴\U000e0067", "🏴\U000e007f", "x\U000e0067\U000e0062\U000e007f",
        "🏴" + 7 * "\U000e0061" + "\U000e007f", "🏴\U000e0041\U000e007f", "🏴\U000e0061\U000e007f\U000e0061\U000e007f",
    ],
)  # fmt: skip
def test_joiners_and_tags_that_nobody_would_see_are_escaped(text):
    shown = printable(text)
    assert shown != text
    assert not UNSAFE.search(shown)
    assert text_of_cell(cell_text(text)) == text


@given(any_text)
def test_no_control_format_or_separator_character_is_left(text):
    arabic_signs = (
        "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"  # visible, though of category Cf
    )
    for shown in (printable(text), cell_text(text)):
        spelled = {"\u200c", "\u200d"}  # between letters, which the tests below decide
        kinds = {unicodedata.category(c) for c in shown if c not in (*arabic_signs, *spelled) and ord(c) < 0x11000}
        assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        assert not UNSAFE.search(shown)
        shown.encode("utf-8")


@given(any_text)
@example(r"\u{1b}")
@example("''=1")
@example("'\u3000＝1")
@example("-1\n")
@example("x;=1+1")
@example('x; "=1')
@example("x;-1")
def test_a_cell_gives_its_text_back_and_is_no_formula(text):
    cell = cell_text(text)
    assert text_of_cell(cell) == text
    for part in cell.split(";")[1:]:
        assert part.strip(' "\u3000')[:1] not in tuple("=+-@＝＋－＠")
    if cell.strip()[:1] in tuple("=+-@＝＋－＠\t\r") and cell.strip():
        float(cell)  # a number


@pytest.mark.parametrize("number", ["-1", "+2.5", "-.5e-7", "-inf", "0", "1e5"])
def test_numbers_stay_numbers(number):
    assert cell_text(number) == number


@pytest.mark.parametrize("cell", ["'tis", r"\u{zz}", r"\u{110000}", r"\u{61}", "-5", "=1", r"a\xe9"])
def test_cells_of_earlier_versions_are_read_as_they_are(cell):
    assert text_of_cell(cell) == cell


@given(st.dictionaries(any_text, any_text))
def test_json_keeps_its_content(content):
    text = printable_json(json.dumps(content, ensure_ascii=False, indent=1))
    assert json.loads(text) == content
    assert not UNSAFE.search(text.replace("\n", ""))


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "72 % — 3×2 … ┏━┃ → −1 é 猫 \\xe9"),
        ("cp1252", "72 % — 3×2 … +-| -> -1 é \\u732b \\xe9"),
        ("latin-1", "72 % - 3×2 ... +-| -> -1 é \\u732b \\xe9"),
        ("ascii", "72 % - 3x2 ... +-| -> -1 \\xe9 \\u732b \\xe9"),
    ],
)
def test_every_character_is_accepted_whatever_the_encoding(monkeypatch, encoding, shown):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    accept_all_characters()
    print("72 % — 3×2 … ┏━┃ → −1 é 猫 \udce9", end="", flush=True)
    assert raw.getvalue().decode(encoding) == shown
