"""Element types of operands against the operator's schema: Add(f32, i64) is an error, and is said so early."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..errors import DTypeError
from . import dtypes, schemas
from .ir import Graph, Node, Value

# (type variable or '', allowed short names) of each formal input; whether the last one repeats, and how.
Formals = tuple[tuple[tuple[str, frozenset[str]], ...], bool, bool]


def check_types(graph: Graph) -> Graph:
    """Raises DTypeError where a known type of an operand is not one that the operator takes."""
    for node in graph.nodes:
        check_node(node)
    return graph


def check_node(node: Node) -> None:
    """DTypeError where an operand's type is none that the operator takes, or where operands that must agree do not."""
    formals, repeats, mixed = _formals(node.op, node.domain, node.version)
    bound: dict[str, Value] = {}
    for i, value in enumerate(node.inputs):
        if value is None or not value.dtype or value.dtype in dtypes.NOT_TENSORS:
            continue
        if i < len(formals):
            variable, allowed = formals[i]
        elif repeats:
            variable, allowed = formals[-1]
        else:
            continue
        if allowed and value.dtype not in allowed:
            _fail(node, i, value, sorted(allowed))
        if not variable or (repeats and mixed and i >= len(formals) - 1):
            continue
        first = bound.setdefault(variable, value)
        if first.dtype != value.dtype:
            _fail(node, i, value, [first.dtype])


@cache
def _formals(op: str, domain: str, version: int) -> Formals:
    schema = schemas.find(op, domain, version)
    if schema is None:
        return (), False, False
    variables = {c.type_param_str: _names(c.allowed_type_strs) for c in schema.type_constraints}
    found = []
    for formal in schema.inputs:
        if formal.type_str in variables:
            found.append((formal.type_str, variables[formal.type_str]))
        else:
            found.append(("", _names([formal.type_str])))
    last: Any = schema.inputs[-1] if schema.inputs else None
    repeats = last is not None and last.option.name == "Variadic"
    return tuple(found), repeats, repeats and not last.is_homogeneous


def _names(type_strs: Any) -> frozenset[str]:
    """Short names of tensor(float) and the like; containers of tensors are not looked into."""
    words = [s.removeprefix("tensor(").removesuffix(")") for s in type_strs if s.startswith("tensor(")]
    if len(words) != len(type_strs):
        return frozenset()
    return frozenset(dtypes.FROM_TYPE_STR[w] for w in words if w in dtypes.FROM_TYPE_STR)


def _fail(node: Node, index: int, value: Value, expected: list[str]) -> None:
    operands = ", ".join("_" if v is None else v.dtype or "?" for v in node.inputs)
    raise DTypeError(
        f"node {node.name!r}: {node.op}({operands}): input {index} ({value.name!r}) is {value.dtype}, "
        f"expected is {' or '.join(expected)}",
        hint="the model is not valid ONNX: export it again, or put a Cast before the node",
        node=node.name,
        op=node.op,
        input=value.name,
        expected=expected,
        got=value.dtype,
    )
