"""IR back to ONNX messages: a NodeProto of a Node, a GraphProto or ModelProto of several.

Used for bodies of If, Loop and Scan, for the reference, and for ONNX's own shape inference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx

from . import protos, schemas
from .ir import Node, Value


class Names:
    """Unique ONNX names of values: a value's own name where it is free, else with a number."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._of: dict[Value, str] = {}
        self._used = set(reserved)

    def __getitem__(self, value: Value | None) -> str:
        if value is None:
            return ""
        name = self._of.get(value)
        if name is None:
            if not value.name and value.producer is not None:
                return ""
            name, k = value.name, 1
            while name in self._used:
                name, k = f"{value.name}~x{k}", k + 1
            self._used.add(name)
            self._of[value] = name
        return name


def node_proto(node: Node, names: Names) -> onnx.NodeProto:
    """The node as ONNX writes it, its subgraphs reading outer values by the names that these have in the model."""
    attrs = node.attrs
    renamed = {inner: names[value] for inner, value in node.captures.items() if names[value] != inner}
    if renamed:
        attrs = {
            k: rename_outer(v, renamed) if isinstance(v, onnx.GraphProto) else v for k, v in attrs.items()
        }
    inputs = [names[v] for v in node.inputs]
    return protos.make_node(
        node.op, node.domain, node.version, inputs, [names[v] for v in node.outputs], attrs, name=node.name
    )


def value_info(value: Value, name: str) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto(name=name)
    info.type.CopyFrom(value.type if value.type is not None else protos.make_type(value.dtype, value.shape))
    return info


def graph_proto(
    name: str,
    nodes: Sequence[Node],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    names: Names | None = None,
    skip: Iterable[Value] = (),
) -> onnx.GraphProto:
    """A GraphProto; constants the nodes read become initializers, except those in `skip` (captured ones)."""
    names = names or Names()
    graph = onnx.GraphProto(name=name or "graph")
    graph.input.extend(value_info(v, names[v]) for v in inputs)
    done = set(inputs) | set(skip)
    for node in nodes:
        for value in node.reads():
            _initializer(graph, value, names, done)
        graph.node.append(node_proto(node, names))
    made: set[str] = set()
    inside = {v for node in nodes for v in node.outputs}
    for value in outputs:
        _initializer(graph, value, names, done)
        out = names[value]
        # ONNX wants outputs made in the graph itself and each named once.
        if out in made or value not in inside:
            alias = Value(f"{out}~out{len(made)}")
            graph.node.append(onnx.NodeProto(op_type="Identity", input=[out], output=[names[alias]]))
            out = names[alias]
        made.add(out)
        graph.output.append(value_info(value, out))
    return graph


def _initializer(graph: onnx.GraphProto, value: Value, names: Names, done: set[Value]) -> None:
    if value.const is not None and value not in done:
        done.add(value)
        graph.initializer.append(protos.numpy_to_tensor(value.const.numpy(), value.dtype, names[value]))


def model_proto(graph: onnx.GraphProto, opsets: dict[str, int]) -> onnx.ModelProto:
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=onnx.IR_VERSION)


def opsets_of(nodes: Iterable[Node]) -> dict[str, int]:
    """The opset imports the nodes need; the newest ai.onnx is always among them."""
    found = {"": schemas.NEWEST}
    for node in nodes:
        if node.domain:
            found[node.domain] = max(found.get(node.domain, 0), node.version)
        for attr in node.attrs.values():
            if isinstance(attr, onnx.GraphProto):
                for domain in _domains(attr):
                    found.setdefault(domain, schemas.NEWEST_OF.get(domain, 1))
    return found


def _domains(graph: onnx.GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield node.domain
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                yield from _domains(attr.g)


def rename_outer(graph: onnx.GraphProto, renamed: dict[str, str]) -> onnx.GraphProto:
    """A copy of a body in which the outer names `renamed` read as their new names."""
    copy = onnx.GraphProto()
    copy.CopyFrom(graph)
    _rename(copy, renamed)
    return copy


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {out for node in graph.node for out in node.output}
    live = {old: new for old, new in renamed.items() if old not in own}
    if not live:
        return
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in live:
                node.input[i] = live[name]
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                _rename(attr.g, live)
