"""Names that attack whatever shows them: terminals, spreadsheets, pages, Markdown and figures."""

import csv
import os
import re
from pathlib import Path

from keras_bench.printable import UNSAFE
from tests.conftest import digit_image, encoded

NASTY_NAMES = [
    "\x1b]0;owned\x07 title",
    "over\rwritten",
    "two\nlines",
    "\u202egpj.exe\u2066",
    "\x9b31mred\x7f",
    "=cmd|' C calc'!A0",
    "@SUM(1)+1",
    "<script>alert(1)<",
    "<img src=x onerror=alert(1)>",
    "| pipe | `tick` [link](x) # heading",
    "$x^$ $\\frac$",
    "zero\u200bwidth",
    "crab 🦀",
    "n" * 246,
]
NOT_UTF8 = os.fsdecode(b"caf\xe9")
SHOWN_TO_PEOPLE = (".md", ".html", ".svg", ".csv", ".txt", ".log", ".json", ".yaml", ".py")


def make_nasty_folder(root: Path, images: int = 10) -> Path:
    """Make a folder per nasty name with images that have the nasty names too, one of them damaged."""
    for k, name in enumerate([*NASTY_NAMES, NOT_UTF8]):
        (root / name).mkdir(parents=True)
        for i in range(images):
            file = root / name / f"{[NOT_UTF8, *NASTY_NAMES][i % len(NASTY_NAMES)]}{k:03d}-{i}.png"
            file.write_bytes(encoded(digit_image(k * images + i, 32), "PNG"))
    (root / NASTY_NAMES[3] / f"{NASTY_NAMES[0]}.jpg").write_bytes(b"not an image")
    return root


def check_shown(text: str) -> None:
    """Check that a text contains no unsafe characters but the newlines between its lines."""
    found = UNSAFE.search(text.replace("\r\n", "\n").replace("\n", ""))
    assert not found, ascii(found)


def check_files(folder: Path) -> int:
    """Check the files below a folder that people open, and return how many there are."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in SHOWN_TO_PEOPLE]
    for path in files:
        text = path.read_bytes().decode("utf-8")
        check_shown(text)
        if path.suffix == ".html":
            assert not re.search(r"<script>alert|<img src=x", text), path
        elif path.suffix == ".md":
            assert not re.search(r"<script|<img|^# heading|(?<!\\)\| pipe", text, re.MULTILINE), path
        elif path.suffix == ".csv":
            check_cells(text)
    return len(files)


def check_cells(table: str) -> None:
    """Check that no cell of a CSV table is a formula."""
    for row in csv.reader(table.splitlines()):
        for cell in row:
            if cell.strip().startswith(("=", "+", "-", "@")):
                float(cell)
