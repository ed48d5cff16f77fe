"""Loads weights into a newly built model: from ImageNet, a file, or an earlier run."""

import warnings
from pathlib import Path

import keras
import numpy as np

from keras_bench.errors import UserError, one_line
from keras_bench.models.build import ModelSpec, backbone_layers, build_backbone, build_model
from keras_bench.models.normalization import fix_efficientnet_normalization


def initial_model(spec: ModelSpec, weights: Path | None) -> keras.Model:
    """Return the model from which a run starts: a backbone with these weights, and a random head.

    The same weights give the same outputs, whichever way they are loaded.

    Args:
        spec: the model to build.
        weights: None for random weights; an .h5 file of the backbone without top, as published for keras.applications;
            or a .keras file saved by keras-bench, whose head is discarded.

    Raises:
        UserError: the file does not fit this backbone.
    """
    model = build_model(spec)
    if weights is not None and weights.suffix == ".keras":
        _copy_backbone(load_model(weights), model, weights)
    elif weights is not None:
        backbone = build_backbone(spec)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # Keras only warns of layers for which it found no weights
                backbone.load_weights(weights)
        except Exception as error:  # Keras and h5py raise exceptions of many kinds, without a common base class
            raise UserError(
                f"weights: {weights} does not fit {spec.backbone.name} without its top ({one_line(error, limit=160)}); "
                "give weights that keras.applications publishes for it, or check model.alpha"
            ) from error
        _copy_backbone(backbone, model, weights)
    if spec.backbone.family.name == "EfficientNet":
        fix_efficientnet_normalization(backbone_layers(model))
    return model


def load_model(path: Path) -> keras.Model:
    """Load a .keras file in safe mode, uncompiled.

    Raises:
        UserError: the file is damaged or is not a Keras model.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras and h5py raise exceptions of many kinds, without a common base class
        raise UserError(f"{path}: not a model that can be loaded ({one_line(error, limit=160)})") from error


def _copy_backbone(source: keras.Model, target: keras.Model, origin: Path) -> None:
    """Copy weights by position: some names in keras.applications carry a number that differs between processes."""
    source_weights = [weight for layer in backbone_layers(source) for weight in layer.weights]
    target_weights = [weight for layer in backbone_layers(target) for weight in layer.weights]
    if [tuple(weight.shape) for weight in source_weights] != [tuple(weight.shape) for weight in target_weights]:
        received, expected = (sum(int(np.prod(w.shape)) for w in group) for group in (source_weights, target_weights))
        raise UserError(
            f"weights: {origin} holds another backbone than {target.name}: "
            f"expected {expected:,} backbone parameters, received {received:,}"
        )
    for target_weight, source_weight in zip(target_weights, source_weights, strict=True):
        target_weight.assign(source_weight)
