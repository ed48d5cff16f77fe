r"""Makes text from data safe to show: names of files and classes may hold anything, also commands to a terminal.

Whatever is shown to people passes through here where it leaves the program: the screen, run.log, tables, pages, cards
and figures. Inside the program and in the files that it matches by, names stay what they are. Only the standard library
is used, because predict.py of every bundle contains this module.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
import unicodedata

# Control characters (C0, DEL, C1), invisible ones, line separators, marks that change the direction of the text around
# them, and lone surrogates, which stand for bytes of a file name that are not UTF-8. Fillers are among them: a person
# cannot tell two names apart that differ in these only.
_ALWAYS_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
_JOINERS, _TAGS = "\u200c\u200d", "\U000e0000-\U000e007f"  # unsafe only outside of the texts that need them


def _safe_joiners() -> str:
    """Return a regular expression for joiners where they change how their neighbours look.

    These are letters of the scripts from Arabic to Mongolian, after a virama also other text (as in RFC 5892, A.1 and
    A.2), and, for the zero-width joiner, emoji. Between Latin letters, for example, joiners would be invisible.
    """
    codes = (*range(0x600, 0xE00), *range(0xF00, 0x10A0), *range(0x1780, 0x1A00), *range(0xFB50, 0xFE00))
    shown = [c for c in map(chr, codes) if not re.match(f"[{_ALWAYS_UNSAFE}]", c)]
    letter = f"[{''.join(c for c in shown if unicodedata.category(c)[0] in 'LM')}]"
    virama = f"[{''.join(c for c in shown if unicodedata.combining(c) == 9)}]"
    emoji = "[\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]"
    return (
        f"(?<={virama})[{_JOINERS}]|(?<={letter})[{_JOINERS}](?={letter})"
        f"|(?:(?<={emoji})|(?<={emoji}\ufe0f))\u200d(?={emoji})"
    )


def _safe_tags() -> str:
    """Return a regular expression for the tags of a flag such as Scotland's, and for the tag that ends it."""
    flag, tag, end = "\U0001f3f4", "[\U000e0030-\U000e0039\U000e0061-\U000e007a]", "\U000e007f"
    return "|".join(f"(?<={flag}{tag * before}){tag}{{{int(not before)},{6 - before}}}{end}" for before in range(7))


UNSAFE = re.compile(
    f"(?=[{_ALWAYS_UNSAFE}{_JOINERS}{_TAGS}])"  # quick
    f"(?:[{_ALWAYS_UNSAFE}]|(?!{_safe_joiners()})[{_JOINERS}]|(?!{_safe_tags()})[{_TAGS}])"
)
# What a terminal shows whose encoding lacks the character; box drawings become -, | and +, and all others escapes.
SUBSTITUTES = {
    "—": "-", "–": "-", "−": "-", "·": "-", "×": "x", "…": "...", "±": "+/-", "→": "->", "≥": ">=", "≤": "<=",
    "²": "^2", "µ": "u", "★": "*", "†": "+", "□": "?", "‘": "'", "’": "'", "“": '"', "”": '"', "\xa0": " ",
    **dict.fromkeys("─━═╌╍┄┅┈┉╴╸╶╺╼╾", "-"), **dict.fromkeys("│┃║╎╏┆┇┊┋", "|"),
}  # fmt: skip
_BOX_DRAWING = re.compile("[\u2500-\u257f]")
# A spreadsheet computes cells that begin like this, in some locales also after spaces or with full-width signs.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
# Where a comma separates decimals, spreadsheets split lines at semicolons, and do not heed quotes inside a cell.
_LATER_FORMULA = re.compile(r";(?=[\s\"]*[=+\-@＝＋－＠])")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+|inf|nan)([eE][+-]?[0-9]+)?")
_CELL_ESCAPE = re.compile(r"\\u\{([0-9a-f]{1,6})\}")
_ENCODING_ERRORS = "keras-bench"  # name of the handler


def printable(text: str, newlines: bool = False) -> str:
    r"""Return text whose unsafe characters are visible escapes such as \x1b and \u202e.

    Args:
        text: any text.
        newlines: whether newlines stay, for a text of several lines; names from data must be escaped before they
            become part of one.
    """
    if text.isascii() and text.isprintable():  # quick for long data URIs
        return text
    return UNSAFE.sub(lambda match: match[0] if newlines and match[0] == "\n" else _escape(match[0]), text)


def printable_json(text: str) -> str:
    r"""Return JSON with the same content whose unsafe characters are escapes such as \u202e."""

    def escape(match: re.Match[str]) -> str:
        units = match[0].encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))

    return UNSAFE.sub(lambda match: "\n" if match[0] == "\n" else escape(match), text)  # newlines are never in strings


def cell_text(text: str) -> str:
    r"""Return text as the cell of a CSV file that is safe in a terminal and in a spreadsheet.

    Unsafe characters become escapes such as \u{1b}, so do semicolons before what a spreadsheet would compute, and text
    that it would compute starts with an apostrophe, unless it is a number. `text_of_cell` returns the original.
    """

    def escape(match: re.Match[str]) -> str:
        return f"\\u{{{ord(match[0]):x}}}"

    text = _LATER_FORMULA.sub(escape, UNSAFE.sub(escape, text.replace("\\u{", "\\u{5c}u{")))
    is_formula = _FORMULA.match(text.lstrip("'")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def text_of_cell(cell: str) -> str:
    """Return the text of which `cell_text` made a cell; a cell that any other program wrote mostly stays as it is."""
    if cell.startswith("'") and _FORMULA.match(cell.lstrip("'")):
        cell = cell[1:]
    return _CELL_ESCAPE.sub(_escaped_character, cell) if "\\u{" in cell else cell


def _escaped_character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    character = chr(code) if code <= sys.maxunicode else ""
    return character if character in ("\\", ";") or UNSAFE.fullmatch(character) else match[0]


def accept_all_characters() -> None:
    """Let standard output and standard error take every character: one that their encoding lacks is replaced."""
    codecs.register_error(_ENCODING_ERRORS, _replace_unencodable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not, for example, in a notebook
            stream.reconfigure(errors=_ENCODING_ERRORS)


def _replace_unencodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_substitute, error.object[error.start : error.end])), error.end


def _substitute(character: str) -> str:
    return SUBSTITUTES.get(character) or ("+" if _BOX_DRAWING.match(character) else _escape(character))


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python reads a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
