"""Element-wise operators: each output element is a function of the broadcast input elements."""

from __future__ import annotations

import math

from nnjit.codegen.dtypes import FLOATS, LIMITS, SIZES, UNSIGNED
from nnjit.codegen.expr import Expr, cast, compare, const, op, select
from nnjit.graph.ir import Node
from nnjit.lower.registry import Unsupported, pointwise


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
    """Floats in f32 (a whole constant exponent by multiplications, in any type); integers by squaring."""
    if a.dtype in FLOATS:
        whole = b.op == "const" and float(b.attr).is_integer() and abs(b.attr) <= 16
        if a.dtype == "f32" or whole:
            return op("pow", a, cast(b, a.dtype))
        if a.dtype == "f64":
            raise Unsupported("Pow of f64")
        return cast(op("pow", cast(a, "f32"), cast(b, "f32")), a.dtype)
    if b.dtype in FLOATS:
        raise Unsupported(f"Pow of {a.dtype} to {b.dtype}")
    return _integer_power(a, cast(b, "i32"))


def _integer_power(x: Expr, n: Expr) -> Expr:
    """x^n by the bits of n, up to 63: from there on x^n of |x| > 1 overflows every type. Below 0 it is 1/x^-n
    truncated: 0 but for x = 1 and -1."""
    one, zero, least = like(x, 1), like(x, 0), const(0, "i32")
    size = unary("abs", n)
    # 62 or 63 instead of a larger exponent: what is left of it is the sign of -1
    odd = op("band", size, const(1, "i32"))
    size = op("min", size, op("add", const(62, "i32"), odd))
    y, square = one, x
    for bit in range(6):
        there = compare("ne", op("band", size, const(1 << bit, "i32")), least)
        y = select(there, op("mul", y, square), y)
        square = op("mul", square, square)
    unit = compare("eq", op("mul", x, x), one)
    return select(op("and", compare("lt", n, least), unary("not", unit)), zero, y)


@pointwise("Mod")
def modulo(node: Node, a: Expr, b: Expr) -> Expr:
    return op("rem" if node.attrs.get("fmod", 0) else "mod", a, b)


@pointwise("Cast")
def convert(node: Node, x: Expr) -> Expr:
    return cast(x, node.outputs[0].dtype)


@pointwise("Clip")
def clip(node: Node, x: Expr, low: Expr | None = None, high: Expr | None = None) -> Expr:
    if low is not None:
        x = op("max", x, low)
    return x if high is None else op("min", x, high)


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


@pointwise("IsNaN")
def is_nan(node: Node, x: Expr) -> Expr:
    return compare("ne", x, x)


@pointwise("IsInf")
def is_inf(node: Node, x: Expr) -> Expr:
    """x is +inf (unless detect_positive is 0) or -inf (unless detect_negative is 0)."""
    up, down = node.attrs.get("detect_positive", 1), node.attrs.get("detect_negative", 1)
    if not up or not down:
        bound = like(x, math.inf if up else -math.inf)
        return compare("eq", x, bound) if up or down else const(False, "bool")
    return compare("eq", unary("abs", x), like(x, math.inf))


@pointwise("BitShift")
def bit_shift(node: Node, x: Expr, n: Expr) -> Expr:
    """A count outside 0..width-1 shifts everything out, as numpy has it; Wasm takes it modulo 32 or 64."""
    zero, width = like(x, 0), like(n, SIZES[x.dtype] * 8)
    fits = compare("lt", n, width)
    if n.dtype not in UNSIGNED:
        fits = op("and", fits, compare("ge", n, like(n, 0)))
    if text(node, "direction", "LEFT") == "LEFT":
        return select(fits, op("shl", x, n), zero)
    gone = zero if x.dtype in UNSIGNED else select(compare("lt", x, zero), like(x, -1), zero)
    return select(fits, op("shr", x, n), gone)


def text(node: Node, name: str, default: str = "") -> str:
    """A string attribute."""
    value = node.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)
