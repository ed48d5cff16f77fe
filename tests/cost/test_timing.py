"""When the timed calls end, and their percentiles, with a made-up clock; the coverage of the median's interval."""

from keras_bench.cost.timing import is_precise, time_calls


class Machine:
    """A call with predetermined durations in milliseconds, and the clock that measures them."""

    def __init__(self, milliseconds):
        self.milliseconds, self.now, self.calls = list(milliseconds), 0, 0

    def __call__(self):
        self.now += int(self.milliseconds[self.calls] * 1e6)
        self.calls += 1

    def clock(self):
        return self.now


def test_percentiles_by_hand():
    # 3 slow calls of warm-up, then 1 to 101 ms: percentile p of 101 values lies at position p exactly.
    machine = Machine([500, 400, 300, *range(101, 0, -1)])
    timing = time_calls(machine, 3, 101, 1000, machine.clock)
    assert (timing.warm_up, timing.calls, machine.calls) == (3, 101, 104)
    assert (timing.p50_ms, timing.p90_ms, timing.p99_ms, timing.mean_ms) == (51, 91, 100, 51)


def test_time_ends_the_series_before_the_number_of_calls():
    machine = Machine([100] * 1000)
    timing = time_calls(machine, 2, 200, 1.5, machine.clock)
    assert timing.calls == 15  # the 15th reaches 1.5 s
    assert machine.calls == 17


def test_an_imprecise_median_takes_all_calls():
    machine = Machine([500, 400, *[100, 110] * 500])  # the interval is 100 to 110
    timing = time_calls(machine, 2, 200, 100.0, machine.clock)
    assert (timing.calls, timing.p50_low_ms, timing.p50_high_ms) == (200, 100, 110)


def test_a_precise_median_ends_the_series_after_thirty_calls():
    machine = Machine([500, 400, *[100, 101, 102] * 500])
    timing = time_calls(machine, 2, 200, 100.0, machine.clock)
    assert (timing.calls, timing.p50_ms) == (30, 101)


def test_a_fast_model_gets_a_hundred_calls_for_its_p99():
    machine = Machine([10] * 2000)
    assert time_calls(machine, 2, 1000, 100.0, machine.clock).calls == 100
    machine = Machine([40] * 2000)
    assert time_calls(machine, 2, 1000, 100.0, machine.clock).calls == 50  # which take 2 s


def test_a_precise_median_is_not_enough_before_half_a_second():
    machine = Machine([1] * 2000)
    assert time_calls(machine, 2, 1000, 100.0, machine.clock).calls == 500  # of 1 ms
    machine = Machine([1] * 2000)
    assert time_calls(machine, 2, 200, 100.0, machine.clock).calls == 200  # but no more than allowed


def test_the_series_ends_when_it_becomes_precise():
    # 90 and 110 in turn, then 100: the interval is that of the 100s once ranks r to s of n lie among them.
    machine = Machine([100, 100, *[90, 110] * 20, *[100] * 500])
    calls = time_calls(machine, 2, 500, 100.0, machine.clock).calls
    assert 40 < calls < 100
    assert is_precise([*[90, 110] * 20, *[100] * (calls - 40)])
    assert not is_precise([*[90, 110] * 20, *[100] * 5])


def test_warm_up_ends_after_a_quarter_of_the_time():
    machine = Machine([100] * 1000)
    timing = time_calls(machine, 10, 200, 2.0, machine.clock)
    assert (timing.warm_up, timing.calls) == (5, 20)


def test_two_and_five_calls_are_made_however_slow_they_are():
    machine = Machine([60_000] * 100)
    timing = time_calls(machine, 10, 200, 1.0, machine.clock)
    assert (timing.warm_up, timing.calls) == (2, 5)
    assert timing.p99_ms == 60_000
