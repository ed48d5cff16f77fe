"""Progress lines where the output is not a terminal, and the time credited to each activity."""

import io
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_bench import console
from keras_bench.console import Log, counted, table_text
from keras_bench.printable import UNSAFE, accept_all_characters
from tests.nasty import NASTY_NAMES


def test_the_time_left_ignores_the_first_unit_which_includes_starting_up(monkeypatch):
    clock, lines = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    log = Log()
    log.line = lines.append
    with log.progress("fit", 10, "steps", done=2) as advance:
        for now in (100.0, 101.0, 140.0):
            clock.now = now
            advance(1)
    # 2 more units took 40 s, so the remaining 5 take 100 s; the second came too soon after the first to be printed.
    assert lines == ["fit: 3/10 steps", "fit: 5/10 steps, 1 min 40 s left"]


def test_a_nested_activity_is_credited_with_its_own_time_only(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 9.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    log = Log()
    with log.timed("export"), log.timed("latency"):
        log.spend("validation", 1.0)
    assert log.spent == {"validation": 1.0, "latency": 2.0, "export": 6.0}


def text_table(*cells):
    table = Table(title=Text("title \x1b[2J"), caption="caption \u202e")
    for _ in cells:
        table.add_column("name\nunit", footer="sum")
    table.add_row(*cells)
    return table


def test_names_control_neither_the_screen_nor_the_log(capsys, tmp_path):
    log = Log()
    log.path = tmp_path / "run.log"
    for name in NASTY_NAMES:
        log.line(f"image {name}")
        log.warn(name)
        log.table(text_table(Text(name), name.replace("[", "")))
        log.keep(text_table(Text(name)))
    log.lines("one\ntwo \x1b")
    for text in (capsys.readouterr().out, log.path.read_text(encoding="utf-8")):
        assert not UNSAFE.search(text.replace("\n", ""))
        assert r"image over\rwritten" in text
        assert r"warning: two\nlines" in text
        assert r"title \x1b[2J" in text
        assert "crab 🦀" in text
    assert log.path.read_text().splitlines()[-1].endswith(r"  two \x1b")


def test_headers_and_footers_control_nothing_either():
    table = Table(show_footer=True)
    table.add_column("class \x1b[2J\nunit", footer=Text("sum \u202e"))
    shown = table_text(table)
    assert r"class \x1b[2J" in shown
    assert r"sum \u202e" in shown
    assert "unit" in shown
    assert not UNSAFE.search(shown.replace("\n", ""))


def test_a_terminal_gets_no_control_characters_from_names():
    screen = io.StringIO()
    log = Log(Console(file=screen, force_terminal=True, color_system=None, width=400, highlight=False))
    log.table(text_table(Text("\x1b]0;t\x07 \u202e"), "\x9b31m"))
    with log.progress("reading \x1b]0;t\x07", 2, "images") as advance:
        advance(1)
    shown = screen.getvalue()
    assert "\\x9b31m" in shown
    assert "\x1b]0" not in shown
    assert not re.search("[\x07\x9b\u202e]", shown)


def test_log_and_table_reach_a_terminal_that_has_ascii_only(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    accept_all_characters()
    log = Log()
    log.line("72 % — 3×2 →")
    log.table(text_table("é — 猫"))
    sys.stdout.flush()
    shown = raw.getvalue().decode("ascii")
    assert shown.startswith("72 % - 3x2 ->\n")
    assert r"| \xe9 - \u732b" in shown


@pytest.mark.parametrize(
    ("number", "units", "words"),
    [(1, "epochs", "1 epoch"), (0, "epochs", "0 epochs"), (1, "classes", "1 class"), (1200, "images", "1,200 images")],
)
def test_a_number_and_its_noun_agree(number, units, words):
    assert counted(number, units) == words
