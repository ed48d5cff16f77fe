"""Splits a model where its frozen part ends, so that this part needs to run only once per image."""

import hashlib
import json
from collections.abc import Iterator

import keras

from keras_bench.models.build import HEAD, POOL
from keras_bench.models.graph import graph_of


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the frozen part of a model and its tail, the layers after it; both share the model's layers and weights.

    The cut is the last tensor that is the only input of everything after it, with no trainable layer before it.
    Dropout in the frozen part counts as frozen, since `set_phase` disabled it.

    Args:
        model: flat functional model from `build_model`, its phase set.

    Returns:
        (frozen, tail): from images, float32 (batch, side, side, 3), to features, and from features to probabilities.

    Raises:
        ValueError: no layer with weights is frozen before the first trainable one.
    """
    cut = _last_frozen_bridge(model)
    frozen = keras.Model(model.input, cut, name=f"{model.name}_frozen")
    if not frozen.weights:
        raise ValueError("every block trains, so no part of the model has fixed outputs")
    return frozen, keras.Model(cut, model.output, name=f"{model.name}_tail")


def network_digest(network: keras.Model) -> str:
    """Return a digest of everything that determines a network's output: its graph, weights and precision.

    Names are ignored, since some in keras.applications carry a number that differs between processes, and so is
    `trainable`. Any change in how a model is built or normalised therefore changes the digest.
    """
    config = json.loads(network.to_json())
    names = {name: f"layer {i}" for i, name in enumerate([network.name, *_layer_names(config)])}
    text = json.dumps(_without_names(config, names), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for weight in network.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def _layer_names(tree: object) -> Iterator[str]:
    """Yield the name of each layer of a configuration, including those of nested models, in order."""
    if isinstance(tree, dict):
        for layer in tree.get("layers", []):
            yield layer["config"]["name"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _layer_names(branch)


def _without_names(tree: object, names: dict[str, str]) -> object:
    """Return a JSON configuration with each layer's name replaced by its position, and without `trainable`."""
    if isinstance(tree, dict):
        return {key: _without_names(value, names) for key, value in tree.items() if key != "trainable"}
    if isinstance(tree, list):
        return [_without_names(value, names) for value in tree]
    return names.get(tree, tree) if isinstance(tree, str) else tree


def _last_frozen_bridge(model: keras.Model) -> keras.KerasTensor:
    """Return the output of the last frozen operation that alone connects what precedes it with what follows it."""
    graph = graph_of(model)
    earliest_inputs = [min(inputs, default=i) for i, inputs in enumerate(graph.inputs)]
    first_trained = next(i for i, operation in enumerate(graph.operations) if _is_trained(operation))
    # After a bridge at i, no operation may read an output from before i.
    bridges = [i for i in range(first_trained) if min(earliest_inputs[i + 1 :]) >= i]
    return graph.outputs[bridges[-1]]


def _is_trained(operation: keras.Operation) -> bool:
    if operation.name.startswith(HEAD):
        return operation.name != POOL
    return isinstance(operation, keras.layers.Layer) and bool(operation.trainable_weights)
