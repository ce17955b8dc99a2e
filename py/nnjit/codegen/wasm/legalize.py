"""Expressions rewritten into operations that Wasm has: transcendental functions become polynomials,
16-bit floats become bit arithmetic, integer division is made safe from traps.

Error bounds (largest seen over each function's range, tests/unit/codegen/test_math.py holds them):
exp 2 ulp, log 2 ulp, tanh 4 ulp, erf 3e-7 absolute, sin and cos 2e-7 absolute below 1e4, pow 1e-5 relative.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

import numpy as np

from nnjit.codegen.dtypes import FLOATS, INTS, UNSIGNED
from nnjit.codegen.expr import Access, Expr, bitcast, cast, compare, const, op, rewrite, select

LN2_HI, LN2_LO = 0.693359375, -2.12194440e-4
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
"""Polynomials of the Cephes library's single precision functions (expf, logf, sinf, cosf, atanf)."""
TANH_P = (
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
    1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
)  # fmt: skip
TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
ERF_P = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
    -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
ERF_Q = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
    -1.42647390514189e-02,
)  # fmt: skip
"""Minimax rationals of tanh on [-7.9, 7.9] and erf on [-4, 4], as published with the Eigen library."""


def legal(e: Expr, memo: dict[Expr, Expr]) -> Expr:
    """`e` with only operations that `ops` or the emitter itself know. `memo` is shared between calls."""

    def step(x: Expr) -> Expr | None:
        if x.op == "load" and x.dtype in ("f16", "bf16"):
            return legal(_load_half(x), memo)
        if x.op == "cast" and x.dtype in ("f16", "bf16"):
            return legal(_value(_bits(as_f32(x.args[0]), x.dtype), x.dtype), memo)
        rule = _RULES.get(x.op)
        if rule is None:
            return None
        new = rule(x)
        return None if new is None else legal(new, memo)

    return rewrite(e, {}, step, memo)


def stored(e: Expr, dtype: str) -> Expr:
    """What is written to a buffer of `dtype`: 16-bit floats as their bits."""
    return _bits(as_f32(e), dtype) if dtype in ("f16", "bf16") else e


def as_f32(x: Expr) -> Expr:
    """A 16-bit float value seen as the f32 that its register holds."""
    return Expr("cast", "f32", (x,)) if x.dtype != "f32" else x


def _f(v: float) -> Expr:
    return const(float(np.float32(v)), "f32")


def _i(v: int) -> Expr:
    return const(v, "i32")


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    return Expr("fma", "f32", (a, b, c))


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """A polynomial, highest power first."""
    y = _f(coefficients[0])
    for c in coefficients[1:]:
        y = fma(y, x, _f(c))
    return y


def _pmin(a: Expr, b: Expr) -> Expr:
    return Expr("pmin", a.dtype, (a, b))


def _pmax(a: Expr, b: Expr) -> Expr:
    return Expr("pmax", a.dtype, (a, b))


def _clamp(x: Expr, low: float, high: float) -> Expr:
    # pmin and pmax take one instruction each, and return a NaN in their first operand
    return _pmax(_pmin(x, _f(high)), _f(low))


def exp(x: Expr) -> Expr:
    """e^x = 2^n * e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; 0 below -86.99."""
    y = _clamp(x, -87.33654, 88.72283)
    n = Expr("round", "f32", (op("mul", y, _f(1 / math.log(2))),))
    r = fma(n, _f(-LN2_LO), fma(n, _f(-LN2_HI), y))
    p = op("add", fma(op("mul", r, r), horner(r, EXP), r), _f(1.0))
    # 2^(n-1), doubled at the end: 2^128 does not fit an exponent. n = -126 gives 0, so below -86.99 it is 0
    scale = bitcast(op("shl", op("add", cast(n, "i32"), _i(126)), _i(23)), "f32")
    y = op("mul", p, scale)
    y = op("add", y, y)
    return select(compare("gt", x, _f(88.72283)), _f(math.inf), y)


