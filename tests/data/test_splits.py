import numpy as np
import pytest

from keras_bench.config import DatasetConfig
from keras_bench.data.index import ImageIndex
from keras_bench.data.splits import split_images
from keras_bench.errors import UserError


def make_index(counts, official=None):
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = tuple(f"{label}/{i}.png" for i, label in enumerate(labels))
    names = tuple(f"c{k}" for k in range(len(counts)))
    return ImageIndex("test", "here", names, names, ids, labels, tuple(official or [""] * len(ids)), lambda i: b"")


def per_class(index, table):
    return {split: np.bincount(index.labels[where], minlength=3).tolist() for split, where in table.positions.items()}


def test_without_official_splits_each_class_is_divided_by_the_fractions():
    index = make_index([100, 50, 30])
    table = split_images(index, DatasetConfig(validation_fraction=0.1, test_fraction=0.2))
    assert per_class(index, table) == {"train": [70, 35, 21], "val": [10, 5, 3], "test": [20, 10, 6]}
    everything = np.concatenate(list(table.positions.values()))
    assert sorted(everything) == list(range(180))
    assert table.test_origin == "20% of all images, held out"


def test_official_val_becomes_test_and_val_is_held_out_of_train():
    index = make_index([20, 20, 20], (["train"] * 15 + ["val"] * 5) * 3)
    table = split_images(index, DatasetConfig(validation_fraction=0.2))
    assert per_class(index, table) == {"train": [12] * 3, "val": [3] * 3, "test": [5] * 3}
    assert [index.official[i] for i in table.positions["test"]] == ["val"] * 15
    assert {index.official[i] for i in table.positions["val"]} == {"train"}
    assert "labelled validation images" in table.test_origin


def test_three_official_splits_are_kept():
    index = make_index([20, 20, 20], (["train"] * 12 + ["val"] * 3 + ["test"] * 5) * 3)
    table = split_images(index, DatasetConfig())
    for split, where in table.positions.items():
        assert {index.official[i] for i in where} == {split}
    assert per_class(index, table) == {"train": [12] * 3, "val": [3] * 3, "test": [5] * 3}


def test_with_official_train_and_test_val_is_held_out_of_train():
    index = make_index([20, 20, 20], (["train"] * 15 + ["test"] * 5) * 3)
    table = split_images(index, DatasetConfig(validation_fraction=0.2))
    assert per_class(index, table) == {"train": [12] * 3, "val": [3] * 3, "test": [5] * 3}


def test_the_split_depends_on_the_seed_alone():
    index = make_index([40, 40, 40])
    tables = [split_images(index, DatasetConfig(split_seed=seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(tables[0].positions["val"], tables[1].positions["val"])
    assert not np.array_equal(tables[0].positions["val"], tables[2].positions["val"])


def test_fraction_and_limit_reduce_train_and_val_but_not_test():
    index = make_index([100, 50, 30])
    full = split_images(index, DatasetConfig(test_fraction=0.2))
    half = split_images(index, DatasetConfig(test_fraction=0.2, fraction=0.5))
    np.testing.assert_array_equal(full.positions["test"], half.positions["test"])
    assert per_class(index, half) == {"train": [35, 18, 10], "val": [5, 2, 2], "test": [20, 10, 6]}
    few = split_images(index, DatasetConfig(test_fraction=0.2, limit_per_class=16))
    assert per_class(index, few) == {"train": [14] * 3, "val": [2] * 3, "test": [20, 10, 6]}


def test_unreadable_images_are_in_no_split():
    index = make_index([20, 20, 20])
    usable = np.ones(60, dtype=bool)
    usable[[0, 25]] = False
    table = split_images(index, DatasetConfig(), usable)
    everything = set(np.concatenate(list(table.positions.values())).tolist())
    assert everything == set(range(60)) - {0, 25}


def test_a_class_too_small_to_fill_each_split_is_named():
    with pytest.raises(UserError, match=r"class 'c1' has too few images \(2\): none is left for train"):
        split_images(make_index([20, 2, 20]), DatasetConfig())


def test_a_warning_names_classes_with_few_images():
    table = split_images(make_index([20, 8, 20]), DatasetConfig())
    assert table.warnings == ("class 'c1' has only 6 training images",)


def test_counts_name_every_class():
    index = make_index([20, 20, 20])
    table = split_images(index, DatasetConfig())
    assert table.counts(index.labels, index.class_names)["c2"] == {"train": 16, "val": 2, "test": 2}


def test_a_long_tail_reduces_train_and_val_geometrically_and_leaves_the_test_unchanged():
    index = make_index([100, 100, 100])
    table = split_images(index, DatasetConfig(validation_fraction=0.1, test_fraction=0.2, long_tail=16))
    # 80 · 16^0, 80 · 16^(-1/2), 80 · 16^(-1), of which val holds 10 of 80
    assert per_class(index, table) == {"train": [70, 18, 4], "val": [10, 2, 1], "test": [20, 20, 20]}
    plain = split_images(index, DatasetConfig(validation_fraction=0.1, test_fraction=0.2))
    np.testing.assert_array_equal(table.positions["test"], plain.positions["test"])
