"""exp, log and tanh of f64 as expressions, to 2 ulp (tests/unit/codegen/test_math.py holds that).

Rational approximations of the Cephes library's double precision functions. The other functions have no f64 form:
their nodes run on the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnjit.codegen.expr import Expr, bitcast, cast, compare, const, op, select

EXP_P = (1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1)
EXP_Q = (3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0)
LOG_P = (
    1.01875663804580931796e-4, 4.97494994976747001425e-1, 4.70579119878881725854, 1.44989225341610930846e1,
    1.79368678507819816313e1, 7.70838733755885391666,
)  # fmt: skip
LOG_Q = (
    1.0, 1.12873587189167450590e1, 4.52279145837532221105e1, 8.29875266912776603211e1, 7.11544750618563894466e1,
    2.31251620126765340583e1,
)  # fmt: skip
TANH_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
TANH_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)


def _f(v: float) -> Expr:
    return const(v, "f64")


def _i(v: int) -> Expr:
    return const(v, "i64")


def _horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    y = _f(coefficients[0])
    for c in coefficients[1:]:
        y = op("add", op("mul", y, x), _f(c))
    return y


def exp(x: Expr) -> Expr:
    """e^x = 2^n e^r, e^r = 1 + 2 r P(r^2) / (Q(r^2) - r P(r^2)); 0 instead of a denormal."""
    y = op("max", op("min", x, _f(709.782712893384)), _f(-708.3964185322641))
    n = Expr("round", "f64", (op("mul", y, _f(1 / math.log(2))),))
    r = op(
        "sub",
        op("sub", y, op("mul", n, _f(6.93145751953125e-1))),
        op("mul", n, _f(1.42860682030941723212e-6)),
    )
    z = op("mul", r, r)
    p = op("mul", r, _horner(z, EXP_P))
    p = op("div", p, op("sub", _horner(z, EXP_Q), p))
    p = op("add", op("add", p, p), _f(1.0))
    y = bitcast(op("add", bitcast(p, "i64"), op("shl", cast(n, "i64"), _i(52))), "f64")
    y = select(compare("lt", x, _f(-708.3964185322641)), _f(0.0), y)
    return select(compare("gt", x, _f(709.782712893384)), _f(math.inf), y)


def log(x: Expr) -> Expr:
    """ln(m 2^e) = ln m + e ln 2 with m in [sqrt(1/2), sqrt 2); ln(1 + r) = r - r^2/2 + r^3 P(r) / Q(r)."""
    tiny = compare("lt", x, _f(2.0**-1022))
    bits = bitcast(select(tiny, op("mul", x, _f(2.0**54)), x), "i64")
    e = op("sub", op("band", op("shr", bits, _i(52)), _i(2047)), select(tiny, _i(1022 + 54), _i(1022)))
    m = bitcast(op("bor", op("band", bits, _i((1 << 52) - 1)), _i(1022 << 52)), "f64")
    low = compare("lt", m, _f(math.sqrt(0.5)))
    ef = op("sub", cast(e, "f64"), select(low, _f(1.0), _f(0.0)))
    r = op("sub", select(low, op("add", m, m), m), _f(1.0))
    z = op("mul", r, r)
    y = op("mul", r, op("div", op("mul", z, _horner(r, LOG_P)), _horner(r, LOG_Q)))
    y = op("sub", y, op("mul", ef, _f(2.121944400546905827679e-4)))
    y = op("add", r, op("sub", y, op("mul", z, _f(0.5))))
    y = op("add", y, op("mul", ef, _f(0.693359375)))
    y = select(compare("eq", x, _f(math.inf)), x, y)
    y = select(compare("eq", x, _f(0.0)), _f(-math.inf), y)
    return select(compare("ge", x, _f(0.0)), y, _f(math.nan))


def tanh(x: Expr) -> Expr:
    """1 - 2 / (e^2|x| + 1) with the sign of x; below 0.625 x + x^3 P(x^2) / Q(x^2)."""
    a = Expr("abs", "f64", (x,))
    large = op("sub", _f(1.0), op("div", _f(2.0), op("add", exp(op("add", a, a)), _f(1.0))))
    large = select(compare("lt", x, _f(0.0)), Expr("neg", "f64", (large,)), large)
    z = op("mul", x, x)
    small = op("add", x, op("mul", op("mul", x, z), op("div", _horner(z, TANH_P), _horner(z, TANH_Q))))
    return select(compare("lt", a, _f(0.625)), small, large)
