"""Element-wise operators: each output element is a function of the broadcast input elements."""

from __future__ import annotations

import math
from typing import Any

from nnjit.codegen.dtypes import FLOATS, LIMITS, UNSIGNED
from nnjit.codegen.expr import Expr, cast, compare, const, op, select
from nnjit.graph.ir import Node
from nnjit.lower.registry import Unsupported, pointwise

Attrs = dict[str, Any]


def like(x: Expr, value: float) -> Expr:
    """A constant of x's type."""
    return const(value, x.dtype)


def unary(name: str, x: Expr) -> Expr:
    return Expr(name, x.dtype, (x,))


def _simple(onnx: str, name: str) -> None:
    @pointwise(onnx)
    def rule(node: Node, x: Expr) -> Expr:
        return unary(name, x)


for _onnx, _name in {
    "Neg": "neg", "Abs": "abs", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Erf": "erf", "Tanh": "tanh",
    "Sin": "sin", "Cos": "cos", "Atan": "atan", "Not": "not", "BitwiseNot": "bnot",
}.items():  # fmt: skip
    _simple(_onnx, _name)


@pointwise("Floor", "Ceil", "Round")
def rounding(node: Node, x: Expr) -> Expr:
    return x if x.dtype not in FLOATS else unary(node.op.lower(), x)


@pointwise("Identity")
def identity(node: Node, x: Expr) -> Expr:
    return x


@pointwise("Add", "Sub", "Mul", "Div")
def arithmetic(node: Node, a: Expr, b: Expr) -> Expr:
    return op(node.op.lower(), a, b)


@pointwise("Max", "Min")
def extremes(node: Node, *args: Expr) -> Expr:
    out = args[0]
    for a in args[1:]:
        out = op(node.op.lower(), out, a)
    return out


@pointwise("Sum", "Mean")
def total(node: Node, *args: Expr) -> Expr:
    out = args[0]
    for a in args[1:]:
        out = op("add", out, a)
    return out if node.op == "Sum" else op("div", out, like(out, len(args)))


@pointwise("And", "Or", "Xor")
def logical(node: Node, a: Expr, b: Expr) -> Expr:
    return op(node.op.lower(), a, b)


@pointwise("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(node: Node, a: Expr, b: Expr) -> Expr:
    return op("b" + node.op[7:].lower(), a, b)


@pointwise("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
def comparison(node: Node, a: Expr, b: Expr) -> Expr:
    names = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}
    return compare(names[node.op], a, b)


@pointwise("Where")
def where(node: Node, c: Expr, a: Expr, b: Expr) -> Expr:
    return select(c, a, b)


@pointwise("Pow")
def power(node: Node, a: Expr, b: Expr) -> Expr:
    exponent = b if b.dtype == a.dtype else cast(b, a.dtype)
    if a.dtype != "f32" and not (exponent.op == "const" and float(exponent.attr).is_integer()):
        raise Unsupported(f"Pow of {a.dtype}")
    return op("pow", a, exponent)


@pointwise("Mod")
def modulo(node: Node, a: Expr, b: Expr) -> Expr:
    return op("rem" if node.attrs.get("fmod", 0) else "mod", a, b)


@pointwise("Cast")
def convert(node: Node, x: Expr) -> Expr:
    return cast(x, node.outputs[0].dtype)


@pointwise("CastLike")
def convert_like(node: Node, x: Expr, like: Expr) -> Expr:
    return cast(x, node.outputs[0].dtype)


@pointwise("Relu")
def relu(node: Node, x: Expr) -> Expr:
    return op("max", x, like(x, 0))


@pointwise("LeakyRelu")
def leaky(node: Node, x: Expr) -> Expr:
    return select(compare("lt", x, like(x, 0)), op("mul", x, like(x, node.attrs.get("alpha", 0.01))), x)


@pointwise("PRelu")
def prelu(node: Node, x: Expr, slope: Expr) -> Expr:
    return select(compare("lt", x, like(x, 0)), op("mul", x, slope), x)


@pointwise("Clip")
def clip(node: Node, x: Expr, low: Expr | None = None, high: Expr | None = None) -> Expr:
    if low is not None:
        x = op("max", x, low)
    return x if high is None else op("min", x, high)


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


@pointwise("Reciprocal")
def reciprocal(node: Node, x: Expr) -> Expr:
    return op("div", like(x, 1), x)


@pointwise("Sign")
def sign(node: Node, x: Expr) -> Expr:
    zero = like(x, 0)
    up = select(compare("gt", x, zero), like(x, 1), x if x.dtype in FLOATS else zero)
    if x.dtype in UNSIGNED:
        return up
    return select(compare("lt", x, zero), like(x, -1), up)


def limits(dtype: str) -> tuple[float, float]:
    """Smallest and largest value of a type."""
    return LIMITS.get(dtype, (-math.inf, math.inf))
