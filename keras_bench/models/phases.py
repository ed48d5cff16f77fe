"""Sets which layers train in a phase."""

import math

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.models.build import HEAD, backbone_layers
from keras_bench.phases import Phase


def set_phase(
    model: keras.Model,
    backbone: Backbone,
    phase: Phase,
    unfreeze: str | int = "all",
    batch_norm: str = "frozen",
    momentum: float | None = None,
) -> None:
    """Set `trainable` on every layer; compile the model afterwards with a new optimizer.

    A frozen BatchNorm layer also keeps its moving statistics. Each such layer must be frozen itself: in Keras 3.15
    `fit` runs an unfrozen backbone's BatchNorm in training mode even if it was called with training=False
    (keras#23364). The dropout rate of frozen layers is set to 0 permanently (EfficientNet drops whole branches in
    training), as if the backbone were called with training=False; see https://keras.io/guides/transfer_learning/.

    Args:
        model: flat model from `build_model`.
        backbone: its row of the table.
        phase: "tl" trains the head only, "ft" the head and the unfrozen blocks, "scratch" everything.
        unfreeze: in ft "all", or the number of last blocks that train.
        batch_norm: in ft "frozen" keeps every BatchNorm layer frozen, "train" trains those of unfrozen blocks.
        momentum: momentum of BatchNorm layers that train; None keeps the backbone's. With Keras's 0.99 to 0.9997 the
            moving statistics need thousands of steps to forget their initial values, so a network trained from scratch
            for a short time would be evaluated with statistics that its activations never had.
    """
    layers = backbone_layers(model)
    unfrozen = set()
    if phase == "scratch" or (phase == "ft" and unfreeze == "all"):
        unfrozen = {layer.name for layer in layers}
    elif phase == "ft":
        last_blocks = set(block_order(model, backbone)[-int(unfreeze) :])
        unfrozen = {name for name, block in block_of_layers(model, backbone).items() if block in last_blocks}
    for layer in layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name in unfrozen and not (is_norm and phase == "ft" and batch_norm == "frozen")
        if is_norm and layer.trainable and momentum is not None:
            layer.momentum = momentum
        if isinstance(layer, keras.layers.Dropout) and layer.name not in unfrozen:
            layer.rate = 0.0
    for layer in model.layers:
        if layer.name.startswith(HEAD):
            layer.trainable = True


def block_of_layers(model: keras.Model, backbone: Backbone) -> dict[str, str]:
    """Return the name of its block for each backbone layer.

    A layer whose name contains no block (the stem, a shortcut's convolution, most of Inception's) belongs to the block
    of the next layer that names one; layers after the last block belong to that block.
    """
    block_by_layer: dict[str, str] = {}
    pending: list[str] = []
    block = ""
    for layer in backbone_layers(model):
        match = backbone.blocks.search(layer.name)
        pending.append(layer.name)
        if match:
            block = match.group(match.re.groups)
            block_by_layer.update(dict.fromkeys(pending, block))
            pending = []
    block_by_layer.update(dict.fromkeys(pending, block))
    return block_by_layer


def block_order(model: keras.Model, backbone: Backbone) -> list[str]:
    """Return the names of the blocks from input to output."""
    return list(dict.fromkeys(block_of_layers(model, backbone).values()))


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """Return the numbers of all and of trainable parameters; shared weights count once."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return int(model.count_params()), trainable
