"""Chooses the layer whose activations class-activation maps use, where the last map is too small to show a place."""

from fractions import Fraction

import keras

from keras_bench.backbones.table import Backbone
from keras_bench.explain.records import CamLayer
from keras_bench.models.graph import Graph, graph_of

SMALLEST_MAP = 4  # cells a side; a map of one cell says nothing, one of 2 × 2 cells hardly more
# Their outputs lie beside the image by what they add or take on one side.
SHIFTING = (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)


def choose_cam_layer(model: keras.Model, backbone: Backbone) -> CamLayer:
    """Return the layer that class-activation maps use, the same for the same graph.

    That of the backbone table where its map has at least 4 × 4 cells. Else, of the smallest maps that have, the last
    one on the main path: all paths from the image to the output lead through it, which leaves out the branches of
    residual blocks, squeeze-and-excite and Inception modules. Where no map of that size is on all paths (in NASNet each
    cell also reads the cell before the last), the one that most paths lead through, and more than half of them.

    Args:
        model: flat functional model with the backbone's layers.
        backbone: its row of the table.
    """
    graph = graph_of(model)
    sides = [_side(output) for output in graph.outputs]
    table = next(i for i, operation in enumerate(graph.operations) if operation.name == backbone.cam_layer)
    chosen = table
    if sides[table] < SMALLEST_MAP:
        shares = _shares_of_paths(graph)
        suitable = [
            (-sides[i], shares[i], i)
            for i, operation in enumerate(graph.operations)
            if sides[i] >= SMALLEST_MAP and shares[i] > Fraction(1, 2) and not isinstance(operation, SHIFTING)
        ]
        chosen = max(suitable)[-1]
    return CamLayer(str(graph.operations[chosen].name), sides[chosen], sides[table])


def _side(output: keras.KerasTensor) -> int:
    """Return the cells along the shorter side of a map, (batch, height, width, channels); 0 for other tensors."""
    return min(output.shape[1:3]) if len(output.shape) == 4 else 0


def _shares_of_paths(graph: Graph) -> list[Fraction]:
    """Return for each operation which share of all paths from the image to the output leads through it."""
    count = len(graph.operations)
    before = [0] * count
    for i, inputs in enumerate(graph.inputs):
        before[i] = sum(before[k] for k in inputs) if inputs else 1
    behind = [0] * (count - 1) + [1]
    for i in reversed(range(count)):
        for k in graph.inputs[i]:
            behind[k] += behind[i]
    return [Fraction(before[i] * behind[i], before[-1]) for i in range(count)]
