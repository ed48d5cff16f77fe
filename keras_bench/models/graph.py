"""A flat functional model as a graph of operations; Keras has no public names for it."""

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Graph:
    """The operations of a model, from the image to the output, each behind everything it reads.

    Attributes:
        operations: layers, and arithmetic such as `x + y` that is no layer.
        outputs: the (first) output of each.
        inputs: for each, the positions of the operations whose outputs it reads.
    """

    operations: list[keras.Operation]
    outputs: list[keras.KerasTensor]
    inputs: list[list[int]]


def graph_of(model: keras.Model) -> Graph:
    """Return the graph of a functional model that calls each layer once; models inside it are one operation each."""
    operations = list(model.operations)
    position = {operation: i for i, operation in enumerate(operations)}
    nodes = {position[node.operation]: node for level in model._nodes_by_depth.values() for node in level}
    in_order = [nodes[i] for i in range(len(operations))]
    return Graph(
        operations,
        [node.outputs[0] for node in in_order],
        [[position[parent.operation] for parent in node.parent_nodes] for node in in_order],
    )
