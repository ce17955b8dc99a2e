"""Elementwise, pooling and joining operators on quantised tensors: com.microsoft.QLinear*, QuantizeLinear.

Each becomes Dequantize → operator → Quantize, which passes and kernels make one step of: bytes in, bytes out.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..ir import Value
from ..shape_rules import axis_of
from .body import Body
from .declare import Expansion, operator
from .fused import channels_first, channels_last

BYTES = "i8 u8"
_UNARY = "X:T X_scale:f32 X_zero_point:T? Y_scale:f32 Y_zero_point:T?"
_BINARY = "A:T A_scale:f32 A_zero_point:T? B:T B_scale:f32 B_zero_point:T? C_scale:f32 C_zero_point:T?"
_POOL = "X:T x_scale:f32 x_zero_point:T? y_scale:f32 y_zero_point:T?"
_WINDOW = "kernel_shape:ints! auto_pad:str=NOTSET pads:ints strides:ints ceil_mode:int=0"


def one(b: Body, x: Value) -> Value:
    """A scale or zero point of one element as a scalar; others as they are."""
    return b.reshape(x, ()) if x.size == 1 else x


def maybe_one(b: Body, x: Value | None) -> Value | None:
    return None if x is None else one(b, x)


def dequantised(b: Body, x: Value, scale: Value, zero: Value | None, axis: int = 1) -> Value:
    """(x - zero) * scale as floats; scales of several elements go along `axis`."""
    return b("DequantizeLinear", x, one(b, scale), maybe_one(b, zero), axis=axis)


def quantised(b: Body, x: Value, scale: Value, zero: Value | None, dtype: str, axis: int = 1) -> Value:
    """x / scale + zero, rounded, as `dtype`."""
    zero = b.const(0, dtype) if zero is None else one(b, zero)
    return b("QuantizeLinear", x, one(b, scale), zero, axis=axis)


def same(v: Value | None, w: Value | None) -> bool:
    """Whether two scales or zero points are known to be one number; an absent one is 0."""
    if v is w:
        return True
    known = [np.zeros(()) if x is None else None if x.const is None else x.const.numpy() for x in (v, w)]
    if any(a is None or a.size != 1 for a in known):
        return False
    a, b = known
    assert a is not None and b is not None
    return bool(a.reshape(()) == b.reshape(()))


def requantised(
    b: Body, x: Value, scale: Value, zero: Value | None, to_scale: Value, to_zero: Value | None, dtype: str
) -> Value:
    """Bytes of one scale and zero point as bytes of others; themselves where these are the same."""
    if x.dtype == dtype and same(scale, to_scale) and same(zero, to_zero):
        return x
    return quantised(b, dequantised(b, x, scale, zero), to_scale, to_zero, dtype)


def _binary(op: str) -> Expansion:
    def expansion(b: Body) -> Value:
        a = dequantised(b, b.given("A"), b.given("A_scale"), b.maybe("A_zero_point"))
        c = dequantised(b, b.given("B"), b.given("B_scale"), b.maybe("B_zero_point"))
        return quantised(b, b(op, a, c), b.given("C_scale"), b.maybe("C_zero_point"), b.given("A").dtype)

    expansion.__doc__ = f"{op} of two quantised tensors, bytes in and out"
    return expansion


operator("QLinearAdd", _BINARY, "C:T", T=BYTES)(_binary("Add"))
operator("QLinearMul", _BINARY, "C:T", T=BYTES)(_binary("Mul"))


def _unary(b: Body, op: str, **attrs: Any) -> Value:
    x = dequantised(b, b.given("X"), b.given("X_scale"), b.maybe("X_zero_point"))
    return quantised(b, b(op, x, **attrs), b.given("Y_scale"), b.maybe("Y_zero_point"), b.given("X").dtype)


@operator("QLinearSigmoid", _UNARY, "Y:T", T=BYTES)
def qlinear_sigmoid(b: Body) -> Value:
    """Sigmoid, bytes in and out"""
    return _unary(b, "Sigmoid")


@operator("QLinearLeakyRelu", _UNARY, "Y:T", "alpha:float=0.01", T=BYTES)
def qlinear_leaky_relu(b: Body) -> Value:
    """LeakyRelu, bytes in and out"""
    return _unary(b, "LeakyRelu", alpha=b.attr("alpha"))


@operator(
    "QLinearSoftmax", "X:T X_scale:f32 x_zero_point:T? y_scale:f32 y_zero_point:T", "Y:T",
    "axis:int=-1 opset:int!", T=BYTES,
)  # fmt: skip
def qlinear_softmax(b: Body) -> Value:
    """Softmax along an axis; as of opsets before 13, over all axes from that one on"""
    x = dequantised(b, b.given("X"), b.given("X_scale"), b.maybe("x_zero_point"))
    shape = b.shape(x)
    axis = axis_of(b.node, b.attr("axis"), len(shape))
    if b.attr("opset") < 13:
        flat = b.reshape(x, (prod(shape[:axis]), prod(shape[axis:])))
        y = b.reshape(b("Softmax", flat, axis=1), shape)
    else:
        y = b("Softmax", x, axis=axis)
    return quantised(b, y, b.given("y_scale"), b.maybe("y_zero_point"), b.given("X").dtype)


@operator(
    "QLinearAveragePool", _POOL, "Y:T", f"{_WINDOW} count_include_pad:int=0 channels_last:int=0", T=BYTES
)
def qlinear_average_pool(b: Body) -> Value:
    """AveragePool, channels first or last"""
    window = {k: v for k, v in b.node.attrs.items() if k != "channels_last"}
    return _pooled(b, "AveragePool", **window)


@operator("QLinearGlobalAveragePool", _POOL, "Y:T", "channels_last:int=0", T=BYTES)
def qlinear_global_average_pool(b: Body) -> Value:
    """GlobalAveragePool, channels first or last"""
    return _pooled(b, "GlobalAveragePool")


def _pooled(b: Body, op: str, **attrs: Any) -> Value:
    last, x = b.attr("channels_last"), b.given("X")
    image = channels_first(b, x) if last else x
    y = b(op, dequantised(b, image, b.given("x_scale"), b.maybe("x_zero_point")), **attrs)
    y = quantised(b, y, b.given("y_scale"), b.maybe("y_zero_point"), x.dtype)
    return channels_last(b, y) if last else y


@operator(
    "QLinearReduceMean",
    "data:T data_scale:f32 data_zero_point:T? reduced_scale:f32 reduced_zero_point:T?", "reduced:T",
    "axes:ints! keepdims:int!", T=BYTES,
)  # fmt: skip
def qlinear_reduce_mean(b: Body) -> Value:
    """ReduceMean, bytes in and out"""
    x = b.given("data")
    wide = dequantised(b, x, b.given("data_scale"), b.maybe("data_zero_point"))
    y = b("ReduceMean", wide, b.const(b.attr("axes")), keepdims=b.attr("keepdims"))
    return quantised(b, y, b.given("reduced_scale"), b.maybe("reduced_zero_point"), x.dtype)


@operator("QLinearConcat", "Y_scale:f32 Y_zero_point:T inputs:V*", "Y:T", "axis:int!", T=BYTES, V="i8 u8 f32")
def qlinear_concat(b: Body) -> Value:
    """Concat of (x, scale, zero point) triples; a part that has the result's own scale is copied as it is"""
    scale, zero, rest = b.given("Y_scale"), b.given("Y_zero_point"), b.rest("inputs")
    if not rest or len(rest) % 3:
        b.fail("its inputs are not triples of tensor, scale and zero point", "a multiple of 3", len(rest))
    triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
    parts = [requantised(b, x, own, middle, scale, zero, zero.dtype) for x, own, middle in triples]
    return b("Concat", *parts, axis=b.attr("axis"))


