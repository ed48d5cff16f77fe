"""A functional model as a graph of operations, for which Keras has no public API."""

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Graph:
    """The operations of a model in topological order, from the image to the prediction.

    Attributes:
        operations: layers, and arithmetic such as `x + y`.
        outputs: the (first) output of each operation.
        inputs: for each operation, the positions of the operations whose outputs it reads.
    """

    operations: list[keras.Operation]
    outputs: list[keras.KerasTensor]
    inputs: list[list[int]]


def graph_of(model: keras.Model) -> Graph:
    """Return the graph of a functional model that calls each layer once; a nested model counts as one operation."""
    operations = list(model.operations)
    position = {operation: i for i, operation in enumerate(operations)}
    nodes = {position[node.operation]: node for level in model._nodes_by_depth.values() for node in level}
    ordered_nodes = [nodes[i] for i in range(len(operations))]
    return Graph(
        operations,
        [node.outputs[0] for node in ordered_nodes],
        [[position[parent.operation] for parent in node.parent_nodes] for node in ordered_nodes],
    )
