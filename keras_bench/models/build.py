"""Builds one flat functional model from raw RGB pixels to class probabilities."""

from dataclasses import dataclass

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.config import ModelConfig
from keras_bench.models.normalization import normalize
from keras_bench.models.resnet import RESNET_BUILDERS

HEAD = "head_"  # prefix of the names of all head layers; all other layers belong to the backbone
POOL = f"{HEAD}pool"
FEATURES_LAYER = "features"
POOLED_NORM = "features_norm"


@dataclass(frozen=True)
class ModelSpec:
    """Everything that determines a model's graph.

    Attributes:
        backbone: a row of the table.
        image_size: side of the square input, pixels.
        num_classes: width of the softmax.
        config: width multiplier and head.
    """

    backbone: Backbone
    image_size: int
    num_classes: int
    config: ModelConfig


def build_backbone(spec: ModelSpec) -> keras.Model:
    """Return the network without its head, randomly initialised, pixel normalisation included.

    The graph is the same whichever weights are loaded later: keras.applications adds a layer to EfficientNet if called
    with ImageNet weights (tensorflow#62193), so it is always called without.

    Returns:
        a flat functional model from `image`, float32 (batch, image_size, image_size, 3), RGB in [0, 255], to the
        last feature map, (batch, height, width, channels); or, if the last layer was pretrained on pooled features
        (`Family.pooled_norm`), to these features, normalised, (batch, channels).
    """
    row = spec.backbone
    image = keras.Input((spec.image_size, spec.image_size, 3), name="image")
    pixels = normalize(image, row.family.normalization)
    arguments = {"alpha": spec.config.alpha} if spec.config.alpha is not None else {}
    if row.name in RESNET_BUILDERS:
        features = RESNET_BUILDERS[row.name](pixels)
    else:
        builder = getattr(keras.applications, row.name)
        features = builder(include_top=False, weights=None, input_tensor=pixels, **arguments).output
    norm = features._keras_history.operation if row.family.pooled_norm else None
    if norm is not None:
        features = norm.input
    if row.cam_layer == FEATURES_LAYER:
        features = keras.layers.Activation("linear", name=FEATURES_LAYER)(features)
    if norm is not None:
        features = keras.layers.GlobalAveragePooling2D(name=POOL)(features)
        features = keras.layers.LayerNormalization(epsilon=norm.epsilon, name=POOLED_NORM)(features)
    return keras.Model(image, features, name=row.name)


def build_model(spec: ModelSpec) -> keras.Model:
    """Return backbone and head, randomly initialised, as one flat functional model.

    The head is global average pooling (ConvNeXt's last LayerNormalization, which belongs to the backbone, follows it
    directly), dropout, a ReLU layer with L2 (none if `hidden_units` is 0) and a softmax computed in float32 whatever
    the precision policy.

    Returns:
        a model from `image`, float32 (batch, image_size, image_size, 3), RGB in [0, 255], to float32
        (batch, num_classes), rows summing to 1.
    """
    backbone = build_backbone(spec)
    penalty = keras.regularizers.L2(spec.config.l2) if spec.config.l2 else None
    x = backbone.output
    if not spec.backbone.family.pooled_norm:
        x = keras.layers.GlobalAveragePooling2D(name=POOL)(x)
    x = keras.layers.Dropout(spec.config.dropout, name=f"{HEAD}dropout")(x)
    if spec.config.hidden_units:
        x = keras.layers.Dense(
            spec.config.hidden_units, activation="relu", kernel_regularizer=penalty, name=f"{HEAD}hidden"
        )(x)
    probabilities = keras.layers.Dense(
        spec.num_classes,
        activation="softmax",
        kernel_regularizer=penalty,
        dtype="float32",
        name=f"{HEAD}probabilities",
    )(x)
    return keras.Model(backbone.input, probabilities, name=spec.backbone.name)


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers outside the head, in the order of the graph."""
    return [layer for layer in model.layers if not layer.name.startswith(HEAD)]
