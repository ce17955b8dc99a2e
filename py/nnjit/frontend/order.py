"""The nodes of a graph so that producers come first; a cycle is an error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from ..errors import InvalidGraph
from .messages import AnyNode, Attribute
from .scope import Scope

_GRAPH, _GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS


def ordered(nodes: Sequence[AnyNode], scope: Scope) -> list[AnyNode]:
    """The nodes so that producers come first. ONNX demands it; models in the wild do not always obey."""
    made: set[str] = set()
    all_made = {name for node in nodes for name in node.output if name}
    for node in nodes:
        if any(name in all_made and name not in made and name not in scope.values for name in _reads(node)):
            return _sorted(nodes, all_made)
        made.update(node.output)
    return list(nodes)


def _sorted(nodes: Sequence[AnyNode], all_made: set[str]) -> list[AnyNode]:
    order: list[AnyNode] = []
    made: set[str] = set()
    waiting = list(nodes)
    while waiting:
        ready = [n for n in waiting if all(r in made or r not in all_made for r in _reads(n))]
        if not ready:
            first = waiting[0]
            raise InvalidGraph(
                f"the nodes form a cycle: {first.op_type} {first.name!r} waits for its own result",
                hint="the model is damaged: export it again",
                node=first.name,
                op=first.op_type,
            )
        for node in ready:
            order.append(node)
            made.update(node.output)
        taken = set(map(id, ready))
        waiting = [n for n in waiting if id(n) not in taken]
    return order


def _reads(node: AnyNode) -> Iterable[str]:
    yield from (name for name in node.input if name)
    for attr in node.attribute:
        if isinstance(attr, Attribute):
            continue
        for graph in [attr.g] if attr.type == _GRAPH else attr.graphs:
            own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
            own |= {out for n in graph.node for out in n.output}
            for inner in graph.node:
                yield from (name for name in _reads(inner) if name not in own)
            yield from (o.name for o in graph.output if o.name not in own)
