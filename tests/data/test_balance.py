import numpy as np
import pytest

from keras_bench.data.balance import epoch_rows

LABELS = np.array([0] * 7 + [1] * 2 + [2] * 3)


@pytest.mark.parametrize("imbalance", ["none", "class_weights", "focal", "logit_adjustment"])
def test_methods_that_change_the_loss_leave_the_images_unchanged(imbalance):
    assert epoch_rows(LABELS, imbalance, 0).tolist() == list(range(12))


def test_undersampling_reduces_each_class_to_the_size_of_the_smallest():
    rows = epoch_rows(LABELS, "undersample", 0)
    assert np.bincount(LABELS[rows]).tolist() == [2, 2, 2]
    assert len(set(rows.tolist())) == 6
    assert {tuple(epoch_rows(LABELS, "undersample", seed)) for seed in range(20)} != {tuple(rows)}
    np.testing.assert_array_equal(epoch_rows(LABELS, "undersample", 0), rows)


def test_oversampling_repeats_images_as_evenly_as_possible():
    rows = epoch_rows(LABELS, "oversample", 0)
    assert np.bincount(LABELS[rows]).tolist() == [7, 7, 7]
    times = np.bincount(rows, minlength=12)
    assert times[:7].tolist() == [1] * 7
    assert sorted(times[7:9]) == [3, 4]
    assert sorted(times[9:]) == [2, 2, 3]
