"""Holds every row of the backbone table to what it claims; the larger rows run in `make test-all`."""

import gc

import keras
import numpy as np
import pytest
from keras.src.applications import mobilenet, mobilenet_v2
from keras.src.utils import file_utils

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.models.build import ModelSpec, backbone_layers, build_backbone, build_model
from keras_bench.models.phases import block_of_layers, block_order, count_parameters
from keras_bench.models.resnet import RESNET_BUILDERS

SMALLEST_OF_FAMILY = (
    "VGG16", "ResNet18", "ResNet34", "ResNet50", "ResNet50V2", "Xception", "InceptionV3", "MobileNet", "MobileNetV2",
    "MobileNetV3Small", "DenseNet121", "NASNetMobile", "EfficientNetB0", "EfficientNetV2B0", "ConvNeXtTiny",
)  # fmt: skip
ROWS = [
    pytest.param(row, id=row.name, marks=() if row.name in SMALLEST_OF_FAMILY else pytest.mark.slow)
    for row in BACKBONES.values()
]
# Blocks as the papers count them: convolutional blocks, residual blocks, inception modules, cells.
BLOCKS = {
    "VGG16": 5, "VGG19": 5, "ResNet18": 8, "ResNet34": 16, "ResNet50": 16, "ResNet101": 33, "ResNet152": 50,
    "ResNet50V2": 16, "Xception": 14, "InceptionV3": 11, "MobileNet": 13, "MobileNetV2": 17, "DenseNet121": 58,
    "EfficientNetB0": 16, "EfficientNetB7": 55, "ConvNeXtTiny": 18,
}  # fmt: skip
# Where keras.applications builds another network than the paper's count tells.
BUILT_OTHERWISE = {"MobileNetV3Large": 5.5, "MobileNetV3Small": 2.6}


@pytest.fixture(autouse=True)
def _release_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def spec(row, num_classes=7, **options):
    return ModelSpec(row, max(row.family.min_size, 64) + 32, num_classes, ModelConfig(**options))


@pytest.mark.parametrize("row", ROWS)
def test_row_builds_flat_with_its_width_and_a_spatial_cam_layer(row):
    model = build_model(spec(row))
    assert model.input_shape == (None, spec(row).image_size, spec(row).image_size, 3)
    assert model.output_shape == (None, 7)
    # ConvNeXt's stem and downsampling are small Sequentials; the path from the CAM layer on is flat everywhere.
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert all(isinstance(layer, keras.Sequential) and row.family.name == "ConvNeXt" for layer in nested)
    assert model.get_layer("head_pool").output.shape == (None, row.width)
    height, width, channels = model.get_layer(row.cam_layer).output.shape[1:]
    assert height > 1
    assert width > 1
    assert channels == row.width
    blocks = block_of_layers(model, row)
    assert set(blocks) == {layer.name for layer in backbone_layers(model)}
    assert blocks[backbone_layers(model)[-1].name] == block_order(model, row)[-1]
    if row.name in BLOCKS:
        assert len(block_order(model, row)) == BLOCKS[row.name]


@pytest.mark.parametrize("row", ROWS)
def test_row_has_the_published_number_of_parameters(row):
    if row.name in RESNET_BUILDERS:
        backbone = build_backbone(spec(row))
        counted = backbone.count_params() + row.width * 1000 + 1000
    else:
        counted = getattr(keras.applications, row.name)(weights=None).count_params()
    expected = BUILT_OTHERWISE.get(row.name, row.parameters_millions)
    assert counted / 1e6 == pytest.approx(expected, abs=0.1)  # Keras cuts some figures off instead of rounding


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined:UserWarning")  # what MobileNets say to the default size
@pytest.mark.parametrize("row", [param for param in ROWS if param.values[0].weights_url])
def test_row_names_the_file_that_keras_would_download(row, monkeypatch):
    asked = []

    def get_file(fname=None, origin=None, file_hash=None, **options):
        asked.append((origin, fname, file_hash or ""))
        raise ConnectionError

    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(ConnectionError):
        getattr(keras.applications, row.name)(weights="imagenet", include_top=False)
    assert asked == [row.weights_source()]


# Sides with weights of their own in either family, and others: too small, between, default sizes of other backbones.
SIDES = (32, 64, 96, 128, 144, 160, 192, 200, 224, 225, 256, 299)
WIDTHS = [(name, alpha) for name in ("MobileNet", "MobileNetV2") for alpha in BACKBONES[name].family.alphas]
ONLY_224 = [("MobileNetV2", 1.3), ("MobileNetV2", 1.4)]


