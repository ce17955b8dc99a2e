"""Activations of com.microsoft: Gelu, BiasGelu, FastGelu, QuickGelu."""

from __future__ import annotations

from ..ir import Value
from .body import Body
from .declare import FLOATS, operator

_ALL = f"{FLOATS} f64"


@operator("Gelu", "X:T", "Y:T", T=_ALL)
def gelu(b: Body) -> Value:
    """x Φ(x), by the error function"""
    return b("Gelu", b.given("X"))


@operator("BiasGelu", "A:T B:T", "C:T", T=_ALL)
def bias_gelu(b: Body) -> Value:
    """Gelu(A + B), B one dim long"""
    return b("Gelu", b("Add", b.given("A"), b.given("B")))


@operator("FastGelu", "X:T bias:T?", "Y:T", T=_ALL)
def fast_gelu(b: Body) -> Value:
    """Gelu(X + bias) by the hyperbolic tangent"""
    x, bias = b.given("X"), b.maybe("bias")
    return b("Gelu", x if bias is None else b("Add", x, bias), approximate="tanh")


@operator("QuickGelu", "X:T", "Y:T", "alpha:float=1.702", T=_ALL)
def quick_gelu(b: Body) -> Value:
    """x sigmoid(alpha x)"""
    return b("Swish", b.given("X"), alpha=b.attr("alpha"))