def log(x: Expr) -> Expr:
    """ln(m * 2^e) = ln m + e ln 2 with m in [sqrt(1/2), sqrt 2); denormals are scaled up first."""
    tiny = compare("lt", x, _f(1.17549435e-38))
    y = select(tiny, op("mul", x, _f(8388608.0)), x)
    bits = bitcast(y, "i32")
    e = op("sub", op("band", op("shr", bits, _i(23)), _i(255)), select(tiny, _i(126 + 23), _i(126)))
    m = bitcast(op("bor", op("band", bits, _i(0x007FFFFF)), _i(0x3F000000)), "f32")
    low = compare("lt", m, _f(0.70710678))
    ef = op("sub", cast(e, "f32"), select(low, _f(1.0), _f(0.0)))
    r = op("sub", select(low, op("add", m, m), m), _f(1.0))
    z = op("mul", r, r)
    p = op("mul", op("mul", r, z), horner(r, LOG))
    p = fma(z, _f(-0.5), fma(ef, _f(LN2_LO), p))
    y = fma(ef, _f(LN2_HI), op("add", r, p))
    y = select(compare("eq", x, _f(math.inf)), x, y)
    y = select(compare("eq", x, _f(0.0)), _f(-math.inf), y)
    # not (x >= 0): negative or NaN
    return select(compare("ge", x, _f(0.0)), y, _f(math.nan))


def _odd_rational(x: Expr, bound: float, p: Sequence[float], q: Sequence[float]) -> Expr:
    y = _clamp(x, -bound, bound)
    z = op("mul", y, y)
    return op("div", op("mul", y, horner(z, p)), horner(z, q))


def tanh(x: Expr) -> Expr:
    return _clamp(_odd_rational(x, 7.90531110763549805, TANH_P, TANH_Q), -1.0, 1.0)


def erf(x: Expr) -> Expr:
    return _clamp(_odd_rational(x, 4.0, ERF_P, ERF_Q), -1.0, 1.0)


def _trig(x: Expr, quarter: int) -> Expr:
    """sin (quarter 0) or cos (1): r = x - n pi/2 with pi/2 in three parts, then one of two polynomials."""
    n = Expr("round", "f32", (op("mul", x, _f(2 / math.pi)),))
    r = fma(n, _f(-1.5703125), x)
    r = fma(n, _f(-4.837512969970703125e-4), r)
    r = fma(n, _f(-7.549789948768648e-8), r)
    z = op("mul", r, r)
    s = fma(op("mul", z, r), horner(z, SIN), r)
    c = op("add", fma(op("mul", z, z), horner(z, COS), op("mul", z, _f(-0.5))), _f(1.0))
    q = op("add", cast(n, "i32"), _i(quarter))
    y = select(compare("eq", op("band", q, _i(1)), _i(0)), s, c)
    return select(compare("eq", op("band", q, _i(2)), _i(0)), y, Expr("neg", "f32", (y,)))


def atan(x: Expr) -> Expr:
    """Three ranges: |x| < tan(pi/8) directly, up to tan(3pi/8) by (x-1)/(x+1), above by -1/x."""
    a = Expr("abs", "f32", (x,))
    big, mid = compare("gt", a, _f(2.414213562373095)), compare("gt", a, _f(0.4142135623730950))
    shifted = op("div", op("sub", a, _f(1.0)), op("add", a, _f(1.0)))
    t = select(big, op("div", _f(-1.0), a), select(mid, shifted, a))
    base = select(big, _f(math.pi / 2), select(mid, _f(math.pi / 4), _f(0.0)))
    z = op("mul", t, t)
    y = op("add", base, fma(op("mul", horner(z, ATAN), z), t, t))
    return select(compare("lt", x, _f(0.0)), Expr("neg", "f32", (y,)), y)


