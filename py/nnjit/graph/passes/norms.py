"""Recognises normalisations that exporters wrote out: LayerNormalization, RMSNormalization, Softmax."""

from __future__ import annotations

import numpy as np

from ..dtypes import NUMPY
from ..ir import Graph, Node, Value
from ..shape_rules import ints
from .rewrite import Builder, Rule, apply, is_float, made_by, scalar


def _trailing_mean(node: Node | None) -> int | None:
    """The first axis of a ReduceMean over the last axes that keeps dims."""
    if node is None or not node.attrs.get("keepdims", 1):
        return None
    x, axes = node.inputs[0], ints(node.input(1))
    if x is None or x.shape is None or not axes:
        return None
    rank = len(x.shape)
    wanted = sorted(a % rank for a in axes)
    return wanted[0] if wanted == list(range(wanted[0], rank)) else None


def _square_of(value: Value | None) -> Value | None:
    """x of x², written Mul(x, x) or Pow(x, 2)"""
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return None
    if node.op == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    return node.inputs[0] if scalar(node.inputs[1]) == 2.0 else None


def _normalised(node: Node) -> tuple[Value, Value] | None:
    """(d, s) of d / s, written Div(d, s) or Mul(d, Reciprocal(s)), s = Sqrt(…)"""
    if node.op == "Div":
        d, s = node.inputs
        return (d, s) if d is not None and s is not None and made_by(s, "Sqrt") is not None else None
    for i in (0, 1):
        d, inverse = node.inputs[i], made_by(node.inputs[1 - i], "Reciprocal")
        if inverse is None:
            inverse = made_by(node.inputs[1 - i], "Div")
            if inverse is None or scalar(inverse.inputs[0]) != 1.0:
                continue
            s = inverse.inputs[1]
        else:
            s = inverse.inputs[0]
        if d is not None and s is not None and made_by(s, "Sqrt") is not None:
            return d, s
    return None


def _mean_square(s: Value, d: Value) -> tuple[int, float] | None:
    """(axis, eps) of s = Sqrt(Add(ReduceMean(d²), eps))"""
    root = made_by(s, "Sqrt")
    add = made_by(root.inputs[0], "Add") if root is not None else None
    if add is None:
        return None
    for i in (0, 1):
        eps, mean = scalar(add.inputs[1 - i]), made_by(add.inputs[i], "ReduceMean")
        axis = _trailing_mean(mean)
        if eps is not None and mean is not None and axis is not None and _square_of(mean.inputs[0]) is d:
            return axis, eps
    return None


def _normalisation(b: Builder, node: Node) -> Value | None:
    """(x - mean) / √(mean((x - mean)²) + ε) → LayerNormalization(x, 1)
    x / √(mean(x²) + ε) → RMSNormalization(x, 1)"""
    pair = _normalised(node)
    if pair is None or not is_float(node.output) or node.output.shape is None:
        return None
    d, s = pair
    found = _mean_square(s, d)
    if found is None or d.shape is None or d.shape != node.output.shape:
        return None
    axis, eps = found
    scale = b.const(np.ones(d.shape[axis:], NUMPY[d.dtype]), d.dtype)
    sub = made_by(d, "Sub")
    if sub is not None and sub.inputs[0] is not None:
        mean = made_by(sub.inputs[1], "ReduceMean")
        if mean is not None and mean.inputs[0] is sub.inputs[0] and _trailing_mean(mean) == axis:
            return b("LayerNormalization", [sub.inputs[0], scale], axis=axis, epsilon=eps)
    return b("RMSNormalization", [d, scale], axis=axis, epsilon=eps)


def _scale(b: Builder, node: Node) -> Value | None:
    """Mul(LayerNormalization(x, 1), g) → LayerNormalization(x, g); RMSNormalization likewise"""
    for i in (0, 1):
        norm, g = made_by(node.inputs[i], "LayerNormalization", "RMSNormalization"), node.inputs[1 - i]
        if norm is None or g is None or not g.once or g.shape is None or norm.input(2) is not None:
            continue
        if not _is_ones(norm.inputs[1]) or not _covers(norm, g) or g.dtype != norm.output.dtype:
            continue
        return b(norm.op, [norm.inputs[0], _spread(b, norm, g)], **norm.attrs)
    return None


