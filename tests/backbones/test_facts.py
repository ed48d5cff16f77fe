"""The facts of every backbone are complete, sourced, packaged, and what papers and our own counter say."""

import configparser
import csv
import dataclasses
from pathlib import Path

import pytest

from benchmarks.count_backbones import count_backbone
from keras_bench.backbones.facts import COUNTED, FACT_SOURCES, PUBLISHED, facts_of
from keras_bench.backbones.table import BACKBONES

# Giga multiply-adds with top. B0 and B7: Tan & Le 2019, table 2. ResNet: He et al. 2015, table 1; 18 and 34 as
# torchvision counts them. MobileNetV2 and V3Large: the docstrings of keras.applications, which take V3Small for 66
# million, where the network itself has 55 and a top of 1.6. ConvNeXt: the README of facebookresearch/ConvNeXt.
MULTIPLY_ADDS = {
    "EfficientNetB0": 0.39, "EfficientNetB7": 37.0, "ResNet18": 1.814, "ResNet34": 3.66, "ResNet50": 3.8,
    "ResNet101": 7.6, "ResNet152": 11.3, "MobileNetV2": 0.300, "MobileNetV3Large": 0.217, "ConvNeXtTiny": 4.5,
    "ConvNeXtSmall": 8.7, "ConvNeXtBase": 15.4, "ConvNeXtLarge": 34.4, "ConvNeXtXLarge": 60.9,
}  # fmt: skip
# Their tops hold more than one dense layer, or another normalisation, so width × 1000 + 1000 is not all of it.
OTHER_TOPS = ("VGG", "MobileNetV3", "ConvNeXt")


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return {row["model"]: row for row in csv.DictReader(stream)}


def test_every_backbone_is_counted_at_its_default_size():
    counted = rows(COUNTED)
    assert list(counted) == list(BACKBONES)
    for name, row in counted.items():
        assert int(row["image_size"]) == BACKBONES[name].image_size
        assert 2 < int(row["flops"]) / int(row["multiply_adds"]) < 2.2, name


def test_every_backbone_has_an_accuracy_with_its_source():
    assert list(rows(PUBLISHED)) == list(BACKBONES)
    for name in BACKBONES:
        facts = facts_of(name)
        assert facts.source in FACT_SOURCES
        assert 65 < facts.top1 < 90, name
        assert facts.top5 is None or facts.top1 < facts.top5 < 98, name
    assert {name for name in BACKBONES if facts_of(name).top5 is None} == {
        "MobileNetV3Small", "MobileNetV3Large",
        "ConvNeXtTiny", "ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge",
    }  # fmt: skip
    assert (facts_of("ResNet50").top1, facts_of("ResNet50").top5) == (74.9, 92.1)
    assert (facts_of("EfficientNetB7").top1, facts_of("EfficientNetB7").top5) == (84.3, 97.0)


def test_what_is_not_known_is_none():
    unknown = facts_of("LeNet5")
    assert unknown.source == ""
    assert {value for name, value in dataclasses.asdict(unknown).items() if name != "source"} == {None}


@pytest.mark.parametrize("name", MULTIPLY_ADDS)
def test_multiply_adds_are_those_of_the_papers(name):
    # The top adds 1 to 3 million, and papers round to two or three digits.
    assert facts_of(name).multiply_adds / 1e9 == pytest.approx(MULTIPLY_ADDS[name], rel=0.025, abs=0.003)


@pytest.mark.parametrize("name", [name for name, row in BACKBONES.items() if row.family.name not in OTHER_TOPS])
def test_parameters_and_the_1000_class_top_make_the_published_count(name):
    row = BACKBONES[name]
    with_top = facts_of(row.name).parameters + row.width * 1000 + 1000
    assert with_top / 1e6 == pytest.approx(row.parameters_millions, abs=0.1)


def test_the_files_are_packaged():
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    patterns = settings["options.package_data"]["keras_bench.backbones"].split()
    packaged = {path for pattern in patterns for path in COUNTED.parent.glob(pattern)}
    assert packaged == {COUNTED, PUBLISHED}


@pytest.mark.parametrize(
    "name", ["ResNet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ("EfficientNetB0", "NASNetMobile"))]
)
def test_counting_again_gives_the_same(name):
    again = count_backbone(name)
    facts = facts_of(name)
    assert again["image_size"] == BACKBONES[name].image_size
    assert (again["parameters"], again["multiply_adds"]) == (facts.parameters, facts.multiply_adds)
    assert again["flops"] == pytest.approx(facts.flops, rel=0.01)  # TensorFlow's own count, which may change with it
