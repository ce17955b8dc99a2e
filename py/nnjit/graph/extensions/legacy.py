"""Operators that ONNX had as experiments before opset 10, which models converted in those years still carry."""

from __future__ import annotations

from ..ir import Value
from .body import Body
from .declare import operator
from .fused import scaled

_T = "f16 f32 f64"
_PAIR = "alpha:float beta:float"


def _simple(b: Body, alpha: float, beta: float) -> Value:
    return scaled(b, b.given("X"), b.node.op, b.attr("alpha", alpha), b.attr("beta", beta))


@operator("Affine", "X:T", "Y:T", _PAIR, domain="", T=_T)
def affine(b: Body) -> Value:
    """alpha x + beta"""
    return _simple(b, 1.0, 0.0)


@operator("ScaledTanh", "X:T", "Y:T", _PAIR, domain="", T=_T)
def scaled_tanh(b: Body) -> Value:
    """alpha tanh(beta x)"""
    return _simple(b, 1.0, 1.0)


@operator("ParametricSoftplus", "X:T", "Y:T", _PAIR, domain="", T=_T)
def parametric_softplus(b: Body) -> Value:
    """alpha log(1 + e^(beta x))"""
    return _simple(b, 1.0, 1.0)


@operator("Scale", "input:T", "output:T", "scale:float=1.0", domain="", T=_T)
def scale(b: Body) -> Value:
    """scale x"""
    x = b.given("input")
    return b("Mul", x, b.const(b.attr("scale"), x.dtype))


@operator("ImageScaler", "input:T", "output:T", "scale:float=1.0 bias:floats", domain="", T=_T)
def image_scaler(b: Body) -> Value:
    """x * scale + bias, one of each channel of [n, c, h, w]"""
    x = b.given("input")
    _, channels, _, _ = b.dims(x, 4)
    bias = list(b.attr("bias") or [0.0] * channels)
    if len(bias) != channels:
        b.fail("it has not a bias for each channel", channels, len(bias))
    spread = b.reshape(b.const(bias, x.dtype), (channels, 1, 1))
    return b("Add", b("Mul", x, b.const(b.attr("scale"), x.dtype)), spread)


@operator("Crop", "input:T", "output:T", "border:ints! scale:ints", domain="", T=_T)
def crop(b: Body) -> Value:
    """[n, c, h, w] without its border (left, top, right, bottom), or `scale` (height, width) from its corner on"""
    x = b.given("input")
    *_, height, width = b.dims(x, 4)
    left, top, right, bottom = b.attr("border")
    sizes = b.attr("scale")
    ends = [top + sizes[0], left + sizes[1]] if sizes else [height - bottom, width - right]
    if not (0 <= top < ends[0] <= height and 0 <= left < ends[1] <= width):
        b.fail(
            "its border leaves nothing, or more than there is", [height, width], [left, top, right, bottom]
        )
    return b("Slice", x, b.const([top, left]), b.const(ends), b.const([2, 3]))


@operator(
    "DynamicSlice", "data:T starts:I ends:I axes:I?", "output:T", domain="", T=f"{_T} i32 i64", I="i32 i64"
)
def dynamic_slice(b: Body) -> Value:
    """Slice"""
    return b("Slice", b.given("data"), b.given("starts"), b.given("ends"), b.maybe("axes"))
