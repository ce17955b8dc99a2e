"""Shapes and constants through a whole graph: one walk infers each node and folds what is constant.

They need each other: a Reshape's shape is often computed by nodes that fold once a shape is known.
"""

from __future__ import annotations

import numpy as np

from .fold import deterministic, fold_node
from .ir import Const, Graph, Node, Value
from .shapes import infer_node


def infer(graph: Graph) -> Graph:
    """shape = Shape(x[2,3]); y = Reshape(x, shape) → y[2,3] = Reshape(x, [2,3]); dead nodes go."""
    kept: list[Node] = []
    for node in graph.nodes:
        infer_node(node)
        found = fold_node(node)
        if found is None:
            kept.append(node)
            continue
        live = [v for v in node.outputs if v.name]
        for value, array in zip(live, found, strict=False):
            if array is None or isinstance(array, (list, dict)):
                kept.append(node)  # a sequence or an empty optional has no Const
                break
        else:
            for value, array in zip(live, found, strict=False):
                _set(value, array)
            node.detach()
    graph.nodes = kept
    return graph


def _set(value: Value, array: object) -> None:
    result = np.asarray(array)
    value.const = Const.of(result, value.dtype if value.dtype == "string" else None)
    value.dtype, value.shape, value.producer = value.const.dtype, value.const.shape, None


def mark_once(graph: Graph) -> Graph:
    """Nodes whose inputs never change run once at load: node.once = True."""
    for node in graph.nodes:
        node.once = all(v.once for v in node.reads()) and deterministic(node)
    return graph
