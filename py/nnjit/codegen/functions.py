"""Transcendental functions of f32 as expressions: polynomials that every target computes alike.

Error bounds over all of f32 (tests/unit/codegen/test_math.py holds them; a denormal result may be 0):
exp and erf 1.5 ulp, log 1 ulp, log1p 3 ulp, tanh 6 ulp, atan 3 ulp, sin and cos 1.2e-7 absolute, pow 1e-5
relative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nnjit.codegen.expr import Expr, bitcast, cast, compare, const, op, reg, select

LN2_HI, LN2_LO = 0.693359375, -2.12194440e-4
"""ln 2 in two parts: whole multiples of the first, which has 9 bits, are exact (the method of Cody and Waite)."""
# Polynomials of the Cephes library's single precision functions (expf, logf, sinf, cosf, atanf), highest power first.
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)
HALF_PI = (1.5703125, 4.825592041015625e-4, 1.2665987014770508e-6, 9.920935796805404e-10)
"""pi/2 in four parts, the first three of 8 bits."""
DISTANT = "distant"
"""The register that holds x in a seldom case's expression."""
TWO_OVER_PI = (
    0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
)  # fmt: skip
"""2/pi in binary behind the point, and 64 zeros before it."""
TANH_P = (
    -2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
    1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03,
)  # fmt: skip
TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
"""A minimax rational of tanh on [-7.9, 7.9], as published with the Eigen library."""
ERF_NEAR = (
    7.254914817167446e-05, -7.828153902664781e-04, 5.1676505245268345e-03, -2.6843033730983734e-02,
    1.1283332854509354e-01, -3.761260509490967e-01, 1.2837916612625122e-01,
)  # fmt: skip
ERF_FAR = (
    -1.819440512917936e-05, -3.359026959515177e-05, 1.506888889707625e-03, -5.786441732198e-03,
    -3.4637136850506067e-03, 5.067990720272064e-02, 4.356852266937494e-03, -4.154890179634094e-01,
    6.297696232795715e-01,
)  # fmt: skip
"""Minimax fits of erf(x) / x - 1 in x^2 up to ERF_BOUND, and of (1 - erf(x))^(1/4) in x - 1 from there to 3.95, where
erf rounds to 1: of absolute errors, each coefficient rounded to f32 before the next ones were fitted."""
ERF_BOUND = 1.05
TANH_BOUND = 9.6
"""From here on tanh is 1: the rational, which stays within 2 ulp on the way, is above 1 by more than its rounding."""


def as_f32(x: Expr) -> Expr:
    """A 16-bit float value seen as the f32 that its register holds."""
    return Expr("cast", "f32", (x,)) if x.dtype != "f32" else x


def f32(v: float) -> Expr:
    return const(float(np.float32(v)), "f32")


def i32(v: int) -> Expr:
    return const(v, "i32")


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    return Expr("fma", "f32", (a, b, c))


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """A polynomial, highest power first."""
    y = f32(coefficients[0])
    for c in coefficients[1:]:
        y = fma(y, x, f32(c))
    return y


def _pmin(a: Expr, b: Expr) -> Expr:
    return Expr("pmin", a.dtype, (a, b))


def _pmax(a: Expr, b: Expr) -> Expr:
    return Expr("pmax", a.dtype, (a, b))


def clamp(x: Expr, low: float, high: float) -> Expr:
    # pmin and pmax take one instruction each, and return a NaN in their first operand
    return _pmax(_pmin(x, f32(high)), f32(low))


def exp(x: Expr) -> Expr:
    """e^x = 2^n * e^r with n = round(x / ln 2) and |r| <= ln 2 / 2; 0 instead of a denormal, below -87.33654.

    2^n is multiplied by adding n to the exponent of e^r; 128 is in range too, as e^r <= 1 there."""
    y = clamp(x, -87.33654, 88.72284)
    n = Expr("round", "f32", (op("mul", y, f32(1 / math.log(2))),))
    r = fma(n, f32(-LN2_LO), fma(n, f32(-LN2_HI), y))
    p = op("add", fma(op("mul", r, r), horner(r, EXP), r), f32(1.0))
    y = bitcast(op("add", bitcast(p, "i32"), op("shl", cast(n, "i32"), i32(23))), "f32")
    y = select(compare("lt", x, f32(-87.33654)), f32(0.0), y)
    return select(compare("gt", x, f32(88.72284)), f32(math.inf), y)


