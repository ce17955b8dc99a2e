"""Shape and type inference of one node with concrete shapes: `infer_node(node)` fills its outputs.

A rule per common operator (shape_rules_*.py), ONNX's own inference for the rest. A shape that depends
on data stays None, and so does everything behind it; dtypes are known wherever they follow from the
operator. Nodes are in newest-opset form.
"""

from __future__ import annotations

import onnx
from onnx import shape_inference

from . import export, extensions, protos, schemas, shape_rules_math, shape_rules_move, shape_rules_nn
from .const import Const
from .ir import Node, Value
from .shape_rules import RULES, fail

# Imported for their rules.
_RULE_FILES = (extensions.FAMILIES, shape_rules_math, shape_rules_move, shape_rules_nn)


def infer_node(node: Node) -> None:
    """Sets dtype and shape of the node's outputs. Raises ShapeError when its operands do not fit."""
    found = RULES.get(f"{node.domain}.{node.op}" if node.domain else node.op, infer_by_onnx)
    try:
        found(node)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # A rule trusts its node; what surprises it is an operand of the wrong rank or a mad attribute.
        fail(node, f"its operands or attributes do not fit together ({type(error).__name__}: {error})")
    if node.op == "Gradient":  # has no inference of its own: dy/dx looks like x
        for value, x in zip(node.outputs, node.inputs, strict=False):
            if x is not None:
                value.dtype, value.shape = x.dtype, x.shape


def infer_by_onnx(node: Node) -> None:
    """What onnx.shape_inference says about the node; dims it leaves open make the shape None."""
    schema = schemas.find(node.op, node.domain, node.version)
    if schema is None:
        return
    names = export.Names()
    reads = list(node.reads())
    proto = export.node_proto(node, names)
    types = {names[v]: value_type(v) for v in reads}
    data = {
        names[v]: _tensor(v.const, names[v]) for v in reads if v.const is not None and v.const.size <= 1024
    }
    imports = [onnx.helper.make_opsetid(d, v) for d, v in export.opsets_of([node]).items()]
    try:
        found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        if any(v.shape is None or not v.dtype for v in reads) or _has_body(node):
            return  # it may only miss what is not known yet; bodies are often declared carelessly
        fail(node, str(error).strip().splitlines()[0])
    for value in node.outputs:
        proto_type = found.get(names[value]) if value.name else None
        if proto_type is None:
            continue
        dtype, dims = protos.type_of(proto_type)
        if dtype:
            value.dtype = dtype
        value.shape = protos.static_shape(dims)
        if proto_type.WhichOneof("value") not in (None, "tensor_type"):
            value.type = proto_type


def _has_body(node: Node) -> bool:
    return any(isinstance(a, onnx.GraphProto) for a in node.attrs.values())


def value_type(value: Value) -> onnx.TypeProto:
    """Its TypeProto, as far as it is known."""
    return value.type if value.type is not None else protos.make_type(value.dtype, value.shape)


def _tensor(const: Const, name: str) -> onnx.TensorProto:
    return protos.numpy_to_tensor(const.numpy(), const.dtype, name)
