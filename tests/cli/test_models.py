"""The verb `models`: what passes a filter, in which order, and what a mistake is answered with."""

import re

import pytest

from keras_bench.backbones.facts import BackboneFacts
from keras_bench.backbones.table import BACKBONES
from keras_bench.cli.main import main
from keras_bench.cli.models_table import NUMBERS, TEXTS, Row, passes, sort_rows
from keras_bench.errors import UserError

SMALL = Row(
    BACKBONES["MobileNetV3Small"], BackboneFacts(68.1, None, "docstring", 1_000_000, 60_000_000, 125_000_000), "here"
)
LARGE = Row(
    BACKBONES["ResNet50V2"], BackboneFacts(76.0, 93.0, "keras.io", 23_000_000, 3_500_000_000, 7_000_000_000), "download"
)
BARE = Row(BACKBONES["ResNet18"], BackboneFacts(None, None, "", None, None, None), "none")


@pytest.mark.parametrize(
    ("text", "small", "large", "bare"),
    [
        ("resnet", False, True, True),  # in the name
        ("RESNETV2", False, True, False),  # in the family only
        ("family=resnet", False, False, True),
        ("name = MobileNetV3Small", True, False, False),
        ("weights=here", True, False, False),
        ("source=keras.io", False, True, False),
        ("parameters<10", True, False, False),  # published: 2.5, 25.6, 11.7
        ("parameters>=11.7", False, True, True),
        ("backbone<=1", True, False, False),
        ("multiply_adds>0.06", False, True, False),
        ("multiply_adds>=0.06", True, True, False),  # no figure passes nothing
        ("flops<1", True, False, False),
        ("size=224", True, True, True),
        ("TOP1 > 70", False, True, False),
        ("top5>0", False, True, False),
    ],
)
def test_filters_by_hand(text, small, large, bare):
    assert [passes(row, text) for row in (SMALL, LARGE, BARE)] == [small, large, bare]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parms<3", "--filter parms<3: unknown field 'parms'; did you mean 'parameters'"),
        ("top1>high", "--filter top1>high: expected a number after >, received 'high'"),
        ("top1>", "expected a number after >, received ''"),
        ("weights<3", "weights is text and compares with = only, received <"),
        ("top1=>3", "expected a number after =, received '>3'"),
        ("  ", "expected text or a comparison such as 'top1>77', received '  '"),
    ],
)
def test_filters_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=message):
        passes(SMALL, text)


def test_the_help_names_every_field(capsys):
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    named = text.partition("Fields: ")[2].partition(". Example")[0]
    assert set(re.findall(r"[a-z_0-9]+", re.sub(r"\(.*?\)", "", named))) == {*TEXTS, *NUMBERS}


def test_accuracies_come_highest_first_all_else_lowest_first_and_missing_figures_last():
    rows = [BARE, SMALL, LARGE]
    assert sort_rows(rows, "top1") == [LARGE, SMALL, BARE]
    assert sort_rows(rows, "TOP5") == [LARGE, BARE, SMALL]
    assert sort_rows(rows, "flops") == [SMALL, LARGE, BARE]
    assert sort_rows(rows, "parameters") == [SMALL, BARE, LARGE]
    assert sort_rows(rows, "name") == [SMALL, BARE, LARGE]
    with pytest.raises(UserError, match="--sort: unknown field 'flps'; did you mean 'flops'"):
        sort_rows(rows, "flps")


def shown(output):
    """The names in the first column of a printed table."""
    return [line.split("│")[1].strip() for line in output.splitlines() if line.startswith("│")]


def test_the_table_is_filtered_and_sorted(capsys):
    assert main(["models"]) == 0
    output = capsys.readouterr().out
    assert shown(output) == list(BACKBONES)
    assert "notop.h5" not in output
    words = ["models", "--filter", "efficientnet", "--filter", "parameters<8", "--sort", "top1"]
    assert main(words) == 0
    output = capsys.readouterr().out
    # keras.io: 77.1, 79.1 and 78.7 %; V2B1 has 8.2 M parameters.
    assert shown(output) == ["EfficientNetB1", "EfficientNetV2B0", "EfficientNetB0"]
    assert "3 of 42 backbones" in output
    assert "next: keras-bench run --model EfficientNetB1 --dry-run" in output


def test_few_backbones_are_shown_with_their_files_and_missing_figures_as_a_dash(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "convnext_tiny_notop.h5").write_bytes(b"")
    assert main(["models", "--filter", "ConvNeXtTiny"]) == 0
    output = capsys.readouterr().out
    cells = [cell.strip() for cell in next(line for line in output.splitlines() if line.startswith("│")).split("│")]
    assert cells[1:5] == ["ConvNeXtTiny", "ConvNeXt", "224", "28.6"]
    assert cells[-5:-1] == ["81.3", "—", "keras.io", "here"]
    assert (
        "convnext_tiny_notop.h5 from https://storage.googleapis.com/tensorflow/keras-applications/convnext/" in output
    )
    assert f"alpha 1, in {tmp_path / 'models'}" in output
    assert "torchvision" not in output  # a source that no row shown has
    assert main(["models", "--filter", "name=ResNet18"]) == 0
    output = capsys.readouterr().out
    assert "torchvision: its IMAGENET1K_V1 weights" in output
    assert "next: keras-bench run --model ResNet18 --phase scratch --dry-run" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--filter", "efficentnet"], "none of the 42 backbones passes; did you mean 'EfficientNet'"),
        (["--filter", "top1>99"], "--filter top1>99: none of the 42 backbones passes; leave it out to see all"),
        (
            ["--filter", "vgg", "--filter", "top1>85"],
            "no backbone passes all filters; of 42, this many pass each alone: 'vgg' 2, 'top1>85' 5",
        ),
        (["--sort", "speed"], "--sort: unknown field 'speed'"),
    ],
)
def test_mistakes_are_one_line_that_helps(words, message, capsys):
    assert main(["models", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
