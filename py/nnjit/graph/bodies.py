"""Splices the body of an If into the graph around it, once its condition is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from . import protos, schemas
from .ir import Node, Value


def inline(
    body: onnx.GraphProto, captures: Mapping[str, Value], fresh: Callable[[str], str]
) -> tuple[list[Node], list[Value]]:
    """(nodes, outputs) of a body without inputs, in newest-opset form; its names get fresh ones."""
    known: dict[str, Value] = dict(captures)
    for tensor in body.initializer:
        known[tensor.name] = Value.constant(fresh(tensor.name), protos.tensor_to_numpy(tensor))
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
