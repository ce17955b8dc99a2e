"""Shapes and constants through a whole graph: one walk infers each node and folds what is constant.

They need each other: a Reshape's shape is often computed by nodes that fold once a shape is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bodies import inline
from .const import Const
from .expanding import expand
from .fold import deterministic, fold_node
from .ir import Graph, Node, Value
from .lists import Lists
from .shapes import infer_node
from .unrolling import unroll


def infer(graph: Graph) -> Graph:
    """shape = Shape(x[2,3]); y = Reshape(x, shape) → y[2,3] = Reshape(x, [2,3])"""
    graph.nodes = infer_nodes(graph, graph.nodes)
    return graph


def infer_nodes(graph: Graph, nodes: list[Node], lists: Lists | None = None) -> list[Node]:
    """Infers, expands and folds nodes in topological order; returns the ones that are left. `lists`: what is known of
    sequences that earlier nodes have made."""

    def settle(graph: Graph, nodes: list[Node]) -> list[Node]:
        return infer_nodes(graph, nodes, lists)

    lists = Lists(graph, settle) if lists is None else lists
    kept: list[Node] = []
    todo = nodes[::-1]
    while todo:
        node = todo.pop()
        body = _taken_branch(node)
        if body is not None:
            todo += _splice(graph, node, body)[::-1]
            continue
        infer_node(node)
        made = expand(graph, node, settle)
        made = unroll(graph, node, settle, lists.held) if made is None else made
        made = lists.resolve(node) if made is None else made
        if made is not None:
            kept += made
            continue
        found = fold_node(node)
        # A sequence or an empty optional has no Const: such a node stays.
        if found is None or any(a is None or isinstance(a, (list, dict)) for a in found):
            kept.append(node)
            continue
        for value, array in zip([v for v in node.outputs if v.name], found, strict=False):
            _set(value, array)
        node.detach()
    return kept


def _set(value: Value, array: object) -> None:
    result = np.asarray(array)
    value.const = Const.of(result, value.dtype if value.dtype == "string" else None)
    value.dtype, value.shape, value.producer = value.const.dtype, value.const.shape, None


def _taken_branch(node: Node) -> Any | None:
    """The body that an If with a constant condition runs."""
    if node.op != "If" or node.domain or node.inputs[0] is None or node.inputs[0].const is None:
        return None
    return taken_branch(node, bool(node.inputs[0].const.numpy().reshape(-1)[0]))


def taken_branch(node: Node, condition: bool) -> Any:
    """The body that an If runs under this condition."""
    return node.attrs["then_branch" if condition else "else_branch"]


def _splice(graph: Graph, node: Node, body: Any) -> list[Node]:
    """y = If(true) {then: z = Relu(x)} → y = Relu(x)"""
    nodes, outputs = inline(body, node.captures, graph.fresh)
    for old, new in zip(node.outputs, outputs, strict=True):
        graph.replace(old, new)
    node.detach()
    return nodes


def mark_once(graph: Graph) -> Graph:
    """Nodes whose inputs never change run once at load: node.once = True."""
    for node in graph.nodes:
        node.once = all(v.once for v in node.reads()) and deterministic(node)
    return graph