def decay(x: Expr) -> Expr:
    """e^x of x <= 0, as behind a maximum that was subtracted; 0 below -87.33654. Two thirds of exp's instructions.

    1.5 * 2^23 is added to x / ln 2 and taken off again: that rounds to a whole number n, and leaves n in the low bits
    of the sum, from where it is shifted to the exponent of a factor. Needs additions that nobody rearranges."""
    y = _pmax(x, f32(-87.33654))
    sum_ = fma(y, f32(1 / math.log(2)), f32(12582912.0))
    n = op("sub", sum_, f32(12582912.0))
    r = fma(n, f32(-LN2_LO), fma(n, f32(-LN2_HI), y))
    p = op("add", fma(op("mul", r, r), horner(r, EXP), r), f32(1.0))
    factor = bitcast(op("add", op("shl", bitcast(sum_, "i32"), i32(23)), i32(0x3F800000)), "f32")
    return select(compare("lt", x, f32(-87.33654)), f32(0.0), op("mul", p, factor))


def log(x: Expr) -> Expr:
    """ln(m * 2^e) = ln m + e ln 2 with m in [sqrt(1/2), sqrt 2); denormals are scaled up first."""
    tiny = compare("lt", x, f32(1.17549435e-38))
    y = select(tiny, op("mul", x, f32(8388608.0)), x)
    bits = bitcast(y, "i32")
    e = op("sub", op("band", op("shr", bits, i32(23)), i32(255)), select(tiny, i32(126 + 23), i32(126)))
    y = _log_of(*_split(bits, e))
    y = select(compare("eq", x, f32(math.inf)), x, y)
    y = select(compare("eq", x, f32(0.0)), f32(-math.inf), y)
    # not (x >= 0): negative or NaN
    return select(compare("ge", x, f32(0.0)), y, f32(math.nan))


def _split(bits: Expr, e: Expr) -> tuple[Expr, Expr]:
    """m - 1 and the exponent beside it, of a number with these bits, where `e` is its exponent for m in [1/2, 1)."""
    m = bitcast(op("bor", op("band", bits, i32(0x007FFFFF)), i32(0x3F000000)), "f32")
    low = compare("lt", m, f32(0.70710678))
    ef = op("sub", cast(e, "f32"), select(low, f32(1.0), f32(0.0)))
    return op("sub", select(low, op("add", m, m), m), f32(1.0)), ef


def _log_of(r: Expr, ef: Expr) -> Expr:
    """ln(1 + r) + ef ln 2."""
    z = op("mul", r, r)
    p = op("mul", op("mul", r, z), horner(r, LOG))
    p = fma(z, f32(-0.5), fma(ef, f32(LN2_LO), p))
    return fma(ef, f32(LN2_HI), op("add", r, p))


def log1p(x: Expr) -> Expr:
    """ln(1 + x) of x >= 0, to 3 ulp. Up to sqrt 2 - 1 the polynomial takes x as it is, so nothing depends on what
    1 + x loses of it: that could be had back as (1 + x) - 1, but compilers of shaders make x of it."""
    near = compare("lt", x, f32(math.sqrt(2) - 1))
    bits = bitcast(op("add", x, f32(1.0)), "i32")
    r, ef = _split(bits, op("sub", op("shr", bits, i32(23)), i32(126)))
    y = _log_of(select(near, x, r), select(near, f32(0.0), ef))
    # not below infinity: that, or NaN
    return select(compare("lt", x, f32(math.inf)), y, x)


