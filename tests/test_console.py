"""What the screen says of long work where it is no terminal."""

from types import SimpleNamespace

from keras_bench import console
from keras_bench.console import Log


def test_the_time_left_goes_by_all_units_but_the_first_which_also_starts_the_work(monkeypatch):
    clock, lines = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: clock.now))
    log = Log()
    log.line = lines.append
    with log.progress("fit", 10, "steps", done=2) as advance:
        for now in (100.0, 101.0, 140.0):
            clock.now = now
            advance(1)
    # 2 more units took 40 s, so the 5 that are left take 100 s; the second came too soon after the first to be told.
    assert lines == ["fit: 3/10 steps", "fit: 5/10 steps, 1 min 40 s left"]


def test_a_part_of_the_work_within_another_counts_for_itself_only(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 9.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    log = Log()
    with log.timed("export"), log.timed("latency"):
        log.spend("validation", 1.0)
    assert log.spent == {"validation": 1.0, "latency": 2.0, "export": 6.0}
