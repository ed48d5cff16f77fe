"""Results of several threads keep their order, and few are pending."""

import time

import pytest

from keras_bench.parallel import map_in_order


def test_results_keep_the_order_of_the_batches_and_few_are_pending():
    taken = []

    def batches():
        for number in range(20):
            taken.append(number)
            yield number

    def slower_first(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    for done, result in enumerate(map_in_order(slower_first, batches(), 3)):
        assert result == done * done
        assert len(taken) <= done + 4
    assert done == 19


def test_an_error_in_a_thread_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(map_in_order(lambda number: 1 / number, range(3), 2))
