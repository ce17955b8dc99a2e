"""ONNX's function operators → the primitive nodes of their definition, where no kernel serves them whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import helper

from ..graph import dtypes, export, protos, schemas
from ..graph.infer import infer_nodes, mark_once
from ..graph.ir import Graph, Node, Value
from ..graph.passes import TIDY
from ..graph.shapes import value_type
from .importer import Importer
from .scope import Frame, Scope
from .source import BytesSource
from .tensors import Files


def expand(graph: Graph, keep: Callable[[Node], bool]) -> Graph:
    """y = Celu(x), unless keep(node)  →  y = Max(0, x) + Min(0, α·(Exp(x/α) - 1)); inferred and tidied.

    Nested function operators are expanded too. Operators without a definition stay as they are.
    """
    importer = Importer(Files(BytesSource(b"", "the operator's definition"), {}))
    importer.fresh = graph.fresh  # type: ignore[method-assign]
    kept: list[Node] = []
    todo = graph.nodes[::-1]
    while todo:
        node = todo.pop()
        body = None if keep(node) else definition(node)
        if body is not None and all(_empty(v) for v in node.outputs):
            # definitions reshape by -1, which has no answer here
            for v in node.outputs:
                if v.name:
                    nothing = dtypes.from_raw(b"", v.dtype, v.shape or ())
                    graph.replace(v, graph.constant(nothing, v.name, v.dtype))
            node.detach()
            continue
        if body is None:
            kept.append(node)
            continue
        nodes = _inline(importer, node, body)
        for number, made in enumerate(nodes[0]):
            if made.name.endswith("/"):  # definitions seldom name their nodes
                made.name += f"{made.op}_{number}"
        for old, new in zip(node.outputs, nodes[1], strict=False):
            if new is not None and old.name:
                graph.replace(old, new)
        node.detach()
        todo += infer_nodes(graph, nodes[0])[::-1]
    if len(kept) == len(graph.nodes) and all(a is b for a, b in zip(kept, graph.nodes, strict=True)):
        return graph
    graph.nodes = kept
    for step in TIDY:  # not all passes: they would put together again what was just taken apart
        graph = step(graph)
    return mark_once(graph)


def _empty(v: Value) -> bool:
    """A tensor without elements, or an output that is left out."""
    return not v.name or (v.shape is not None and 0 in v.shape and bool(v.dtype))


def definition(node: Node) -> onnx.FunctionProto | None:
    """The FunctionProto that ONNX defines the operator by, for these input types; None when there is none."""
    if node.op == "SoftmaxCrossEntropyLoss" and not node.domain:
        return _cross_entropy(node)
    schema = schemas.find(node.op, node.domain, node.version)
    if schema is None:
        return None
    if schema.has_function:
        newest = max(schema.function_opset_versions)
        return _parse(schema.get_function_with_opset_version(newest))
    if not schema.has_context_dependent_function:
        return None
    if any(v is not None and not v.dtype for v in node.inputs):
        return None
    newest = max(schema.context_dependent_function_opset_versions)
    proto = export.node_proto(node, export.Names())
    types = [(onnx.TypeProto() if v is None else value_type(v)).SerializeToString() for v in node.inputs]
    made = schema.get_context_dependent_function_with_opset_version(newest, proto.SerializeToString(), types)
    return _parse(made) if made else None


def _cross_entropy(node: Node) -> onnx.FunctionProto:
    """log = LogSoftmax(x); y = NegativeLogLikelihoodLoss(log, labels, weights).

    ONNX's own puts x into three dimensions first, by a Reshape to [0, 0, -1] that has no answer for a batch of none."""
    given = ["x", "labels", "weights"][: len([v for v in node.inputs if v is not None])]
    how = {k: v for k, v in node.attrs.items() if k in ("reduction", "ignore_index")}
    nodes = [
        helper.make_node("LogSoftmax", ["x"], ["log"], axis=1),
        helper.make_node("NegativeLogLikelihoodLoss", given, ["y"], **how),
    ]
    nodes[1].input[0] = "log"
    return helper.make_function(
        "", node.op, given, ["y", "log"], nodes, [helper.make_opsetid("", node.version)]
    )


def _parse(data: bytes) -> onnx.FunctionProto:
    function = onnx.FunctionProto()
    function.ParseFromString(data)
    return function


def _inline(importer: Importer, node: Node, body: onnx.FunctionProto) -> tuple[list[Node], list[Any]]:
    schema = schemas.find(node.op, node.domain, node.version)
    env: dict[str, Any] = {}
    for name, attr in schema.attributes.items() if schema is not None else ():
        if attr.default_value.type:
            env[name] = protos.attribute_value(attr.default_value)
    env.update(node.attrs)
    scope = Scope(Frame(), None, f"{node.name or node.op}/")
    for i, name in enumerate(body.input):
        scope.values[name] = node.input(i)
    opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in body.opset_import}
    importer.nodes(body.node, scope, {"": schemas.NEWEST, **opsets}, env)
    return scope.frame.nodes, [scope.values.get(name) for name in body.output]
