"""Splices a body into the graph around it: of an If whose condition is known, of a turn of a Loop or Scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from . import protos, schemas
from .ir import Node, Value


def inline(
    body: onnx.GraphProto, captures: Mapping[str, Value], fresh: Callable[[str], str]
) -> tuple[list[Node], list[Value]]:
    """(nodes, outputs) of a body in newest-opset form; its names get fresh ones. `captures`: what it reads and does not
    make, its inputs among them, and constants that are there already."""
    known = dict(captures)
    known.update(weights(body, fresh, known))
    nodes: list[Node] = []
    for proto in body.node:
        attrs = {a.name: protos.attribute_value(a) for a in proto.attribute}
        seen: dict[str, Value] = {}
        for value in attrs.values():
            if isinstance(value, onnx.GraphProto):
                seen.update({name: known[name] for name in outer_names(value) if name in known})
        inputs = [known[name] if name else None for name in proto.input]
        outputs = []
        for name in proto.output:
            value = Value(fresh(name) if name else "")
            known[name] = value
            outputs.append(value)
        version = schemas.NEWEST_OF.get(proto.domain, schemas.NEWEST)
        node = Node(
            proto.op_type,
            inputs,
            outputs,
            attrs,
            name=proto.name,
            domain=proto.domain,
            version=version,
            captures=seen,
        )
        nodes.append(node)
    return nodes, [known[o.name] for o in body.output]


def weights(
    body: onnx.GraphProto, fresh: Callable[[str], str], known: Mapping[str, Value] | None = None
) -> dict[str, Value]:
    """The constants of a body by its names, but for those that are known."""
    return {
        t.name: Value.constant(fresh(t.name), protos.tensor_to_numpy(t))
        for t in body.initializer
        if t.name not in (known or {})
    }


def outer_names(graph: onnx.GraphProto) -> list[str]:
    """The names a body reads but does not define."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    found: dict[str, None] = {}
    for node in graph.node:
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                found.update(dict.fromkeys(n for n in outer_names(attr.g) if n not in own))
        found.update(dict.fromkeys(n for n in node.input if n and n not in own))
        own.update(node.output)
    found.update(dict.fromkeys(o.name for o in graph.output if o.name not in own))
    return list(found)
