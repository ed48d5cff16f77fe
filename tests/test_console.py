"""Progress lines where the output is not a terminal, and the time credited to each activity."""

from types import SimpleNamespace

from keras_bench import console
from keras_bench.console import Log


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
