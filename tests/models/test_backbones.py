"""Holds every row of the backbone table to what it claims; the larger rows run in `make test-all`."""

import gc

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from keras_bench.backbones import BACKBONES
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
