"""Narrow types rewritten into the 32-bit ones that WGSL computes in.

i8 and i16 live in i32, u8 and u16 in u32, wrapped after each operation that may leave their range; f16 and bf16 live
in f32, rounded where a value is cast to them and where it is stored.
"""

from __future__ import annotations

from nnjit.codegen.expr import Expr, bitcast, cast, compare, const, op, select

WIDER = {"i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "f16": "f32", "bf16": "f32"}
BITS = {"i8": 8, "u8": 8, "i16": 16, "u16": 16}
WITHIN = frozenset({"min", "max", "pmin", "pmax", "select", "band", "bor", "bxor", "shr", "rem", "mod"})
"""Operations whose result is in range if their operands are."""


def narrowed(x: Expr, args: tuple[Expr, ...]) -> Expr | None:
    """`x`, of a narrow type, over operands that are wide already; None if the type is not narrow."""
    to = WIDER.get(x.dtype)
    if to is None:
        return None
    if x.op in ("reg", "acc", "local", "load"):
        return Expr(x.op, to, args, x.attr)
    if x.op == "const":
        return const(x.attr, to)
    if x.op == "bitcast":
        return wrapped(bitcast(args[0], to), x.dtype)
    if x.op == "cast":
        if to == "f32" or args[0].dtype in ("bool", to):
            return wrapped(cast(args[0], to), x.dtype)
        # a float or a wide integer: through i32, whose low bits are what remains
        return wrapped(bitcast(cast(args[0], "i32"), to), x.dtype)
    value = Expr(x.op, to, args, x.attr)
    return value if x.op in WITHIN or x.dtype not in BITS else wrapped(value, x.dtype)


def wrapped(e: Expr, dtype: str) -> Expr:
    """A wide value brought to what an element of `dtype` can hold."""
    if dtype == "f16":
        return half(e)
    if dtype == "bf16":
        return brain(e)
    if dtype not in BITS:
        return e
    if dtype[0] == "u":
        return op("band", e, const((1 << BITS[dtype]) - 1, "u32"))
    by = const(32 - BITS[dtype], "i32")
    return op("shr", op("shl", e, by), by)


def half(e: Expr) -> Expr:
    """Rounded to f16, to nearest even: WGSL's quantizeToF16 may round either way, and leaves open what becomes of
    numbers past the largest."""
    size = Expr("abs", "f32", (e,))
    bits = bitcast(size, "u32")
    odd = op("band", op("shr", bits, const(13, "u32")), const(1, "u32"))
    normal = op("band", op("add", op("add", bits, const(0xFFF, "u32")), odd), const(0xFFFFE000, "u32"))
    steps = Expr("round", "f32", (op("mul", size, const(2.0**24, "f32")),))
    small = bitcast(op("mul", steps, const(2.0**-24, "f32")), "u32")
    found = select(compare("lt", size, const(2.0**-14, "f32")), small, normal)
    found = select(compare("ge", size, const(65520.0, "f32")), const(0x7F800000, "u32"), found)
    sign = op("band", bitcast(e, "u32"), const(0x80000000, "u32"))
    return bitcast(op("bor", found, sign), "f32")


def brain(e: Expr) -> Expr:
    """Rounded to bf16, to nearest even."""
    bits = bitcast(e, "u32")
    odd = op("band", op("shr", bits, const(16, "u32")), const(1, "u32"))
    up = op("add", op("add", bits, const(0x7FFF, "u32")), odd)
    return bitcast(op("band", up, const(0xFFFF0000, "u32")), "f32")
