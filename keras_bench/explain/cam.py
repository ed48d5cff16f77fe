"""Chooses the layer whose activations class-activation maps use; the last feature map is often too small."""

from fractions import Fraction

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.explain.records import CamLayer
from keras_bench.models.graph import Graph, graph_of

SMALLEST_MAP = 4  # cells per side; a map of one cell shows no position, one of 2 × 2 cells hardly any
# Their outputs are shifted against the image by the rows and columns they add or remove.
SHIFTING = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


def choose_cam_layer(model: keras.Model, backbone: Backbone) -> CamLayer:
    """Return the layer that class-activation maps use; it depends only on the graph.

    It is the layer in the backbone table if its map has at least 4 × 4 cells. Otherwise, among the smallest maps of at
    least that size, it is the last one on the main path, through which all paths from the image to the prediction lead;
    this excludes the branches of residual blocks, squeeze-and-excite and Inception modules. If no map of that size is
    on all paths (in NASNet each cell reads the two cells before it), it is the one on the most paths, and on more than
    half of them.

    Args:
        model: flat functional model with the backbone's layers.
        backbone: the backbone's entry in the table.
    """
    graph = graph_of(model)
    sides = [_side(output) for output in graph.outputs]
    default = next(i for i, operation in enumerate(graph.operations) if operation.name == backbone.cam_layer)
    chosen = default
    if sides[default] < SMALLEST_MAP:
        shares = _shares_of_paths(graph)
        suitable = [
            (-sides[i], shares[i], i)
            for i, operation in enumerate(graph.operations)
            if sides[i] >= SMALLEST_MAP and shares[i] > Fraction(1, 2) and not isinstance(operation, SHIFTING)
        ]
        chosen = max(suitable)[-1]
    return CamLayer(str(graph.operations[chosen].name), sides[chosen], sides[default])


def _side(output: keras.KerasTensor) -> int:
    """Return the shorter side of a map, (batch, height, width, channels), in cells; 0 for other tensors."""
    return min(output.shape[1:3]) if len(output.shape) == 4 else 0


def _shares_of_paths(graph: Graph) -> list[Fraction]:
    """Return the share of all paths from the image to the prediction that lead through each operation."""
    count = len(graph.operations)
    paths_before = [0] * count
    for i, inputs in enumerate(graph.inputs):
        paths_before[i] = sum(paths_before[k] for k in inputs) if inputs else 1
    paths_behind = [0] * (count - 1) + [1]
    for i in reversed(range(count)):
        for k in graph.inputs[i]:
            paths_behind[k] += paths_behind[i]
    return [Fraction(paths_before[i] * paths_behind[i], paths_before[-1]) for i in range(count)]
