"""The five studies: their recipes as their sources state them, and what was published of them."""

import json
import re
from pathlib import Path

import pytest

from keras_bench.config import load_experiment
from keras_bench.config.yaml_text import read_yaml
from keras_bench.errors import UserError
from keras_bench.report.published import stated_figures
from keras_bench.report.study_files import load_study, read_study

ROOT = Path(__file__).parents[2]
STUDIES = ("tiny-imagenet", "intel", "imagenet100", "cifar10", "folder")
INTEL = ["buildings", "forest", "glacier", "mountain", "sea", "street"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def configs(name):
    experiment = load_experiment(str(ROOT / "experiments" / f"{name}.yaml"))
    return {model: experiment.resolve(model) for model in experiment.models}


def dataset(source, names):
    return {"source": source, "class_names": names}


@pytest.mark.parametrize("name", STUDIES)
def test_each_study_is_one_target_with_its_own_file(name):
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{name}-all: .*\n\t\$\(SUITE\) --experiment {name} \$\(ARGS\)$", makefile, re.MULTILINE)
    assert f"make {name}-all" in (ROOT / "experiments" / f"{name}.yaml").read_text()


def test_intel_compares_two_networks_by_the_recipe_of_tiny_imagenet():
    both = configs("intel")
    assert list(both) == ["EfficientNetB0", "ResNet50"]
    for config in both.values():
        assert (config.final_phase, config.dataset.source, config.dataset.image_size) == ("ft", "folder", 224)
        assert (config.tl.epochs, config.ft.epochs, config.tl.learning_rate, config.ft.learning_rate) == (
            15,
            5,
            1e-4,
            1e-5,
        )
        assert (config.model.dropout, config.model.l2, config.training.batch_size) == (0.3, 1e-4, 32)


def test_imagenet100_trains_four_networks_from_scratch_for_thirty_epochs():
    four = configs("imagenet100")
    assert list(four) == ["ResNet50", "ResNet34", "ResNet18", "EfficientNetB0"]
    for config in four.values():
        assert config.final_phase == "scratch"
        assert (config.scratch.epochs, config.scratch.optimizer, config.scratch.learning_rate) == (30, "adam", 1e-4)
        assert (config.training.batch_size, config.training.label_smoothing) == (256, 0)
        assert config.scratch.learning_rate_schedule == "constant"
        assert config.training.early_stopping_patience >= config.scratch.epochs


def test_cifar10_compares_two_families_and_trains_what_has_no_weights_from_scratch():
    all_of_them = configs("cifar10")
    names = [f"EfficientNetB{k}" for k in range(8)] + [
        f"EfficientNetV2{k}" for k in ("B0", "B1", "B2", "B3", "S", "M", "L")
    ]
    assert list(all_of_them) == names + [f"ResNet{k}" for k in (18, 34, 50, 101, 152)]
    for model, config in all_of_them.items():
        assert config.final_phase == ("scratch" if model in ("ResNet18", "ResNet34") else "ft")
        assert (config.dataset.tfds_name, config.dataset.image_size) == ("cifar10", 224)


def test_folder_follows_its_source():
    three = configs("folder")
    sizes = {"ResNet50": None, "EfficientNetB0": 299, "InceptionV3": 299}  # None: the backbone's own, 224
    assert {model: config.dataset.image_size for model, config in three.items()} == sizes
    assert {model: config.tl.epochs for model, config in three.items()} == dict(zip(sizes, (20, 15, 20), strict=True))
    assert {model: config.model.dropout for model, config in three.items()} == dict(
        zip(sizes, (0.3, 0.5, 0.3), strict=True)
    )
    for config in three.values():
        assert (config.dataset.validation_fraction, config.dataset.test_fraction) == (0.1, 0.1)
        augmentation = config.augmentation
        assert (augmentation.horizontal_flip, augmentation.vertical_flip, augmentation.rotation_degrees) == (
            True,
            True,
            15,
        )
        assert augmentation.brightness_factor == (0.8, 1.2)
        assert (augmentation.zoom, augmentation.translation, augmentation.brightness) == ((0, 0), 0, (0, 0))
        assert (config.tl.optimizer, config.tl.learning_rate, config.tl.plateau_factor) == ("adam", 1e-3, 0.1)
        assert (config.ft.epochs, config.training.batch_size) == (5, 32)
        # The source watched validation accuracy; of unbalanced data that is the accuracy of the large classes.
        assert config.training.watched_by_checkpoint == "val_balanced_accuracy"


@pytest.mark.parametrize("name", STUDIES)
def test_what_was_published_names_models_of_the_study_and_phases_they_run(name):
    study = load_study(name, dataset("folder", ["a", "b"]))
    found = configs(name)
    for row in study.rows:
        assert row.model in found
        assert row.phase in (("scratch",) if found[row.model].final_phase == "scratch" else ("tl", "ft"))
        assert row.figures
    for claim in study.claims:
        assert {claim.more, claim.less} <= set(found)
        assert claim.more != claim.less
    assert not study.comparable  # of these two classes nothing was published
    assert study.difference


def test_figures_compare_only_where_data_and_classes_are_the_same():
    assert load_study("intel", dataset("folder", INTEL[::-1])).comparable
    assert load_study("intel", dataset("folder", INTEL[:5])).difference == "other classes"
    assert load_study("cifar10", dataset("tfds", CIFAR10)).comparable
    assert load_study("cifar10", dataset("folder", CIFAR10)).difference == "another data set"
    assert load_study("tiny-imagenet", dataset("tiny-imagenet", ["n"] * 200)).comparable
    assert load_study("tiny-imagenet", dataset("tiny-imagenet", ["n"] * 40)).difference == "another number of classes"
    names = [f"n{k:08d}" for k in range(100)]
    assert "does not say which" in load_study("imagenet100", dataset("folder", names)).difference
    assert load_study("digits", dataset("digits", ["0", "1"])) is None


def test_the_published_figures_are_those_of_the_sources():
    imagenet100 = load_study("imagenet100", dataset("folder", ["a", "b"]))
    assert imagenet100.row("ResNet34", "scratch").figures == {
        "val_top1": 0.63, "training_seconds": 31906, "inference_seconds": 0.188,
    }  # fmt: skip
    assert imagenet100.row("ResNet18", "scratch").figures["training_seconds"] == 40397
    assert load_study("folder", dataset("folder", ["a", "b"])).row("EfficientNetB0", "tl").figures == {
        "test_top1": 0.8876
    }
    cifar10 = load_study("cifar10", dataset("tfds", CIFAR10))
    assert cifar10.row("ResNet50", "ft").figures["test_top1"] == 0.955
    assert cifar10.row("EfficientNetB0", "ft").figures == {"test_top1": 0.97, "parameters_millions": 5.3}
    assert stated_figures(cifar10.rows) == ["test_top1", "parameters_millions", "megabytes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [{model: VGG16, phase: tl, val_top_1: 0.5}]", "unknown figure 'val_top_1'; did you mean 'val_top1'"),
        ("claims: [{claim: x, figure: vals, more: A, less: B}]", "unknown figure 'vals'"),
        ("claims: [{claim: x, figure: gap, more: A, fewer: B}]", "unknown key 'fewer'"),
        ("hardwear: x", "unknown key 'hardwear'; did you mean 'hardware'"),
    ],
)
def test_a_name_nobody_would_read_is_refused(tmp_path, text, message):
    path = tmp_path / "made.yaml"
    path.write_text(f"source: s\ndata: d\nmatch: {{source: folder}}\n{text}\n")
    with pytest.raises(UserError, match=message):
        read_study(path, dataset("folder", ["a", "b"]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tree: tree.pop("source"), "source: "),
        (lambda tree: tree.update(rows=[{"phase": "tl"}]), "rows: expected model, phase and numbers"),
        (lambda tree: tree["rows"][0].update(phase="fine"), "rows: expected model, phase and numbers"),
        (lambda tree: tree["rows"][0].update(val_top1="high"), "rows: expected model, phase and numbers"),
        (lambda tree: tree["rows"][0].update(val_top2=0.5), "unknown figure 'val_top2'"),
        (lambda tree: tree.update(rows="none"), "rows: "),
        (lambda tree: tree.update(claims=[{"claim": "more"}]), "claims.0.figure: Field required"),
        (lambda tree: (tree.pop("match", None), tree.pop("not_comparable", None)), "expected match or not_comparable"),
        (lambda tree: tree.update(match={"classes": 2}), "unknown property of a data set 'classes'"),
    ],
)
def test_a_published_study_with_a_fault_is_refused_in_one_line(tmp_path, change, expected):
    tree = read_yaml(ROOT / "experiments" / "published" / "tiny-imagenet.yaml")
    change(tree)
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(tree), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_study(path, {"class_names": ["a"], "source": "folder"})
    assert str(error.value).startswith(f"{path}: {expected}")
