"""Decides which layers train in a phase."""

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

    A frozen BatchNorm layer also keeps its moving statistics. That must be asked for layer by layer: in Keras
    3.15 `fit` runs an unfrozen backbone's BatchNorm in training mode whatever the call said (keras#23364). Likewise a
    frozen layer drops nothing (EfficientNet drops whole branches while it trains): its rate becomes 0, for good, as
    if the backbone were called with training=False, the way of https://keras.io/guides/transfer_learning/.

    Args:
        model: flat model from `build_model`.
        backbone: its row of the table.
        phase: "tl" trains the head only, "ft" the head and the unfrozen blocks, "scratch" everything.
        unfreeze: in ft "all", or the number of last blocks that train.
        batch_norm: in ft "frozen" keeps every BatchNorm layer frozen, "train" trains those of unfrozen blocks.
        momentum: of BatchNorm layers that train; None leaves the backbone's own. With Keras's 0.99 to 0.9997 the
            moving statistics need thousands of steps to forget their start, and a short training from scratch
            is evaluated with statistics it never had.
    """
    layers = backbone_layers(model)
    trained = set()
    if phase == "scratch" or (phase == "ft" and unfreeze == "all"):
        trained = {layer.name for layer in layers}
    elif phase == "ft":
        last = set(block_order(model, backbone)[-int(unfreeze) :])
        trained = {name for name, block in block_of_layers(model, backbone).items() if block in last}
    for layer in layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = layer.name in trained and not (is_norm and phase == "ft" and batch_norm == "frozen")
        if is_norm and layer.trainable and momentum is not None:
            layer.momentum = momentum
        if isinstance(layer, keras.layers.Dropout) and layer.name not in trained:
            layer.rate = 0.0
    for layer in model.layers:
        if layer.name.startswith(HEAD):
            layer.trainable = True


def block_of_layers(model: keras.Model, backbone: Backbone) -> dict[str, str]:
    """Return for each backbone layer the name of its block.

    Layers whose name tells no block (the stem, a shortcut's convolution, all of Inception's) belong to the next
    layer that has one; those after the last block belong to it.
    """
    found: dict[str, str] = {}
    waiting: list[str] = []
    last = ""
    for layer in backbone_layers(model):
        match = backbone.blocks.search(layer.name)
        waiting.append(layer.name)
        if match:
            last = match.group(match.re.groups)
            found.update(dict.fromkeys(waiting, last))
            waiting = []
    found.update(dict.fromkeys(waiting, last))
    return found


def block_order(model: keras.Model, backbone: Backbone) -> list[str]:
    """Return the names of the blocks from input to output."""
    return list(dict.fromkeys(block_of_layers(model, backbone).values()))


def count_parameters(model: keras.Model) -> tuple[int, int]:
    """Return (all, trainable) parameters, each weight counted once."""
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return int(model.count_params()), trainable
