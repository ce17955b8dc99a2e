"""Rounding on the way to a byte, in fewer instructions: what becomes of a rounded, clamped f32 that is cast to i8 or
u8, and which integers are known to be bytes for that.

    u8(pmin(255, pmax(0, round(x) + zero)))  ->  u8(bits(pmin(255 - zero, pmax(-zero, x)) + M) - (bits(M) - zero))

M = 1.5 * 2^23: adding it rounds to the nearest whole number, half to even, and leaves that number in the low bits.
Of a number that cannot leave them the bounds may come last, as integers: what stores whole vectors of bytes holds them
to the range anyway.
"""

from __future__ import annotations

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Expr, bitcast, const, op

MAGIC, BITS = 12582912.0, 0x4B400000
"""1.5 * 2^23, and its bits: the magic bias of XNNPACK's requantisation."""


def rounded_byte(x: Expr) -> Expr | None:
    """The new form of a cast to a byte; None for any other cast."""
    if x.dtype not in ("i8", "u8") or x.args[0].dtype != "f32":
        return None
    low, high = LIMITS[x.dtype]
    inner = _clamped(x.args[0], low, high)
    zero = 0.0
    if inner is not None and inner.op == "add" and inner.args[1].op == "const":
        inner, zero = inner.args[0], inner.args[1].attr
    if inner is None or inner.op != "round" or not float(zero).is_integer() or not low <= zero <= high:
        return None
    # whole bounds may be applied before rounding; the constant first: a NaN becomes the smallest value
    held = op("pmin", const(high - zero, "f32"), op("pmax", const(low - zero, "f32"), inner.args[0]))
    number = bitcast(Expr("add", "f32", (held, const(MAGIC, "f32"))), "i32")
    return Expr("cast", x.dtype, (Expr("sub", "i32", (number, const(BITS - int(zero), "i32"))),))


def saturated(e: Expr, dtype: str) -> Expr | None:
    """x of dtype(min(high, max(low, x))), which a saturating pack makes of x; None for any other value."""
    if e.op != "cast" or e.dtype != dtype or dtype not in ("i8", "u8") or e.args[0].dtype != "i32":
        return None
    return _held(e.args[0], dtype)


def _held(e: Expr, dtype: str) -> Expr | None:
    """x of min(high, max(low, x)), integers."""
    for name, bound in zip(("min", "max"), LIMITS[dtype][::-1], strict=True):
        if e.op != name or e.args[0].op != "const" or e.args[0].attr != bound:
            return None
        e = e.args[1]
    return e


def _clamped(e: Expr, low: float, high: float) -> Expr | None:
    """y of pmin(high, pmax(low, y))."""
    for name, bound in (("pmin", high), ("pmax", low)):
        if e.op != name or e.args[0].op != "const" or e.args[0].attr != bound:
            return None
        e = e.args[1]
    return e


def is_byte(e: Expr, dtype: str) -> bool:
    """Whether an i32 is within the range of `dtype`: held to it, or what `rounded_byte` has made of such a value."""
    if _held(e, dtype) is not None:
        return True
    if e.op != "sub" or e.args[1].op != "const" or e.args[0].op != "bitcast":
        return False
    sum_of = e.args[0].args[0]
    if sum_of.op != "add" or sum_of.args[1].op != "const" or sum_of.args[1].attr != MAGIC:
        return False
    zero = BITS - e.args[1].attr
    low, high = LIMITS[dtype]
    return _clamped(sum_of.args[0], low - zero, high - zero) is not None