@pytest.fixture
def ask_keras(monkeypatch):
    """What keras.applications would download for MobileNets, without building their blocks, which takes minutes."""
    asked = []

    def get_file(fname=None, origin=None, file_hash=None, **options):
        asked.append((origin, fname, file_hash or ""))
        raise ConnectionError

    def ask(name, alpha, side):
        with pytest.raises(ConnectionError):
            getattr(keras.applications, name)(
                weights="imagenet", include_top=False, alpha=alpha, input_shape=(side, side, 3)
            )
        return asked.pop()

    monkeypatch.setattr(file_utils, "get_file", get_file)
    monkeypatch.setattr(mobilenet, "_depthwise_conv_block", lambda inputs, *arguments, **options: inputs)
    monkeypatch.setattr(mobilenet_v2, "_inverted_res_block", lambda inputs, *arguments, **options: inputs)
    return ask


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined:UserWarning")  # said of sizes without weights
@pytest.mark.parametrize(("name", "alpha"), [width for width in WIDTHS if width not in ONLY_224])
def test_weights_are_chosen_by_input_size_as_keras_chooses_them(ask_keras, name, alpha):
    row = BACKBONES[name]
    ours = {side: row.weights_source(alpha, row.weights_size(side, alpha)) for side in SIDES}
    assert ours == {side: ask_keras(name, alpha, side) for side in SIDES}
    sizes = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}[name]
    assert row.weights_sizes(alpha) == sizes
    assert {side: row.weights_size(side, alpha) for side in SIDES} == {
        side: side if side in sizes else 224 for side in SIDES
    }


@pytest.mark.filterwarnings("ignore:`input_shape` is undefined:UserWarning")
@pytest.mark.parametrize(("name", "alpha"), ONLY_224)
def test_wide_networks_take_the_only_weights_there_are_where_keras_asks_for_a_file_that_is_not(ask_keras, name, alpha):
    row = BACKBONES[name]
    assert f"_{alpha}_128_no_top.h5" in ask_keras(name, alpha, 128)[1]  # answered with 404 (keras#16452)
    assert {row.weights_size(side, alpha) for side in SIDES} == {224}
    assert row.weights_sizes(alpha) == (224,)
    assert row.weights_source(alpha, 224) == ask_keras(name, alpha, 224)


def test_other_backbones_have_one_file_for_every_input_size():
    having = {name for name, row in BACKBONES.items() if row.weights_sizes()}
    assert having == {"MobileNet", "MobileNetV2"}
    assert BACKBONES["EfficientNetB0"].weights_size(128) is None
    assert "{" not in "".join(BACKBONES["MobileNetV3Small"].weights_source(0.75, 128))


def test_the_table_is_the_whole_of_keras_applications_and_two_more():
    published = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert set(BACKBONES) == published | {"ResNet18", "ResNet34"}


def test_width_multipliers_name_their_own_files():
    assert BACKBONES["MobileNet"].weights_source(0.75)[1] == "mobilenet_7_5_224_tf_no_top.h5"
    assert BACKBONES["MobileNet"].weights_source()[1] == "mobilenet_1_0_224_tf_no_top.h5"
    assert "kernels_0.35_224_no_top.h5" in BACKBONES["MobileNetV2"].weights_source(0.35)[1]
    assert BACKBONES["MobileNetV3Small"].weights_source(0.75)[1:] == (
        "weights_mobilenet_v3_small_224_0.75_float_no_top_v2.h5",
        "",
    )
    assert BACKBONES["ResNet18"].weights_source() is None


def test_the_head_adds_what_the_studys_published_counts_imply():
    # VGG16 with 256 hidden units and 200 classes: 14,714,688 + (512 · 256 + 256) + (256 · 200 + 200) = 14,897,416.
    model = build_model(spec(BACKBONES["VGG16"], num_classes=200))
    assert count_parameters(model) == (14_897_416, 14_897_416)
    dense = [layer for layer in model.layers if layer.name.startswith("head_")]
    assert [type(layer).__name__ for layer in dense] == ["GlobalAveragePooling2D", "Dropout", "Dense", "Dense"]
    assert dense[1].rate == 0.3
    assert float(dense[2].kernel_regularizer(np.full((2, 2), 3.0))) == pytest.approx(1e-4 * 4 * 9)


def test_without_hidden_units_the_head_is_one_layer():
    model = build_model(spec(BACKBONES["MobileNet"], hidden_units=0, alpha=0.25))
    assert [layer.name for layer in model.layers if layer.name.startswith("head_")] == [
        "head_pool", "head_dropout", "head_probabilities",
    ]  # fmt: skip
    assert model.get_layer("head_pool").output.shape == (None, 256)
