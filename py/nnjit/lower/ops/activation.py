"""Activation functions: element-wise, with attributes as constants."""

from __future__ import annotations

import math

from nnjit.codegen import functions
from nnjit.codegen.expr import Expr, compare, op, select
from nnjit.codegen.functions import EXP, horner
from nnjit.graph.ir import Node
from nnjit.lower.ops.pointwise import like, unary
from nnjit.lower.registry import pointwise


@pointwise("Relu")
def relu(node: Node, x: Expr) -> Expr:
    return op("max", x, like(x, 0))


@pointwise("LeakyRelu")
def leaky(node: Node, x: Expr) -> Expr:
    return select(compare("lt", x, like(x, 0)), op("mul", x, like(x, node.attrs.get("alpha", 0.01))), x)


@pointwise("PRelu")
def prelu(node: Node, x: Expr, slope: Expr) -> Expr:
    return select(compare("lt", x, like(x, 0)), op("mul", x, slope), x)


@pointwise("Sigmoid")
def sigmoid(node: Node, x: Expr) -> Expr:
    return op("div", like(x, 1), op("add", like(x, 1), unary("exp", unary("neg", x))))


@pointwise("HardSigmoid")
def hard_sigmoid(node: Node, x: Expr) -> Expr:
    alpha, beta = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    y = op("add", op("mul", x, like(x, alpha)), like(x, beta))
    return op("min", op("max", y, like(x, 0)), like(x, 1))


@pointwise("HardSwish")
def hard_swish(node: Node, x: Expr) -> Expr:
    y = op("add", op("mul", x, like(x, 1 / 6)), like(x, 0.5))
    return op("mul", x, op("min", op("max", y, like(x, 0)), like(x, 1)))


@pointwise("Swish")
def swish(node: Node, x: Expr) -> Expr:
    alpha = node.attrs.get("alpha", 1.0)
    return op("mul", x, sigmoid(node, x if alpha == 1.0 else op("mul", x, like(x, alpha))))


@pointwise("Gelu")
def gelu(node: Node, x: Expr) -> Expr:
    """0.5 x (1 + erf(x / sqrt 2)), or with tanh(sqrt(2/pi) (x + 0.044715 x^3))."""
    if node.attrs.get("approximate", "none") == "tanh":
        cube = op("mul", op("mul", x, x), x)
        inner = op("mul", op("add", x, op("mul", cube, like(x, 0.044715))), like(x, math.sqrt(2 / math.pi)))
        bell = unary("tanh", inner)
    else:
        bell = unary("erf", op("mul", x, like(x, math.sqrt(0.5))))
    return op("mul", op("mul", x, like(x, 0.5)), op("add", bell, like(x, 1)))


@pointwise("Elu")
def elu(node: Node, x: Expr) -> Expr:
    """x, or alpha (e^x - 1) below 0."""
    return _below_zero(x, op("mul", like(x, node.attrs.get("alpha", 1.0)), exp_minus_1(x)))


@pointwise("Selu")
def selu(node: Node, x: Expr) -> Expr:
    """gamma x, or gamma alpha (e^x - 1) below 0."""
    alpha = node.attrs.get("alpha", 1.67326319217681884765625)
    gamma = node.attrs.get("gamma", 1.05070102214813232421875)
    return _below_zero(op("mul", x, like(x, gamma)), op("mul", like(x, alpha * gamma), exp_minus_1(x)), x)


@pointwise("Celu")
def celu(node: Node, x: Expr) -> Expr:
    """x, or alpha (e^(x / alpha) - 1) below 0."""
    alpha = node.attrs.get("alpha", 1.0)
    return _below_zero(x, op("mul", like(x, alpha), exp_minus_1(op("mul", x, like(x, 1 / alpha)))))


def _below_zero(x: Expr, y: Expr, tested: Expr | None = None) -> Expr:
    tested = x if tested is None else tested
    return select(compare("lt", tested, like(tested, 0)), y, x)


def exp_minus_1(x: Expr) -> Expr:
    """e^x - 1. In f32 to 4 ulp, by exp's own polynomial where a difference would have lost digits."""
    rest = op("sub", unary("exp", x), like(x, 1))
    if x.dtype != "f32":
        return rest
    near = compare("lt", unary("abs", x), like(x, 0.5 * math.log(2)))
    small = Expr("fma", "f32", (op("mul", x, x), horner(x, EXP), x))
    return select(near, small, rest)


@pointwise("ThresholdedRelu")
def thresholded(node: Node, x: Expr) -> Expr:
    return select(compare("gt", x, like(x, node.attrs.get("alpha", 1.0))), x, like(x, 0))


@pointwise("Shrink")
def shrink(node: Node, x: Expr) -> Expr:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    bias, bound = like(x, node.attrs.get("bias", 0.0)), node.attrs.get("lambd", 0.5)
    above = select(compare("gt", x, like(x, bound)), op("sub", x, bias), like(x, 0))
    return select(compare("lt", x, like(x, -bound)), op("add", x, bias), above)


@pointwise("Softplus")
def softplus(node: Node, x: Expr) -> Expr:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), which neither overflows nor loses a small e^x."""
    return op("add", op("max", x, like(x, 0)), log1p(unary("exp", unary("neg", unary("abs", x)))))


def log1p(x: Expr) -> Expr:
    """ln(1 + x) of x >= 0, to the last bits for small x too."""
    if x.dtype == "f32":
        return functions.log1p(x)
    w = op("add", x, like(x, 1))
    log = unary("log", w)
    if x.dtype == "f64":  # Kahan's way: f64 has kernels on WebAssembly alone, which rearranges nothing
        rounded = op("sub", w, like(x, 1))
        exact = select(compare("eq", w, like(x, math.inf)), w, op("mul", log, op("div", x, rounded)))
        return select(compare("eq", rounded, like(x, 0)), x, exact)
    # registers hold f32: below 2^-9 the two first terms are right to 2^-19, above it the sum has lost less than 2^-14
    near = op("mul", x, op("sub", like(x, 1), op("mul", x, like(x, 0.5))))
    return select(compare("lt", x, like(x, 2.0**-9)), near, log)


@pointwise("Softsign")
def softsign(node: Node, x: Expr) -> Expr:
    return op("div", x, op("add", unary("abs", x), like(x, 1)))


@pointwise("Mish")
def mish(node: Node, x: Expr) -> Expr:
    """x tanh(ln(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2); from 20 on it is x itself."""
    e = unary("exp", op("min", x, like(x, 20)))
    n = op("mul", e, op("add", e, like(x, 2)))
    return op("mul", x, op("div", n, op("add", n, like(x, 2))))
