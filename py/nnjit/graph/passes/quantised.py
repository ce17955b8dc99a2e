"""Quantised chains: products of dequantised tensors become integer products, weights of bytes stay bytes.

Conv(Dequantize(x), Dequantize(w), b)  →  Cast(ConvInteger(x, w)) * (x_scale * w_scale) + b
MatMul(x, Cast(w8) * s)                →  MatMul(x, Cast(w8)) * s
Gather(Cast(w8) * s, i)                →  Cast(Gather(w8, i)) * Gather(s, i)
MaxPool(Dequantize(x))                 →  Dequantize(MaxPool(x))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx

from ..ir import Graph, Node, Value
from .rewrite import Builder, Rule, apply, made_by

FLOAT = onnx.TensorProto.FLOAT
TERMS = 32768
"""The longest sum of products of two differences of bytes that no i32 can fail to hold: 255 * 255 * 33025 < 2^31."""


@dataclass(frozen=True)
class Quantised:
    """A DequantizeLinear: (x - zero) * scale; `axis` of the scales, None where there is one for all."""

    x: Value
    scale: Value
    zero: Value | None
    axis: int | None


def _quantised(v: Value | None) -> Quantised | None:
    """What dequantises bytes to f32, by one scale or by one for each place of an axis."""
    n = made_by(v, "DequantizeLinear")
    if n is None or n.output.dtype != "f32" or n.attrs.get("block_size", 0):
        return None
    x, scale = n.inputs[0], n.inputs[1]
    if x is None or scale is None or x.dtype not in ("i8", "u8") or x.shape is None or scale.shape is None:
        return None
    if scale.size == 1:
        return Quantised(x, scale, n.input(2), None)
    axis = n.attrs.get("axis", 1) % len(x.shape)
    return Quantised(x, scale, n.input(2), axis) if len(scale.shape) == 1 and scale.once else None


def _scaled(b: Builder, product: Value, s: Quantised, t: Quantised, after: int) -> Value:
    """The integers times both scales, that of the second factor standing `after` dimensions before the last."""
    many = t.scale
    if many.size == 1:
        one = [b.reshape(v, ()) for v in (s.scale, many)]
    else:
        assert many.shape is not None
        one = [b.reshape(s.scale, ()), b.reshape(many, (*many.shape, *(1,) * after))]
    return b("Mul", [b("Cast", [product], to=FLOAT), b("Mul", one)])


def _scalar_zero(b: Builder, zero: Value | None) -> Value | None:
    return None if zero is None else b.reshape(zero, ()) if zero.size == 1 else zero


def _matmul(b: Builder, node: Node) -> Value | None:
    """MatMul(Dequantize(a), Dequantize(b)) → Cast(MatMulInteger(a, b)) * (a_scale * b_scale)"""
    return _product(b, _quantised(node.inputs[0]), _quantised(node.inputs[1]))


def _product(b: Builder, s: Quantised | None, t: Quantised | None) -> Value | None:
    if s is None or t is None or s.axis is not None or s.x.shape is None or t.x.shape is None:
        return None
    if (
        not s.x.shape
        or not t.x.shape
        or s.x.shape[-1] > TERMS
        or (t.axis is not None and (t.axis != 1 or len(t.x.shape) != 2))
    ):
        return None
    total = b("MatMulInteger", [s.x, t.x, _scalar_zero(b, s.zero), _scalar_zero(b, t.zero)])
    return _scaled(b, total, s, t, 0)


def _gemm(b: Builder, node: Node) -> Value | None:
    """Gemm of two dequantised matrices, alpha and beta 1, likewise, and the bias added"""
    s, t, attrs = _quantised(node.inputs[0]), _quantised(node.inputs[1]), node.attrs
    if s is None or t is None or attrs.get("transA", 0):
        return None
    if attrs.get("alpha", 1.0) != 1.0 or (node.input(2) is not None and attrs.get("beta", 1.0) != 1.0):
        return None
    if attrs.get("transB", 0):
        t = Quantised(
            b("Transpose", [t.x], perm=[1, 0]), t.scale, t.zero, None if t.axis is None else 1 - t.axis
        )
    y = _product(b, s, t)
    return y if y is None or node.input(2) is None else b("Add", [y, node.inputs[2]])


def _conv(b: Builder, node: Node) -> Value | None:
    """Conv(Dequantize(x), Dequantize(w), c) → Cast(ConvInteger(x, w)) * (x_scale * w_scale) + c"""
    s, t = _quantised(node.inputs[0]), _quantised(node.inputs[1])
    if s is None or t is None or s.axis is not None or t.axis not in (None, 0) or not t.x.once:
        return None
    assert t.x.shape is not None
    spatial = len(t.x.shape) - 2
    if prod(t.x.shape[1:]) > TERMS:
        return None
    zeros = [_scalar_zero(b, s.zero), _scalar_zero(b, t.zero)]
    if zeros[0] is None and zeros[1] is not None:
        zeros[0] = b.const(0, s.x.dtype)
    total = b("ConvInteger", [s.x, t.x, *zeros], **node.attrs)
    y, bias = _scaled(b, total, s, t, spatial), node.input(2)
    if bias is None or bias.shape is None:
        return y
    return b("Add", [y, b.reshape(bias, (*bias.shape, *(1,) * spatial))])


def _weights(b: Builder, node: Node) -> Value | None:
    """MatMul(x, Mul(Cast(w8), s)) → Mul(MatMul(x, Cast(w8)), s), a scale for each column or one: what is read
    at each row of x is a byte. Dequantize(w8) without zero points likewise."""
    x, w = node.inputs
    if (
        x is None
        or w is None
        or w.shape is None
        or len(w.shape) != 2
        or w.dtype != "f32"
        or node.output.shape is None
    ):
        return None
    if len(node.output.shape) < 2:
        return None
    found = _bytes(w)
    if found is None:
        return None
    q, scale = found
    y = b("MatMul", [x, b("Cast", [q], to=FLOAT)])
    return b("Mul", [y, b.reshape(scale, (w.shape[1],) if scale.size != 1 else ())])


def _bytes(w: Value) -> tuple[Value, Value] | None:
    """(constant of bytes, scales of its columns) that `w` is the product of."""
    t = _quantised(w)
    if t is not None:
        flat = t.zero is None or (
            t.zero.const is not None and t.zero.const.array is not None and not t.zero.const.array.any()
        )
        return (t.x, t.scale) if flat and t.x.const is not None and t.axis in (None, 1) else None
    if w.shape is None or len(w.shape) < 2:
        return None
    return _widened(w, ((), (1,), (w.shape[1],), (1, 1), (1, w.shape[1])))


def _widened(w: Value, scales: Sequence[tuple[int, ...]]) -> tuple[Value, Value] | None:
    """(constant of bytes, scale) where `w` is Mul(Cast(bytes), scale), with a scale of one of these shapes."""
    mul = made_by(w, "Mul")
    if mul is None:
        return None
    for i in (0, 1):
        cast, scale = made_by(mul.inputs[i], "Cast"), mul.inputs[1 - i]
        q = cast.inputs[0] if cast is not None else None
        if q is None or scale is None or q.const is None or q.dtype not in ("i8", "u8") or not scale.once:
            continue
        if q.shape == w.shape and scale.shape in scales:
            return q, scale
    return None


def _gather(b: Builder, node: Node) -> Value | None:
    """Gather(Mul(Cast(w8), s), i), a scale for each row → Mul(Cast(Gather(w8, i)), Gather(s, i)): an embedding
    widens the rows that are asked for. Dequantize(w8) with one scale likewise."""
    w, index = node.inputs
    if w is None or index is None or w.shape is None or len(w.shape) != 2 or node.attrs.get("axis", 0) % 2:
        return None
    t = _quantised(w)
    if t is not None and t.axis is None and t.zero is not None and t.x.const is not None:
        return b("DequantizeLinear", [b("Gather", [t.x, index]), t.scale, t.zero])
    found = _rows(b, w)
    if found is None:
        return None
    q, scale = found
    rows = b("Cast", [b("Gather", [q, index])], to=FLOAT)
    return b("Mul", [rows, b.reshape(scale, ()) if scale.size == 1 else b("Gather", [scale, index])])


def _rows(b: Builder, w: Value) -> tuple[Value, Value] | None:
    """(constant of bytes, scales [rows, 1] or one) that the table `w` is the product of."""
    assert w.shape is not None
    t = _quantised(w)
    if t is not None:
        if t.zero is not None or t.axis not in (None, 0) or t.x.const is None:
            return None
        return t.x, t.scale if t.axis is None else b.reshape(t.scale, (w.shape[0], 1))
    return _widened(w, ((), (1,), (w.shape[0], 1))) if w.dtype == "f32" else None


def _max_pool(b: Builder, node: Node) -> Value | None:
    """MaxPool(Dequantize(x)) → Dequantize(MaxPool(x)), with one scale above 0: what is larger stays so"""
    s = _quantised(node.inputs[0])
    if s is None or s.axis is not None or sum(1 for v in node.outputs if v.name) != 1:
        return None
    scale = s.scale.const.array if s.scale.const is not None else None
    if scale is None or not float(scale.reshape(-1)[0]) > 0:
        return None
    return b("DequantizeLinear", [b("MaxPool", [s.x], **node.attrs), s.scale, s.zero])


_RULES: dict[str, list[Rule]] = {
    "Gather": [_gather],
    "MatMul": [_matmul, _weights],
    "Gemm": [_gemm],
    "Conv": [_conv],
    "MaxPool": [_max_pool],
}


def fold_quantised(graph: Graph) -> Graph:
    """Quantize → Dequantize → MatMul → Quantize: the product is of integers, scaled once at its end"""
    return apply(graph, _RULES)
