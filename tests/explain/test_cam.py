"""The layer that class-activation maps use: large enough, aligned with the image, and on the main path."""

import gc

import keras
import pytest

from keras_bench.backbones.table import BACKBONES
from keras_bench.config import ModelConfig
from keras_bench.explain.cam import choose_cam_layer
from keras_bench.explain.records import CamLayer, ExplanationChecks
from keras_bench.models.build import ModelSpec, build_model
from keras_bench.models.graph import graph_of

# The expected layer, read off the architectures by hand: the end of the last stage whose map is large enough, or the
# expansion before the stride that ends it.
EXPECTED = {
    ("MobileNet", 32): ("conv_pw_5_relu", 4, 1),
    ("MobileNet", 64): ("conv_pw_11_relu", 4, 2),
    ("MobileNet", 128): ("conv_pw_13_relu", 4, 4),
    ("VGG16", 32): ("block4_conv3", 4, 2),
    ("ResNet18", 32): ("conv3_block2_out", 4, 1),
    ("ResNet18", 64): ("conv4_block2_out", 4, 2),
    ("MobileNetV2", 64): ("block_13_expand_relu", 4, 2),
    ("EfficientNetB0", 32): ("block4a_expand_activation", 4, 1),
    ("DenseNet121", 64): ("pool4_conv", 4, 2),
    ("ResNet50V2", 64): ("conv4_block5_out", 4, 2),
    ("InceptionV3", 75): ("mixed2", 7, 1),
    ("NASNetMobile", 32): ("normal_concat_3", 4, 1),
}
QUICK = ("MobileNet", "VGG16", "ResNet18", "MobileNetV2")
SMALL_ROWS = ("MobileNet", "ResNet18", "MobileNetV3Small")


def marked(name, quick, *values):
    return pytest.param(name, *values, marks=() if name in quick else pytest.mark.slow)


@pytest.fixture(autouse=True)
def _release_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def build(name, side):
    return build_model(ModelSpec(BACKBONES[name], side, 3, ModelConfig(hidden_units=8)))


@pytest.mark.parametrize(("name", "side"), [marked(name, QUICK, side) for name, side in EXPECTED])
def test_the_layer_is_the_one_read_off_the_architecture(name, side):
    assert choose_cam_layer(build(name, side), BACKBONES[name]) == CamLayer(*EXPECTED[name, side])


@pytest.mark.parametrize("least", [32, 64])
@pytest.mark.parametrize("name", [marked(name, SMALL_ROWS) for name in BACKBONES])
def test_every_backbone_has_a_faithful_map_of_four_cells_on_small_images(name, least):
    model = build(name, max(least, BACKBONES[name].family.min_size))
    chosen = choose_cam_layer(model, BACKBONES[name])
    graph = graph_of(model)
    position = next(i for i, operation in enumerate(graph.operations) if operation.name == chosen.name)
    assert min(graph.outputs[position].shape[1:3]) == chosen.side
    assert 4 <= chosen.side < 8  # each stage halves the side: this is the last one with at least 4
    assert chosen.last_side == min(model.get_layer(BACKBONES[name].cam_layer).output.shape[1:3])
    if chosen.last_side >= 4:
        assert chosen.name == BACKBONES[name].cam_layer
    assert not isinstance(graph.operations[position], (keras.layers.ZeroPadding2D, keras.layers.Cropping2D))
    if BACKBONES[name].family.name == "NASNet":  # each cell reads the two before it
        assert "concat" in chosen.name
    else:  # Keras itself refuses a model whose output does not depend only on its input
        keras.Model(graph.outputs[position], model.output)


def network(build_map):
    """Return a small network on 16 pixels whose last map, named "last", has one cell."""
    image = keras.Input((16, 16, 3), name="image")
    x = build_map(keras.layers.Conv2D(4, 2, strides=2, name="stem")(image))
    x = keras.layers.Conv2D(4, x.shape[1], name="last")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return keras.Model(image, keras.layers.Dense(2, name="head_probabilities")(x))


class Row:
    cam_layer = "last"


def test_branches_and_padding_are_skipped():
    def squeeze_and_residual(x):
        x = keras.layers.Conv2D(4, 2, strides=2, name="reduce")(x)  # 4 × 4
        branch = keras.layers.Conv2D(4, 1, name="branch")(x)
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(branch)
        branch = keras.layers.Multiply(name="excite")([branch, keras.layers.Conv2D(4, 1, name="gate")(gate)])
        x = keras.layers.Add(name="block_end")([x, branch])
        inner = keras.layers.Conv2D(4, 1, name="inner")(x)
        inner = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad")(inner)  # 5 × 5
        return keras.layers.Conv2D(4, 3, strides=2)(inner) + keras.layers.Conv2D(4, 2, strides=2)(x)

    assert choose_cam_layer(network(squeeze_and_residual), Row()) == CamLayer("block_end", 4, 1)


def test_arithmetic_between_layers_can_be_chosen():
    model = network(lambda x: keras.layers.Conv2D(4, 3, strides=3, name="next")(x + keras.layers.Dense(4)(x)))
    chosen = choose_cam_layer(model, Row())
    assert chosen.name.startswith("add")
    assert chosen.name not in {layer.name for layer in model.layers}
    assert (chosen.side, chosen.last_side) == (8, 1)


def test_if_cells_read_the_two_before_them_the_last_cell_is_chosen():
    def cells(x):
        def strided(x):
            return keras.layers.Conv2D(4, 2, strides=2)(x)

        earlier = keras.layers.Add(name="cell1")([strided(x), strided(x)])  # 4 × 4 from here on
        later = keras.layers.Concatenate(name="cell2")([keras.layers.Conv2D(4, 1)(earlier), strided(x), strided(x)])
        return keras.layers.Add()([strided(later), strided(later), strided(earlier)])

    # Of 10 paths, 6 lead through cell1 and 8 through cell2; no map of 4 × 4 is on all of them.
    assert choose_cam_layer(network(cells), Row()) == CamLayer("cell2", 4, 1)


def test_the_note_names_the_layer_and_the_reason_and_old_checks_have_none():
    assert CamLayer("x", 4, 1).note == "Grad-CAM uses layer x (4×4), since the last map is 1×1"
    assert CamLayer("x", 4, 4).note == ""
    checks = ExplanationChecks("ft", "x", {}, ("a",), (True,), (None,), {}, 5, 2)
    assert checks.layer_note == "Grad-CAM uses layer x (5×5), since the last map is 2×2"
    tree = checks.to_json()
    assert "correct" not in tree
    assert tree["right"] == (True,)  # its key in checks.json since the first version
    assert ExplanationChecks.from_json(tree) == checks
    for key in ("layer_side", "last_side"):  # absent in files of earlier versions
        del tree[key]
    assert ExplanationChecks.from_json(tree).layer == "x"
    assert ExplanationChecks.from_json(tree).layer_note == ""
