"""Passes that only take away."""

from __future__ import annotations

from ..ir import Graph, Node


def dead_code(graph: Graph) -> Graph:
    """a = Relu(x); b = Exp(x); return a  →  a = Relu(x); return a"""
    wanted = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v in wanted for v in node.outputs):
            kept.append(node)
            wanted.update(node.reads())
        else:
            node.detach()
    graph.nodes = kept[::-1]
    return graph
