import numpy as np
import pytest

from keras_bench.report.claim_figures import differ, half_areas, mean_fall, words_for


def test_the_mean_fall_counts_only_falls_within_a_phase():
    # Changes: +0.2, -0.1, +0.3 in the first phase and -0.2 in the second; the fall between the phases does not count.
    assert mean_fall([[0.1, 0.3, 0.2, 0.5], [0.4, 0.2]]) == pytest.approx((0.1 + 0.2) / 4)
    assert mean_fall([[0.1, 0.2, 0.9]]) == 0
    assert mean_fall([[0.1], [0.5]]) is None


def test_the_more_focused_a_map_is_the_fewer_pixels_hold_half_of_its_evidence():
    one_pixel = np.zeros((4, 4), np.uint8)
    one_pixel[2, 1] = 200
    even = np.full((4, 4), 7, np.uint8)
    # 100 of 190 are in one of the 16 pixels.
    steep = np.zeros((4, 4), np.uint8)
    steep[0] = (100, 40, 30, 20)
    areas = half_areas(np.stack([one_pixel, even, steep, np.zeros((4, 4), np.uint8)]))
    np.testing.assert_allclose(areas, [1 / 16, 8 / 16, 1 / 16, np.nan])


def test_a_claim_is_confirmed_contradicted_or_left_open():
    assert words_for(2.0, 1.0) == "as published"
    assert words_for(1.0, 2.0) == "the opposite"
    assert words_for(2.0, 1.0, shown=False) == "no difference shown"
    assert words_for(1.0, 1.0) == "no difference shown"
    assert words_for(None, 1.0) == words_for(1.0, None) == "not measured here"


def test_two_series_differ_if_the_interval_of_their_mean_difference_is_clear_of_zero():
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    assert differ(noise + 0.2 + noise[::-1] / 10, noise)
    assert not differ(noise + 0.2, noise)  # the same difference for every image: all resamples are equal
    assert not differ(noise, noise[::-1])
    assert not differ(np.full(5, np.nan), np.ones(5))
