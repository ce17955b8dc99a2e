"""Inverse and hyperbolic functions, composed of exp, log, sqrt, sin, cos and short polynomials.

f64 has no kernels: `exp` and the rest of f64 run on the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnjit.codegen.expr import Expr, bitcast, cast, compare, const, op, select
from nnjit.graph.ir import Node
from nnjit.lower.ops.activation import log1p
from nnjit.lower.ops.pointwise import like, unary
from nnjit.lower.registry import Unsupported, pointwise

ASIN = (4.2163199048e-2, 2.4181311049e-2, 4.5470025998e-2, 7.4953002686e-2, 1.6666752422e-1)
SINH = (2.03721912945e-4, 8.33028376239e-3, 1.66667160211e-1)
ASINH = (2.0122003309e-2, -4.2699340972e-2, 7.4847586088e-2, -1.6666288134e-1)
ATANH = (1.81740078349e-1, 8.24370301058e-2, 1.46691431730e-1, 1.99782164500e-1, 3.33337300303e-1)
"""Odd polynomials around 0: f(x) = x + x^3 P(x^2), from the Cephes library (asinf, sinhf, asinhf, atanhf)."""


def single(name: str) -> None:
    """Registers a function of f32 for f32 and the 16-bit floats, which registers hold as f32."""

    @pointwise(name)
    def rule(node: Node, x: Expr) -> Expr:
        if x.dtype not in ("f32", "f16", "bf16"):
            raise Unsupported(f"{name} of {x.dtype}")
        y = FUNCTIONS[name](cast(x, "f32"))
        return y if x.dtype == "f32" else cast(y, x.dtype)


def odd(x: Expr, p: Sequence[float]) -> Expr:
    """x + x^3 P(x^2)."""
    z = op("mul", x, x)
    y = const(p[0], "f32")
    for c in p[1:]:
        y = Expr("fma", "f32", (y, z, const(c, "f32")))
    return Expr("fma", "f32", (op("mul", y, z), x, x))


def signed(x: Expr, size: Expr) -> Expr:
    """`size`, which is not negative, with the sign of x."""
    sign = op("band", bitcast(x, "i32"), const(-(2**31), "i32"))
    return bitcast(op("bor", bitcast(size, "i32"), sign), "f32")


def half(x: Expr) -> Expr:
    return op("mul", x, like(x, 0.5))


def tan(x: Expr) -> Expr:
    """sin / cos: both share one range reduction."""
    return op("div", unary("sin", x), unary("cos", x))


def _asin_parts(x: Expr) -> tuple[Expr, Expr]:
    """(|x| > 1/2, y) where asin|x| is y, or pi/2 - 2 y above 1/2: y = asin sqrt((1 - |x|) / 2)."""
    a = unary("abs", x)
    big = compare("gt", a, like(x, 0.5))
    s = select(big, unary("sqrt", half(op("sub", like(x, 1), a))), a)
    return big, odd(s, ASIN)


def asin(x: Expr) -> Expr:
    big, y = _asin_parts(x)
    return signed(x, select(big, op("sub", like(x, math.pi / 2), op("add", y, y)), y))


def acos(x: Expr) -> Expr:
    """2 y above 1/2, pi - 2 y below -1/2, pi/2 - asin x between."""
    big, y = _asin_parts(x)
    twice, negative = op("add", y, y), compare("lt", x, like(x, 0))
    outer = select(negative, op("sub", like(x, math.pi), twice), twice)
    return select(big, outer, op("sub", like(x, math.pi / 2), signed(x, y)))


def _exp_of_half(x: Expr) -> Expr:
    """e^(|x| / 2): its square is in range wherever sinh and cosh are."""
    return unary("exp", half(unary("abs", x)))


def sinh(x: Expr) -> Expr:
    """(e^|x| - e^-|x|) / 2; an odd polynomial below 1, where that would cancel."""
    e = _exp_of_half(x)
    large = op("sub", op("mul", half(e), e), op("div", like(x, 0.5), op("mul", e, e)))
    return select(compare("lt", unary("abs", x), like(x, 1)), odd(x, SINH), signed(x, large))


def cosh(x: Expr) -> Expr:
    e = _exp_of_half(x)
    return op("add", op("mul", half(e), e), op("div", like(x, 0.5), op("mul", e, e)))


def asinh(x: Expr) -> Expr:
    """ln(a + sqrt(a^2 + 1)) of a = |x|; ln 2a where a^2 overflows; a polynomial below 1/2."""
    a = unary("abs", x)
    root = unary("sqrt", op("add", op("mul", a, a), like(x, 1)))
    huge = compare("gt", a, like(x, 1e9))
    doubled = select(huge, like(x, math.log(2)), like(x, 0))
    y = op("add", unary("log", select(huge, a, op("add", a, root))), doubled)
    return select(compare("lt", a, like(x, 0.5)), odd(x, ASINH), signed(x, y))


def acosh(x: Expr) -> Expr:
    """ln(1 + t + sqrt(2t + t^2)) with t = x - 1; ln 2x where t^2 overflows; a NaN below 1."""
    t = op("sub", x, like(x, 1))
    near = log1p(op("add", t, unary("sqrt", op("mul", t, op("add", t, like(x, 2))))))
    y = select(compare("gt", x, like(x, 1e9)), op("add", unary("log", x), like(x, math.log(2))), near)
    return select(compare("ge", x, like(x, 1)), y, like(x, math.nan))


def atanh(x: Expr) -> Expr:
    """ln((1 + a) / (1 - a)) / 2 of a = |x|; a polynomial below 1/2."""
    a = unary("abs", x)
    y = half(unary("log", op("div", op("add", like(x, 1), a), op("sub", like(x, 1), a))))
    return select(compare("lt", a, like(x, 0.5)), odd(x, ATANH), signed(x, y))


FUNCTIONS = {
    "Tan": tan, "Asin": asin, "Acos": acos, "Sinh": sinh, "Cosh": cosh, "Asinh": asinh, "Acosh": acosh,
    "Atanh": atanh,
}  # fmt: skip

for _name in FUNCTIONS:
    single(_name)
