"""Expressions rewritten into operations that Wasm has: transcendental functions become polynomials,
16-bit floats become bit arithmetic, integer division is made safe from traps.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np

from nnjit.codegen import functions64
from nnjit.codegen.dtypes import FLOATS, INTS, UNSIGNED
from nnjit.codegen.expr import Access, Expr, UnsupportedExpr, bitcast, cast, compare, const, facts, op, select
from nnjit.codegen.functions import as_f32, atan, decay, erf, exp, f32, i32, log, power, tanh, trig
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.wasm.requantise import rounded_byte

HALVES = ("f16", "bf16")
"""Types whose elements are kept as their bits."""


def legal(e: Expr, memo: dict[Expr, Expr]) -> Expr:
    """`e` with only operations that `ops` or the emitter itself know. `memo` is shared between calls."""
    if not e.facts & RULED:
        return e

    def step(x: Expr) -> Expr | None:
        if not x.facts & RULED:
            return x
        if x.op == "load" and x.dtype in HALVES:
            return legal(_load_half(x), memo)
        if x.op == "cast" and x.dtype in HALVES:
            return legal(_value(_bits(as_f32(x.args[0]), x.dtype), x.dtype), memo)
        rule = _RULES.get(x.op)
        if rule is None:
            return None
        new = rule(x)
        return None if new is None else legal(new, memo)

    return rewrite(e, {}, step, memo)


def stored(e: Expr, dtype: str) -> Expr:
    """What is written to a buffer of `dtype`: 16-bit floats as their bits, those that are only moved as they were."""
    if dtype not in HALVES:
        return e
    return _raw(e) if _only_moved(e, dtype) else _bits(as_f32(e), dtype)


def _only_moved(e: Expr, dtype: str) -> bool:
    if e.op == "select":
        return all(_only_moved(x, dtype) for x in e.args[1:])
    return e.dtype == dtype and (
        e.op == "const" or (e.op == "load" and all(_only_moved(x, dtype) for x in e.args))
    )


def _raw(e: Expr) -> Expr:
    """The bits of an element, of a constant, or of a choice of such."""
    if e.op == "select":
        return select(e.args[0], _raw(e.args[1]), _raw(e.args[2]))
    if e.op == "const":
        return const(half_bits(e.attr, e.dtype), "u16")
    return Expr("load", "u16", tuple(_raw(x) for x in e.args), e.attr)


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
    if x.dtype in ("f32", "f16", "bf16"):
        # in f64 the quotient and its product are exact up to 2^29; in f32 a remainder could miss its range
        return cast(Expr(x.op, "f64", (cast(a, "f64"), cast(b, "f64"))), x.dtype)
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
    """max(x, constant) of f32 keeps a NaN of x with pmax alone; None for any other, which the emitter knows."""
    if x.dtype != "f32":
        return None
    a, b = x.args
    if a.op == "const" and b.op != "const":
        a, b = b, a
    if b.op != "const" or b.attr != b.attr:
        return None
    return Expr({"max": "pmax", "min": "pmin"}[x.op], "f32", (a, b))


def _float_only(
    f: Callable[[Expr], Expr], wide: Callable[[Expr], Expr] | None = None
) -> Callable[[Expr], Expr | None]:
    """`f` for f32 and the 16-bit floats, `wide` for f64."""

    def rule(x: Expr) -> Expr | None:
        if x.dtype == "f32":
            return f(x.args[0])
        if x.dtype == "f64" and wide is not None:
            return wide(x.args[0])
        if x.dtype in ("f16", "bf16"):
            return Expr("cast", x.dtype, (f(as_f32(x.args[0])),))
        raise UnsupportedExpr(f"{x.op} of {x.dtype}")

    return rule


_RULES: dict[str, Callable[[Expr], Expr | None]] = {
    "exp": _float_only(exp, functions64.exp), "decay": _float_only(decay, functions64.exp),
    "log": _float_only(log, functions64.log),
    "tanh": _float_only(tanh, functions64.tanh), "erf": _float_only(erf),
    "sin": _float_only(lambda x: trig(x, 0)), "cos": _float_only(lambda x: trig(x, 1)), "atan": _float_only(atan),
    "pow": power, "div": _division, "rem": _remainder, "mod": _remainder, "max": _extreme, "min": _extreme,
    "cast": rounded_byte,
}  # fmt: skip
RULED = facts((*_RULES, "f16", "bf16"))
"""What an expression has none of, here or below, is legal as it is."""


# ---- 16-bit floats: registers hold f32, memory holds bits ----


def _load_half(x: Expr) -> Expr:
    access: Access = x.attr
    if x.dtype == "bf16":
        other = tuple(_bits(as_f32(a), x.dtype) for a in x.args)
        return _value(Expr("load", "u16", other, access), x.dtype)
    # with its sign in the upper half, where it is wanted
    signed = tuple(_signed(_bits(as_f32(a), x.dtype)) for a in x.args)
    return _widened(op("shl", cast(Expr("load", "i16", signed, access), "i32"), i32(13)))


def _signed(bits: Expr) -> Expr:
    return const(bits.attr - (bits.attr >> 15 << 16), "i16") if bits.op == "const" else cast(bits, "i16")


def _value(bits: Expr, dtype: str) -> Expr:
    """binary16 or bfloat16 bits (a u16) as an f32."""
    high = op("shl", cast(bits, "i32"), i32(16))
    return bitcast(high, "f32") if dtype == "bf16" else _widened(op("shr", high, i32(3)))


def _widened(shifted: Expr) -> Expr:
    """binary16 bits as an f32: the 15 lower ones are in f32's place, all above them are the sign.

    Times 2^112 mends the exponent, denormals included; infinities and NaNs, 2^16 and more then, get the largest."""
    v = op("mul", bitcast(op("band", shifted, i32(-0x70002000)), "f32"), f32(2.0**112))
    finite = compare("lt", Expr("abs", "f32", (v,)), f32(2.0**16))
    return bitcast(op("bor", bitcast(v, "i32"), select(finite, i32(0), i32(0x7F800000))), "f32")


def _bits(x: Expr, dtype: str) -> Expr:
    """An f32 as binary16 or bfloat16 bits (a u16), round half to even."""
    if x.op == "const":
        return const(half_bits(x.attr, dtype), "u16")
    raw = bitcast(x, "i32")
    if dtype == "bf16":
        nan = compare("ne", x, x)
        odd = op("band", Expr("shr", "i32", (raw, i32(16))), i32(1))
        rounded = op("shr", op("add", raw, op("add", odd, i32(0x7FFF))), i32(16))
        return _held(select(nan, i32(0x7FC0), op("band", rounded, i32(0xFFFF))))
    # 4|x|, infinite from 2^16 on, plus the power of two that leaves it 11 bits (from 2^-14 down as many as there are):
    # the addition rounds, and what it has above those bits is the exponent. The method is that of the FP16 library.
    size = op("band", raw, i32(0x7FFFFFFF))
    four = op("mul", op("mul", bitcast(size, "f32"), f32(2.0**112)), f32(2.0**-110))
    power = op("band", op("add", size, i32(15 << 23)), i32(0x7F800000))
    total = bitcast(op("add", four, bitcast(op("max", power, i32(128 << 23)), "f32")), "i32")
    # a NaN keeps its highest bit, and no lower ones may carry it past the largest
    exponent, digits = op("band", op("shr", total, i32(13)), i32(0x7E00)), op("band", total, i32(0xFFF))
    v = op("min", op("add", exponent, digits), i32(0x7FFF))
    return _held(op("bor", v, op("band", op("shr", raw, i32(16)), i32(0x8000))))


def _held(bits: Expr) -> Expr:
    """An i32 that is a u16 already: in a register they are the same."""
    return Expr("bitcast", "u16", (bits,))


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
