"""Counts against published ones and, layer by layer, against numbers worked out by hand."""

import gc

import keras
import pytest
import tensorflow as tf

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.cost.count import count_cost, graph_flops, multiply_adds
from keras_bench.errors import RunError
from keras_bench.models.build import ModelSpec, build_backbone, build_model

# Billions of multiply-adds per image at the backbone's default size with the 1000-class top, and relative tolerance.
# ResNet50: 3.8 in the paper, which Keras follows; 4.09 in torchvision, which has the stride in the 3 × 3 convolution.
# InceptionV3 and EfficientNetB0: Szegedy et al. 2015 ("5 billion") and Tan & Le 2019; 5.7 is torchvision's.
PUBLISHED = {
    "MobileNet": (0.569, 0.005),  # Howard et al. 2017, table 4
    "EfficientNetB0": (0.39, 0.02),
    "EfficientNetB7": (37, 0.03),  # Tan & Le 2019, table 2, at 600 pixels
    "ResNet18": (1.82, 0.01),  # He et al. 2015, table 1: 1.8
    "ResNet34": (3.67, 0.01),  # the same: 3.6
    "ResNet50": (3.86, 0.01),
    "ResNet152": (11.3, 0.01),  # He et al. 2015, table 1
    "VGG16": (15.5, 0.01),
    "InceptionV3": (5.7, 0.01),
    "ConvNeXtTiny": (4.5, 0.02),  # Liu et al. 2022, table 1
}
QUICK = ("MobileNet", "ResNet18")


@pytest.fixture(autouse=True)
def _release_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def published_model(row):
    """Return the network as its paper describes it: with 1000 classes and no hidden layer, or VGG's own top."""
    if row.name == "VGG16":
        return keras.applications.VGG16(weights=None)
    backbone = build_backbone(ModelSpec(row, row.image_size, 1000, ModelConfig()))
    features = backbone.output
    if len(features.shape) == 4:
        features = keras.layers.GlobalAveragePooling2D()(features)
    return keras.Model(backbone.input, keras.layers.Dense(1000, activation="softmax")(features))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PUBLISHED]
)
def test_counts_equal_the_published_ones_and_the_graph_agrees(name):
    model = published_model(BACKBONES[name])
    expected, tolerance = PUBLISHED[name]
    count = multiply_adds(model)
    assert count / 1e9 == pytest.approx(expected, rel=tolerance)
    # TensorFlow counts operations, not layers: two per multiply-add, and 0.1 to 8 % more for everything else.
    assert 2 < graph_flops(model) / count < 2.2


def test_each_kind_of_layer_by_hand():
    image = keras.Input((8, 8, 6))
    layers = keras.layers
    by_hand = {
        # 8·8 positions, 3·3·6 values for each of 4 filters.
        layers.Conv2D(4, 3, padding="same"): 64 * 54 * 4,
        # Stride 2 halves the side; each of 3 groups sees 2 of the 6 channels: 4·4 positions, 3·3·2·9.
        layers.Conv2D(9, 3, strides=2, padding="same", groups=3): 16 * 18 * 9,
        # Padding "valid": 6·6 positions; each channel has 2 filters of 3·3.
        layers.DepthwiseConv2D(3, depth_multiplier=2): 36 * 9 * 12,
        # 3·3 on each of 6 channels, then 1·1·6 for each of 5 filters.
        layers.SeparableConv2D(5, 3, padding="same"): 64 * (9 * 6 + 6 * 5),
        # On a feature map, a dense layer is applied at every position.
        layers.Dense(7): 64 * 6 * 7,
        layers.BatchNormalization(): 0,
        layers.LayerNormalization(): 0,
        layers.Dropout(0.5): 0,
    }
    assert [multiply_adds(keras.Model(image, layer(image))) for layer in by_hand] == list(by_hand.values())


def test_nested_models_are_counted():
    image = keras.Input((8, 8, 3))
    inner = keras.Sequential([keras.layers.Conv2D(2, 2, strides=2), keras.layers.LayerNormalization()])
    model = keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(inner(image))))
    assert multiply_adds(model) == 16 * 12 * 2 + 32 * 5


def test_a_loaded_model_with_nested_models_has_the_same_count(tmp_path):
    image = keras.Input((8, 8, 3))  # like ConvNeXt's stem, whose first layer is called twice while it is loaded
    inner = keras.Sequential([keras.layers.Conv2D(2, 2, strides=2), keras.layers.LayerNormalization()])
    keras.Model(image, keras.layers.Dense(5)(inner(image))).save(tmp_path / "model.keras")
    assert multiply_adds(keras.models.load_model(tmp_path / "model.keras")) == 16 * 12 * 2 + 16 * 2 * 5


def test_grouped_convolutions_count_in_the_graph_too():
    image = keras.Input((8, 8, 6))
    model = keras.Model(image, keras.layers.Conv2D(6, 3, padding="same", groups=6, use_bias=False)(image))
    assert graph_flops(model) == 2 * multiply_adds(model) == 2 * 64 * 9 * 6
    assert not tf.config.functions_run_eagerly()


def test_an_unknown_layer_with_a_matrix_is_refused():
    image = keras.Input((8, 6))
    model = keras.Model(image, keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), name="odd")(image))
    with pytest.raises(RunError, match="received layer odd of type EinsumDense"):
        multiply_adds(model)


def test_a_layer_that_is_called_twice_is_refused():
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    with pytest.raises(RunError, match="shared is called 2 times, expected once"):
        multiply_adds(keras.Model(image, shared(shared(image))))


def test_cost_of_a_saved_model(tmp_path, capfd):
    model = build_model(ModelSpec(BACKBONES["MobileNet"], 32, 7, ModelConfig(alpha=0.25)))
    file = tmp_path / "model.keras"
    model.save(file)
    loaded = keras.models.load_model(file, compile=False)
    cost = count_cost(loaded, 32, file)
    # Howard et al. 2017, table 1, at alpha 0.25 without its top, then 256 hidden units and 7 classes.
    backbone = 218_544
    head = 256 * 256 + 256 + 256 * 7 + 7
    assert cost.parameters == backbone + head
    assert cost.weight_bytes == 4 * cost.parameters
    assert cost.file_bytes == file.stat().st_size > cost.weight_bytes
    assert cost.image_size == 32
    assert cost.multiply_adds == multiply_adds(model)
    # 16 × 16 positions and few channels: operations besides convolutions weigh more than in large networks.
    assert 2 < cost.flops / cost.multiply_adds < 2.6
    assert capfd.readouterr().out == ""  # the profiler is silent
    with pytest.raises(RunError, match="expected input of 64 pixels"):
        count_cost(loaded, 64, file)
