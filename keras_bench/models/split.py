"""Cuts a model where its frozen part ends, so that this part need run only once for each image."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import keras

from keras_bench.models.build import HEAD, POOL
from keras_bench.models.graph import graph_of


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return the frozen part of a model and the rest; both share the model's layers and weights.

    The cut is the last tensor on which everything behind it depends alone, with nothing before it that trains.
    Dropout in the frozen part counts as frozen; `set_phase` turned it off.

    Args:
        model: flat functional model from `build_model`, its phase set.

    Returns:
        (frozen, rest): from images, float32 (batch, side, side, 3), to features, and from features to probabilities.

    Raises:
        ValueError: nothing that has weights is frozen from the input on.
    """
    cut = _cut(model)
    frozen = keras.Model(model.input, cut, name=f"{model.name}_frozen")
    if not frozen.weights:
        raise ValueError("every block trains, so there is nothing that need run only once")
    return frozen, keras.Model(cut, model.output, name=f"{model.name}_rest")


def network_digest(network: keras.Model) -> str:
    """Return a digest of all that decides what a network gives for an image: its graph, its weights, its precision.

    Names do not count, since keras.applications numbers some of them anew in each process, nor does which layers
    train. So a change in how a model is built, or normalised, is a change here, whoever thought of it.
    """
    config = json.loads(network.to_json())
    names = {name: f"layer {i}" for i, name in enumerate([network.name, *_layer_names(config)])}
    text = json.dumps(_without_names(config, names), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for weight in network.weights:
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


def _layer_names(tree: Any) -> Iterator[str]:
    """Yield the name of each layer of a configuration, those of models within models too, in its order."""
    if isinstance(tree, dict):
        for layer in tree.get("layers", []):
            yield layer["config"]["name"]
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _layer_names(branch)


def _without_names(tree: Any, names: dict[str, str]) -> Any:
    """Return a configuration as JSON has it with each layer's name replaced by its place, and without `trainable`."""
    if isinstance(tree, dict):
        return {key: _without_names(value, names) for key, value in tree.items() if key != "trainable"}
    if isinstance(tree, list):
        return [_without_names(value, names) for value in tree]
    return names.get(tree, tree) if isinstance(tree, str) else tree


def _cut(model: keras.Model) -> keras.KerasTensor:
    """Return the output of the last operation that can be the only bridge between a frozen part and the rest."""
    graph = graph_of(model)
    # Where the inputs of each operation come from at the earliest.
    earliest = [min(inputs, default=i) for i, inputs in enumerate(graph.inputs)]
    end = next(i for i, operation in enumerate(graph.operations) if _is_trained(operation))
    # Behind a bridge at i, nothing may look back beyond i.
    bridges = [i for i in range(end) if min(earliest[i + 1 :]) >= i]
    return graph.outputs[bridges[-1]]


def _is_trained(operation: keras.Operation) -> bool:
    if operation.name.startswith(HEAD):
        return operation.name != POOL
    return isinstance(operation, keras.layers.Layer) and bool(operation.trainable_weights)
