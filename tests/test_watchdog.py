"""A warning when nothing finishes: when, how often, and never in the way."""

import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from keras_bench.console import Log
from keras_bench.errors import UserError
from keras_bench.watchdog import SECONDS, VARIABLE, Watchdog, stall_seconds


def test_warnings_come_at_growing_intervals_and_stop_with_a_step():
    now, warned = [0.0], []
    watchdog = Watchdog(300, warned.append, lambda: now[0])
    due = []
    for now[0] in (0, 299, 300, 301, 599, 600, 1199, 1200):
        due.append(watchdog.check())
    assert warned == [300, 600, 1200]
    assert due == [300, 1, 300, 299, 1, 600, 1, 1200]
    watchdog.seen()
    assert watchdog.check() == 300
    now[0] = 1500
    watchdog.check()
    assert warned[3:] == [300]


class StalledLog(Log):
    def __init__(self):
        super().__init__(Console(quiet=True))
        self.warned, self.heard = [], threading.Event()

    def warn(self, text):
        self.warned.append(text)
        self.heard.set()


def test_a_long_operation_without_a_step_is_named(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.001")
    log = StalledLog()
    with log.progress("tl epoch 1/3", 10, "steps"):
        assert log.heard.wait(60)
    assert log.warned[0].startswith("tl epoch 1/3: no step has finished for 0.0 s; ")
    watching = [thread for thread in threading.enumerate() if "_watch" in thread.name]
    assert all(thread.daemon for thread in watching)


def test_zero_switches_it_off_and_nonsense_is_refused(monkeypatch):
    for text, seconds in (("0", 0), ("20", 20), ("", SECONDS)):
        monkeypatch.setenv(VARIABLE, text)
        assert stall_seconds() == seconds
    for text in ("soon", "-1", "nan", "1e300"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(UserError, match=f"^{VARIABLE}: expected seconds from 0 .* received '{text}'$"):
            stall_seconds()
    monkeypatch.setenv(VARIABLE, "0")
    before = threading.active_count()
    with StalledLog().progress("x", 1, "steps"):
        assert threading.active_count() <= before


class Screen(io.StringIO):
    """Counts the warnings printed on it."""

    def __init__(self):
        super().__init__()
        self.twice = threading.Event()

    def write(self, text):
        count = super().write(text)
        if self.getvalue().count("no batch has finished") >= 2:
            self.twice.set()
        return count


def test_a_full_disk_at_the_moment_of_a_stall_does_not_end_the_watching(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.001")
    crashed, screen = [], Screen()
    monkeypatch.setattr(threading, "excepthook", crashed.append)
    log = Log(Console(file=screen, width=200))
    log.path = Path("/dev/full")
    with log.progress("tl epoch 1/3", 10, "batches"):
        assert screen.twice.wait(60)
    assert not crashed


def test_a_sign_of_life_prints_nothing(capsys, monkeypatch):
    monkeypatch.setattr("keras_bench.console.PLAIN_SECONDS", 0)
    with Log().progress("x", 2, "steps") as advance:
        advance(0)
        advance(1)
    assert capsys.readouterr().out == "x: 1/2 steps\n"