def power(x: Expr) -> Expr | None:
    """x^y for f32: |x|^y = e^(y ln|x|), the sign from an odd y; NaN for a negative x and a fractional y."""
    a, b = x.args
    if b.op == "const":
        y = b.attr
        if y == 0.5:
            # sqrt(-0) is -0 and pow(-inf, .5) is inf: both are told from sqrt by an absolute value
            return Expr("sqrt", x.dtype, (a,))
        if float(y).is_integer() and 0 < abs(y) <= 16:
            p, base, n = None, a, int(abs(y))
            while n:
                if n & 1:
                    p = base if p is None else op("mul", p, base)
                base, n = op("mul", base, base), n >> 1
            assert p is not None
            return p if y > 0 else op("div", const(1.0, x.dtype), p)
    if x.dtype != "f32":
        return None
    whole = compare("eq", Expr("floor", "f32", (b,)), b)
    halved = op("mul", b, _f(0.5))
    odd = Expr("and", "bool", (whole, compare("ne", Expr("floor", "f32", (halved,)), halved)))
    size = exp(op("mul", b, log(Expr("abs", "f32", (a,)))))
    size = select(compare("eq", b, _f(0.0)), _f(1.0), size)
    size = select(compare("eq", a, _f(1.0)), _f(1.0), size)
    signed = select(odd, Expr("neg", "f32", (size,)), select(whole, size, _f(math.nan)))
    return select(compare("lt", a, _f(0.0)), signed, size)


def _division(x: Expr) -> Expr | None:
    """Integers: 0 and -1 (whose quotient of the smallest value overflows) never reach the dividing instruction."""
    a, b = x.args
    if x.dtype in FLOATS:
        return None
    signed = x.dtype not in UNSIGNED
    if b.op == "const" and b.attr not in (0, -1):
        return Expr("idiv", x.dtype, (a, b))
    zero, one, minus = const(0, x.dtype), const(1, x.dtype), const(-1, x.dtype)
    nil = compare("eq", b, zero)
    safe = select(nil, one, b)
    if not signed:
        return select(nil, zero, Expr("idiv", x.dtype, (a, safe)))
    negative = compare("eq", b, minus)
    q = Expr("idiv", x.dtype, (a, select(negative, one, safe)))
    return select(nil, zero, select(negative, op("sub", zero, a), q))


def _remainder(x: Expr) -> Expr:
    """rem: a - trunc(a/b) b, the dividend's sign; mod: the divisor's sign."""
    a, b = x.args
    if x.dtype in FLOATS:
        q = op("div", a, b)
        r = op("sub", a, op("mul", Expr("trunc", x.dtype, (q,)), b))
        # an infinite divisor leaves the dividend
        size = Expr("abs", x.dtype, (b,))
        r = select(compare("eq", size, const(math.inf, x.dtype)), a, r)
    else:
        zero, one = const(0, x.dtype), const(1, x.dtype)
        bad = compare("eq", b, zero)
        if x.dtype not in UNSIGNED:
            bad = Expr("or", "bool", (bad, compare("eq", b, const(-1, x.dtype))))
        r = select(bad, zero, Expr("irem", x.dtype, (a, select(bad, one, b))))
    if x.op == "rem" or x.dtype in UNSIGNED:
        return r
    zero = const(0, x.dtype)
    differs = compare("ne", compare("lt", r, zero), compare("lt", b, zero))
    return select(Expr("and", "bool", (compare("ne", r, zero), differs)), op("add", r, b), r)


def _extreme(x: Expr) -> Expr | None:
    """max(x, constant) keeps a NaN of x with pmax alone; integers compare and select where there is no instruction."""
    a, b = x.args
    fast = {"max": "pmax", "min": "pmin"}[x.op]
    if x.dtype in FLOATS:
        if a.op == "const" and b.op != "const":
            a, b = b, a
        if b.op == "const" and b.attr == b.attr and x.dtype == "f32":
            return Expr(fast, x.dtype, (a, b))
        return None
    return None


def _float_only(f: Callable[[Expr], Expr]) -> Callable[[Expr], Expr | None]:
    def rule(x: Expr) -> Expr | None:
        if x.dtype == "f32":
            return f(x.args[0])
        if x.dtype in ("f16", "bf16"):
            return Expr("cast", x.dtype, (f(as_f32(x.args[0])),))
        raise UnsupportedExpr(f"{x.op} of {x.dtype}")

    return rule


