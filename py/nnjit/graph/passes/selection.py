"""Passes on gathers by constant indices and on Expand: exporters write masks out element by element."""

from __future__ import annotations

from math import prod

import numpy as np

from ..dtypes import BITS, INTS, Array
from ..fold import LIMIT
from ..ir import Graph, Node, Value
from .rewrite import Builder, Rule, apply


def _small_constant(value: Value | None) -> Array | None:
    """The array of a constant in memory that is small enough to look at."""
    if value is None or value.const is None or value.const.array is None or value.const.size > 4 * LIMIT:
        return None
    return value.const.array


def _gather_nd(b: Builder, node: Node) -> Value | None:
    """GatherND(x, every index in order) → Reshape(x); of a slice of x, Reshape(Slice(x)) is left to others"""
    x, indices = node.inputs[0], _small_constant(node.inputs[1])
    if x is None or x.shape is None or indices is None or node.attrs.get("batch_dims", 0):
        return None
    if node.output.shape is None or indices.size == 0 or prod(node.output.shape) != prod(x.shape):
        return None
    depth = indices.shape[-1]
    named = x.shape[:depth]
    rows = indices.reshape(-1, depth)
    if (rows < 0).any():
        rows = rows + np.where(rows < 0, named, 0)
    if (rows >= named).any() or (rows < 0).any():
        return None
    flat = np.ravel_multi_index(tuple(rows.T), named)
    return b.reshape(x, node.output.shape) if np.array_equal(flat, np.arange(prod(named))) else None


def _gather(b: Builder, node: Node) -> Value | None:
    """Gather(x, [2, 3, 4]) → Slice(x, 2, 5); Gather(x, [[0, 1], [2, 3]]) of all four → Reshape(x);
    Gather(x of one row, zeros) → Expand(x)"""
    x, indices = node.inputs[0], _small_constant(node.inputs[1])
    if x is None or x.shape is None or node.output.shape is None or indices is None or indices.size < 2:
        return None
    axis = node.attrs.get("axis", 0) % len(x.shape)
    flat = indices.reshape(-1).astype(np.int64)
    if x.shape[axis] == 1 and not flat.any():
        alone = (*x.shape[:axis], *(1,) * indices.ndim, *x.shape[axis + 1 :])
        return b("Expand", [b.reshape(x, alone), b.const(list(node.output.shape))])
    start, count = int(flat[0]), len(flat)
    if (
        start < 0
        or start + count > x.shape[axis]
        or not np.array_equal(flat, np.arange(start, start + count))
    ):
        return None
    if count != x.shape[axis]:
        x = _rows(b, x, axis, start, count)
    return b.reshape(x, node.output.shape)


def _rows(b: Builder, x: Value, axis: int, start: int, count: int) -> Value:
    """x[start : start + count] along an axis; of a constant's first axis without touching a byte."""
    assert x.shape is not None
    if x.const is not None and axis == 0 and BITS[x.dtype] >= 8 and x.dtype != "string":
        return b.value(x.const.rows(start, count))
    return b("Slice", [x, b.const([start]), b.const([start + count]), b.const([axis])])


def _uniform(b: Builder, node: Node) -> Value | None:
    """GatherElements(a constant of one value, i) → Expand(the value, shape of i)"""
    data, shape = _small_constant(node.inputs[0]), node.output.shape
    if data is None or shape is None or data.size == 0 or data.dtype.kind not in "fiub":
        return None
    first = data.reshape(-1)[:1]
    if not (data == first).all():
        return None
    value = b.const(first[0], node.output.dtype)
    return b("Expand", [value, b.const(list(shape))]) if shape else value


_ELEMENTWISE = (
    "Add Sub Mul Div Pow Max Min And Or Xor Where Equal Less LessOrEqual Greater GreaterOrEqual Mod".split()
)


def _expanded(b: Builder, node: Node) -> Value | None:
    """Add(x, Expand(m)) → Add(x, m), which broadcasts anyway;
    Where(Expand(m), 0, -1) → Expand(Where(m, 0, -1)), so that less is computed"""
    inputs = [_before_expand(v) for v in node.inputs]
    shape = node.output.shape
    if shape is None or all(a is v for a, v in zip(inputs, node.inputs, strict=True)):
        return None
    result = b(node.op, inputs, **node.attrs)
    return result if result.shape == shape else b("Expand", [result, b.const(list(shape))])


def _before_expand(value: Value | None) -> Value | None:
    node = None if value is None else value.producer
    if (
        node is None
        or node.op != "Expand"
        or node.domain
        or node.inputs[0] is None
        or node.inputs[0].shape is None
    ):
        return value
    return node.inputs[0]


def _and_true(b: Builder, node: Node) -> Value | None:
    """And(x, true[1,1,4,1]) → Expand(x, …)"""
    neutral = node.op == "And"
    for i in (0, 1):
        x, known = node.inputs[i], _small_constant(node.inputs[1 - i])
        if x is None or known is None or node.output.shape is None or not (known == neutral).all():
            continue
        return x if x.shape == node.output.shape else b("Expand", [x, b.const(list(node.output.shape))])
    return None


_ORDER = {"bool": 0, "u8": 8, "i8": 8, "u16": 16, "i16": 16, "u32": 32, "i32": 32, "u64": 64, "i64": 64}


def _casts(b: Builder, node: Node) -> Value | None:
    """Cast(Cast(bool) to i32) to i64 → Cast(bool) to i64, where the first keeps every value"""
    inner = None if node.inputs[0] is None else node.inputs[0].producer
    if inner is None or inner.op != "Cast" or inner.domain or inner.inputs[0] is None:
        return None
    x, middle = inner.inputs[0], inner.output.dtype
    if x.dtype == "bool":
        keeps = middle in INTS or middle in ("f16", "f32", "f64", "bool")
    elif x.dtype in INTS and middle in INTS:
        signed = middle[0] == "i"
        keeps = _ORDER[x.dtype] < _ORDER[middle] and (signed or x.dtype[0] == "u")
    else:
        keeps = (x.dtype, middle) in (("f16", "f32"), ("f16", "f64"), ("f32", "f64"))
    return b("Cast", [x], **node.attrs) if keeps else None


_RULES: dict[str, list[Rule]] = {
    **{op: [_expanded] for op in _ELEMENTWISE},
    "And": [_and_true, _expanded],
    "Or": [_and_true, _expanded],
    "GatherND": [_uniform, _gather_nd],
    "GatherElements": [_uniform],
    "Gather": [_gather],
    "Cast": [_casts],
}


def simplify_selections(graph: Graph) -> Graph:
    """Where(And(GatherND(mask, all of it), true), 0, -∞) → Where(Reshape(mask), 0, -∞), not yet broadcast"""
    return apply(graph, _RULES)