def _bias(b: Builder, node: Node) -> Value | None:
    """Add(LayerNormalization(x, g), c) → LayerNormalization(x, g, c)"""
    for i in (0, 1):
        norm, c = made_by(node.inputs[i], "LayerNormalization"), node.inputs[1 - i]
        if norm is None or c is None or not c.once or norm.input(2) is not None or not _covers(norm, c):
            continue
        if (
            c.dtype == norm.output.dtype
            and len(norm.output.users) == 1
            and not b.graph.is_output(norm.output)
        ):
            return b(norm.op, [*norm.inputs[:2], _spread(b, norm, c)], **norm.attrs)
    return None


def _is_ones(value: Value | None) -> bool:
    return (
        value is not None
        and value.const is not None
        and value.const.array is not None
        and bool((value.const.array == 1).all())
    )


def _covers(norm: Node, value: Value) -> bool:
    """`value` varies along the normalised axes only."""
    shape, axis = norm.output.shape, norm.attrs["axis"]
    if shape is None or value.shape is None or len(value.shape) > len(shape):
        return False
    padded = (1,) * (len(shape) - len(value.shape)) + value.shape
    return all(d == 1 for d in padded[:axis]) and all(
        d in (1, n) for d, n in zip(padded[axis:], shape[axis:], strict=True)
    )


def _spread(b: Builder, norm: Node, value: Value) -> Value:
    """`value` in exactly the shape of the normalised axes."""
    shape, axis = norm.output.shape, norm.attrs["axis"]
    assert shape is not None and value.shape is not None
    rest = shape[axis:]
    padded = (1,) * max(len(rest) - len(value.shape), 0) + value.shape
    value = b.reshape(value, padded[len(padded) - len(rest) :])
    return value if value.shape == rest else b("Expand", [value, b.const(list(rest))])


def _softmax(b: Builder, node: Node) -> Value | None:
    """e / ReduceSum(e), e = Exp(x - ReduceMax(x)) → Softmax(x)"""
    e, total = made_by(node.inputs[0], "Exp"), made_by(node.inputs[1], "ReduceSum")
    if e is None or total is None or total.inputs[0] is not e.output:
        return None
    sub = made_by(e.inputs[0], "Sub")
    top = made_by(sub.inputs[1], "ReduceMax") if sub is not None else None
    if sub is None or top is None or top.inputs[0] is not sub.inputs[0] or sub.inputs[0] is None:
        return None
    axis = _single_axis(total)
    if axis is None or axis != _single_axis(top):
        return None
    return b("Softmax", [sub.inputs[0]], axis=axis)


def _single_axis(node: Node) -> int | None:
    """The axis of a reduction over one axis that keeps dims."""
    x, axes = node.inputs[0], ints(node.input(1))
    if not node.attrs.get("keepdims", 1) or x is None or x.shape is None or axes is None or len(axes) != 1:
        return None
    return axes[0] % len(x.shape)


def _softmax_rows(b: Builder, node: Node) -> Value | None:
    """Reshape(Softmax(Reshape(x)), shape of x), both over the last axis → Softmax(x)"""
    soft = made_by(node.inputs[0], "Softmax", "LogSoftmax", "Hardmax")
    outer = made_by(soft.inputs[0], "Reshape") if soft is not None else None
    if soft is None or outer is None or outer.inputs[0] is None or soft.output.shape is None:
        return None
    x, rank = outer.inputs[0], len(soft.output.shape)
    if (
        x.shape is None
        or not x.shape
        or x.shape != node.output.shape
        or soft.attrs.get("axis", -1) not in (-1, rank - 1)
    ):
        return None
    if x.shape[-1] != soft.output.shape[-1] or len(soft.output.users) != 1 or b.graph.is_output(soft.output):
        return None
    return b(soft.op, [x], axis=len(x.shape) - 1)


_RULES: dict[str, list[Rule]] = {
    "Div": [_softmax, _normalisation],
    "Mul": [_normalisation, _scale],
    "Add": [_bias],
    "Reshape": [_softmax_rows],
}


def recognise_norms(graph: Graph) -> Graph:
    """Div(Sub(x, mean), Sqrt(Add(variance, ε))) · g + c → LayerNormalization(x, g, c);
    likewise Softmax and RMSNormalization"""
    return apply(graph, _RULES)
