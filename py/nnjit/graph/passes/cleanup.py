"""Passes that only take away: dead nodes, nodes that pass their input through, duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from ..dtypes import FROM_ONNX
from ..fold import deterministic
from ..ir import Graph, Node, Value
from ..shape_rules import ints


def dead_code(graph: Graph) -> Graph:
    """a = Relu(x); b = Exp(x); return a  →  a = Relu(x); return a"""
    wanted = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.outputs):
            kept.append(node)
            wanted.update([v for v in node.inputs if v is not None])
            wanted.update(node.captures.values())
        else:
            node.detach()
    graph.nodes = kept[::-1]
    return graph


def note_readers(graph: Graph) -> Graph:
    """a = Conv(x); y = Relu(a)  →  the same, with readers = {a: [y], y: []}: where to look for what passes merge"""
    noted = {
        node.name: list(dict.fromkeys(user.name for v in node.outputs for user in v.users))
        for node in graph.nodes
    }
    graph.readers = {**noted, **graph.readers}
    return graph


_SAME_SHAPE_SAME_VALUE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"})


def no_ops(graph: Graph) -> Graph:
    """y = Identity(x), Cast(x) to its own type, Transpose by the identity, Mul(x, 1), Dropout(x), … → x"""
    kept: list[Node] = []
    for node in graph.nodes:
        passed = _passes(node)
        extra = [v for v in node.outputs[1:] if v.name]
        if passed is None or any(v.users or graph.is_output(v) for v in extra):
            kept.append(node)
            continue
        graph.stands_for[node.name] = ""
        graph.replace(node.output, passed)
        node.detach()
    graph.nodes = kept
    return graph


def _passes(node: Node) -> Value | None:
    """The input that the node's first output always equals."""
    if node.domain or not node.inputs or node.inputs[0] is None:
        return None
    op, x, y = node.op, node.inputs[0], node.output
    if op == "Identity":
        return x
    if op in ("Sum", "Max", "Min", "Mean", "Concat") and len(node.inputs) == 1:
        return x
    same = x.shape is not None and x.shape == y.shape
    if op in ("Cast", "CastLike"):
        to = FROM_ONNX[node.attrs["to"]] if op == "Cast" else y.dtype
        return x if x.dtype and x.dtype == to else None
    if op == "Transpose" and x.shape is not None:
        perm = node.attrs.get("perm") or list(range(len(x.shape)))[::-1]
        return x if perm == sorted(perm) else None
    if op.startswith("Reduce") and node.attrs.get("noop_with_empty_axes", 0) and same:
        plain = op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
        return x if plain and _no_axes(node) else None
    if op in ("Mul", "Div", "Add", "Sub", "Max", "Min", "Pow", "And", "Or") and len(node.inputs) == 2:
        return _neutral(node)
    if not same:
        return None
    if op == "Slice":
        steps = ints(node.input(4))
        return x if node.input(4) is None or (steps is not None and all(s > 0 for s in steps)) else None
    if op == "Resize":
        # The same extents can still be another sampling: by a scale of 1.2, say, rounded down.
        cropped = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
        unit = node.input(3) is not None or all(s == 1 for s in ints(node.input(2)) or [0])
        return x if unit and not cropped else None
    if op == "Pad":
        pads = ints(node.input(1))
        return x if pads is not None and not any(pads) else None
    return x if op in _SAME_SHAPE_SAME_VALUE else None


def _no_axes(node: Node) -> bool:
    axes = node.input(1)
    return axes is None or not ints(axes)


# x op c == x for every x; the left operand may only be the constant where the operator commutes.
_NEUTRAL: dict[str, Any] = {
    "Mul": 1, "Div": 1, "Add": 0, "Sub": 0, "Pow": 1, "And": True, "Or": False, "Max": -np.inf, "Min": np.inf,
}  # fmt: skip
_COMMUTES = frozenset({"Mul", "Add", "And", "Or", "Max", "Min"})


def _neutral(node: Node) -> Value | None:
    for i in (1, 0) if node.op in _COMMUTES else (1,):
        c, x = node.inputs[i], node.inputs[1 - i]
        if c is None or x is None or c.const is None or c.const.array is None or c.const.size > 65536:
            continue
        if x.shape is None or x.shape != node.output.shape or x.dtype != node.output.dtype:
            continue
        array = c.const.array
        if array.dtype.kind not in "fiub" or (array.dtype.kind in "iu" and node.op in ("Max", "Min")):
            continue
        if bool((array == _NEUTRAL[node.op]).all()):
            return x
    return None


def common_subexpressions(graph: Graph) -> Graph:
    """a = Exp(x); b = Exp(x); return Add(a, b)  →  a = Exp(x); return Add(a, a)"""
    constants: dict[Any, Value] = {}
    seen: dict[Any, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        for i, value in enumerate(node.inputs):
            if value is not None and value.const is not None:
                first = constants.setdefault(_const_key(value), value)
                if first is not value:
                    node.set_input(i, first)
        key = _node_key(node)
        twin = seen.setdefault(key, node) if key is not None else node
        if twin is node:
            kept.append(node)
            continue
        graph.stands_for[node.name] = twin.name
        for old, new in zip(node.outputs, twin.outputs, strict=True):
            graph.replace(old, new)
        node.detach()
    graph.nodes = kept
    return graph


def _const_key(value: Value) -> Any:
    const = value.const
    assert const is not None
    if const.parts:
        return id(const)
    if const.range is not None and const.array is None:
        return const.dtype, const.shape, const.range
    if const.array is None or const.size > 1024 or const.dtype == "string":
        return id(const)
    return const.dtype, const.shape, const.array.tobytes()


def _node_key(node: Node) -> Any:
    if node.captures or not deterministic(node):
        return None
    attrs = tuple((k, _attr_key(v)) for k, v in sorted(node.attrs.items()))
    if any(v is None for _, v in attrs):
        return None
    ins = tuple(0 if v is None else id(v) for v in node.inputs)
    # Two nodes that both keep an output must have the same ones.
    return node.op, node.domain, node.version, ins, attrs, tuple(bool(v.name) for v in node.outputs)


def _attr_key(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes()) if value.dtype.kind != "O" else None
    if isinstance(value, (list, tuple)):
        keys = tuple(_attr_key(v) for v in value)
        return None if None in keys else keys
    if isinstance(value, (int, float, str, bytes)):
        return value
    return None if isinstance(value, onnx.GraphProto) else repr(value)