def tanh(x: Expr) -> Expr:
    """x P(x^2) / Q(x^2), both scaled to Q(0) = 1: a tiny x must not underflow in the numerator."""
    y = clamp(x, -TANH_BOUND, TANH_BOUND)
    z = op("mul", y, y)
    numerator, denominator = ([c / TANH_Q[-1] for c in part] for part in (TANH_P, TANH_Q))
    return clamp(op("div", op("mul", y, horner(z, numerator)), horner(z, denominator)), -1.0, 1.0)


def erf(x: Expr) -> Expr:
    """x + x P(x^2) near 0, beyond it 1 - Q(|x|)^4 with the sign of x.

    Both are small changes to what is exact, so their own roundings weigh little: 1.5 ulp, where one rational is off
    by 5. Of 1 - erf only its absolute error matters, so the fourth root can be a polynomial: raising it again
    multiplies its relative error by 4, and 1 - erf is 0.14 at most."""
    near = fma(x, horner(op("mul", x, x), ERF_NEAR), x)
    size = Expr("abs", "f32", (x,))
    root = horner(op("sub", _pmin(size, f32(3.95)), f32(1.0)), ERF_FAR)
    square = op("mul", root, root)
    far = op("sub", f32(1.0), op("mul", square, square))
    sign = op("band", bitcast(x, "i32"), i32(-0x80000000))
    far = bitcast(op("bor", bitcast(far, "i32"), sign), "f32")
    return select(compare("lt", size, f32(ERF_BOUND)), near, far)


def flushed_erf(x: Expr) -> Expr:
    """erf where denormals are taken for 0, as WGSL may: x P(x^2) is one for a tiny x, and is a ninth of the answer."""
    tiny = compare("lt", Expr("abs", "f32", (x,)), f32(2.0**-60))
    return select(tiny, op("mul", x, f32(2 / math.sqrt(math.pi))), erf(x))


def trig(x: Expr, quarter: int, wide: str = "f64", loose: bool = False) -> Expr:
    """sin (quarter 0) or cos (1): r = x - n pi/2, then one of two polynomials.

    pi/2 is in four parts, the first three of 8 bits: n times each is exact up to n = 2^16, |x| = 1e5.
    What lies beyond takes a branch of its own: `distant`. wide: the best float type that the target has. loose: its
    compilers may rearrange sums (Mesa's make x - n a - n b into x - n (a + b), and round that product)."""
    n = Expr("round", "f32", (op("mul", x, f32(2 / math.pi)),))
    r = x
    for k, part in enumerate(HALF_PI):
        r = fma(n, f32(-part), r)
        if loose and k < 2:  # the last two parts are so small that their sum does as well
            # the last bit of a whole number below 2^23 is 0, which the compilers of shaders do not see
            nothing = op("band", bitcast(n, "i32"), i32(1))
            r = bitcast(op("bor", bitcast(r, "i32"), nothing), "f32")
    near = _by_quarter(clamp(r, -0.8, 0.8), op("add", cast(n, "i32"), i32(quarter)))
    if x.op == "cast" and x.args[0].dtype == "f16":  # none is so large
        return near
    beyond = compare("gt", Expr("abs", "f32", (x,)), f32(1e5))
    return distant(beyond, near, x, _distant_trig(reg(DISTANT, "f32"), quarter, wide))


def distant(cond: Expr, near: Expr, x: Expr, rest: Expr) -> Expr:
    """`near`, but where `cond` holds `rest` of x, which is called `DISTANT` there and is all that it reads. That is
    computed only if it is so in some lane: the seldom case of a function costs the usual one a test."""
    return Expr("distant", near.dtype, (cond, near, x), rest)


def _by_quarter(r: Expr, q: Expr) -> Expr:
    """sin(r + q pi/2), |r| <= pi/4."""
    z = op("mul", r, r)
    s = fma(op("mul", z, r), horner(z, SIN), r)
    c = op("add", fma(op("mul", z, z), horner(z, COS), op("mul", z, f32(-0.5))), f32(1.0))
    y = select(compare("eq", op("band", q, i32(1)), i32(0)), s, c)
    return select(compare("eq", op("band", q, i32(2)), i32(0)), y, Expr("neg", "f32", (y,)))