class UnsupportedExpr(Exception):
    """This target has no instructions for the expression: the node runs on the reference instead."""


_RULES: dict[str, Callable[[Expr], Expr | None]] = {
    "exp": _float_only(exp), "log": _float_only(log), "tanh": _float_only(tanh), "erf": _float_only(erf),
    "sin": _float_only(lambda x: _trig(x, 0)), "cos": _float_only(lambda x: _trig(x, 1)), "atan": _float_only(atan),
    "pow": power, "div": _division, "rem": _remainder, "mod": _remainder, "max": _extreme, "min": _extreme,
}  # fmt: skip


# ---- 16-bit floats: registers hold f32, memory holds bits ----


def _load_half(x: Expr) -> Expr:
    access: Access = x.attr
    other = tuple(_bits(as_f32(a), x.dtype) for a in x.args)
    return _value(Expr("load", "u16", other, access), x.dtype)


def _value(bits: Expr, dtype: str) -> Expr:
    """binary16 or bfloat16 bits (a u16) as an f32."""
    wide = cast(bits, "i32")
    if dtype == "bf16":
        return bitcast(op("shl", wide, _i(16)), "f32")
    # shift the 15 low bits to f32's place; times 2^112 mends the exponent, denormals included
    magnitude = op("shl", op("band", wide, _i(0x7FFF)), _i(13))
    scaled = op("mul", bitcast(magnitude, "f32"), _f(2.0**112))
    special = bitcast(op("bor", magnitude, _i(0x7F800000)), "f32")
    v = bitcast(select(compare("ge", op("band", wide, _i(0x7FFF)), _i(0x7C00)), bitcast(special, "i32"),
                       bitcast(scaled, "i32")), "i32")  # fmt: skip
    sign = op("shl", op("band", wide, _i(0x8000)), _i(16))
    return bitcast(op("bor", v, sign), "f32")


def _bits(x: Expr, dtype: str) -> Expr:
    """An f32 as binary16 or bfloat16 bits (a u16), round half to even."""
    if x.op == "const":
        return const(half_bits(x.attr, dtype), "u16")
    raw = bitcast(x, "i32")
    nan = compare("ne", x, x)
    if dtype == "bf16":
        odd = op("band", Expr("shr", "i32", (raw, _i(16))), _i(1))
        rounded = op("shr", op("add", raw, op("add", odd, _i(0x7FFF))), _i(16))
        return cast(select(nan, _i(0x7FC0), op("band", rounded, _i(0xFFFF))), "u16")
    sign = op("band", op("shr", raw, _i(16)), _i(0x8000))
    a = op("band", raw, _i(0x7FFFFFFF))
    # normal: rebias and round at bit 13; below 2^-14: adding 0.5 lines the mantissa up with the result's
    odd = op("band", op("shr", a, _i(13)), _i(1))
    normal = op("shr", op("add", op("add", a, _i(-0x38000000 + 0xFFF)), odd), _i(13))
    small = op("sub", bitcast(op("add", bitcast(a, "f32"), _f(0.5)), "i32"), _i(0x3F000000))
    v = select(compare("lt", a, _i(0x38800000)), small, normal)
    v = select(compare("ge", a, _i(0x477FF000)), _i(0x7C00), v)
    v = select(nan, _i(0x7E00), v)
    return cast(op("bor", v, sign), "u16")


def half_bits(value: float, dtype: str) -> int:
    """The bits of a constant."""
    if dtype == "f16":
        with np.errstate(over="ignore"):
            return int(np.float16(value).view(np.uint16))
    from nnjit.codegen.bfloat import bf16_bits

    return int(bf16_bits(np.float32(value)))


def const_bytes(value: float | int | bool, dtype: str) -> bytes:
    """A constant as the four bytes of a vector lane."""
    if dtype == "bool":
        return b"\xff\xff\xff\xff" if value else b"\0\0\0\0"
    if dtype in INTS:
        return struct.pack("<I", int(value) & 0xFFFFFFFF)
    with np.errstate(over="ignore"):
        return np.float32(value).tobytes()