@operator(
    "QLinearWhere",
    "condition:bool X:T x_scale:f32 x_zero_point:T Y:T y_scale:f32 y_zero_point:T z_scale:f32 z_zero_point:T",
    "Z:T", T=BYTES,
)  # fmt: skip
def qlinear_where(b: Body) -> Value:
    """Where; an operand that has the result's own scale is taken as it is"""
    scale, zero = b.given("z_scale"), b.given("z_zero_point")
    x, y = (
        requantised(b, b.given(n), b.given(f"{n.lower()}_scale"), b.given(f"{n.lower()}_zero_point"), scale,
                    zero, zero.dtype)
        for n in ("X", "Y")
    )  # fmt: skip
    return b("Where", b.given("condition"), x, y)


_NARROW = "i8 u8 i16 u16 int4 uint4"


@operator("QuantizeLinear", "x:F y_scale:F y_zero_point:T?", "y:T", "axis:int", F="f32 f16", T=_NARROW)
def quantize_linear(b: Body) -> Value:
    """ONNX's own, whose scale may have one element of any rank"""
    zero = b.maybe("y_zero_point")
    dtype = "u8" if zero is None else zero.dtype
    return quantised(b, b.given("x"), b.given("y_scale"), zero, dtype, b.attr("axis", 1))


@operator(
    "DequantizeLinear", "x:T x_scale:F x_zero_point:T?", "y:F", "axis:int", F="f32 f16", T=f"{_NARROW} i32"
)
def dequantize_linear(b: Body) -> Value:
    """ONNX's own, whose scale may have one element of any rank"""
    return dequantised(b, b.given("x"), b.given("x_scale"), b.maybe("x_zero_point"), b.attr("axis", 1))
