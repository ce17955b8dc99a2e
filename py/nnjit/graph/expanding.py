"""A node of another domain → the nodes of ai.onnx that say the same, once its inputs' shapes are known.

`expand(node, …)` gives the new nodes, inferred and folded; a node that cannot be expanded yet gives None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .extensions import expansion
from .ir import Graph, Node, Value
from .types import check_node


def expand(graph: Graph, node: Node, settle: Callable[[Graph, list[Node]], list[Node]]) -> list[Node] | None:
    """z = com.microsoft.BiasGelu(x, y) → z = Gelu(Add(x, y)); whoever read the old outputs reads the new ones"""
    function = expansion(node.domain, node.op)
    if function is None or any(v.shape is None or not v.dtype for v in node.reads()):
        return None
    from .extensions.body import Body  # for the few models that have such nodes

    check_node(node)
    body = Body(node, graph.fresh, lambda nodes: settle(graph, nodes))
    found = function(body)
    if found is None:
        for made in body.nodes:
            made.detach()
        return None
    values: Sequence[Value | None] = [found] if isinstance(found, Value) else found
    for old, new in zip(node.outputs, values, strict=False):
        if new is None or not old.name:
            continue
        if new.producer in body.nodes and new.const is None:
            new.name = old.name
        graph.replace(old, new)
    node.detach()
    return body.nodes