def _distant_trig(x: Expr, quarter: int, wide: str) -> Expr:
    """trig of |x| >= 2^16, by the method of Payne and Hanek (1983): x = m 2^e, and of 2/pi only 128 bits matter from
    the one on whose product with m is less than four quarters; the product has two bits before its point and 62 behind.
    All in integers of 64 bits, so what is left of x is exact to 2^-62 quarters."""

    def word(v: int) -> Expr:
        return const(v, "u64")

    bits = op("band", bitcast(x, "i32"), i32(0x7FFFFFFF))
    m = cast(op("bor", op("band", bits, i32(0x007FFFFF)), i32(0x00800000)), "u64")
    first = op(
        "sub", op("shr", bits, i32(23)), i32(150 - 62)
    )  # of the bits wanted, from 64 zeros before 2/pi
    within = cast(op("band", first, i32(63)), "u64")

    def chosen(k: int) -> Expr:
        """The k-th word from the one that the first bit is in."""
        late = select(compare("lt", first, i32(128)), word(TWO_OVER_PI[k + 1]), word(TWO_OVER_PI[k + 2]))
        return select(compare("lt", first, i32(64)), word(TWO_OVER_PI[k]), late)

    def shifted(a: Expr, b: Expr) -> Expr:
        # b by 64 - within, which may be 64
        low = op("shr", op("shr", b, word(1)), op("sub", word(63), within))
        return op("bor", op("shl", a, within), low)

    a, b, c = (chosen(k) for k in range(3))
    high, low = shifted(a, b), shifted(b, c)
    upper = op("mul", m, op("shr", low, word(32)))
    lower = op("shr", op("mul", m, op("band", low, word(0xFFFFFFFF))), word(32))
    quarters = op("add", op("mul", m, high), op("shr", op("add", upper, lower), word(32)))
    n = cast(op("shr", op("add", quarters, word(1 << 61)), word(62)), "i32")
    rest = cast(bitcast(op("shl", quarters, word(2)), "i64"), wide)
    r = cast(op("mul", rest, const(math.pi / 2**65, wide)), "f32")
    negative = compare("lt", x, f32(0.0))
    r = select(negative, Expr("neg", "f32", (r,)), r)
    n = select(negative, op("sub", i32(0), n), n)
    finite = compare("lt", bits, i32(0x7F800000))  # an infinity has no sine
    return select(finite, _by_quarter(r, op("add", n, i32(quarter))), f32(math.nan))


def atan(x: Expr) -> Expr:
    """Three ranges: |x| < tan(pi/8) directly, up to tan(3pi/8) by (x-1)/(x+1), above by -1/x."""
    a = Expr("abs", "f32", (x,))
    big, mid = compare("gt", a, f32(2.414213562373095)), compare("gt", a, f32(0.4142135623730950))
    shifted = op("div", op("sub", a, f32(1.0)), op("add", a, f32(1.0)))
    t = select(big, op("div", f32(-1.0), a), select(mid, shifted, a))
    base = select(big, f32(math.pi / 2), select(mid, f32(math.pi / 4), f32(0.0)))
    z = op("mul", t, t)
    y = op("add", base, fma(op("mul", horner(z, ATAN), z), t, t))
    return select(compare("lt", x, f32(0.0)), Expr("neg", "f32", (y,)), y)


def power(x: Expr) -> Expr | None:
    """x^y for f32: |x|^y = e^(y ln|x|), the sign from an odd y; NaN for a negative finite x and a fractional y."""
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
    halved = op("mul", b, f32(0.5))
    odd = Expr("and", "bool", (whole, compare("ne", Expr("floor", "f32", (halved,)), halved)))
    positive = Expr("abs", "f32", (a,))
    size = exp(op("mul", b, log(positive)))
    size = select(compare("eq", b, f32(0.0)), f32(1.0), size)
    size = select(compare("eq", positive, f32(1.0)), f32(1.0), size)
    positive_only = op("or", whole, compare("eq", positive, f32(math.inf)))
    signed = select(odd, Expr("neg", "f32", (size,)), select(positive_only, size, f32(math.nan)))
    return select(compare("lt", a, f32(0.0)), signed, size)
