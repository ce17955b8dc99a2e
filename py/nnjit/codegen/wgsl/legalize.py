"""Expressions rewritten into what WGSL has. exp, log, sqrt and roundings are WGSL's own; functions whose accuracy WGSL
leaves too open (sin 2^-11, tanh 1e-5 and free to overflow, atan 4096 ulp), or has not (erf), are polynomials. Narrow
types become 32-bit ones (`narrow`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnjit.codegen.dtypes import FLOATS, UNSIGNED
from nnjit.codegen.expr import Access, Expr, UnsupportedExpr, bitcast, cast, compare, const, facts, op, select
from nnjit.codegen.functions import atan, flushed_erf, power, tanh, trig
from nnjit.codegen.interp import OPS
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.wgsl.narrow import WIDER, narrowed, wrapped

POLYNOMIALS: dict[str, Callable[[Expr], Expr]] = {
    "erf": flushed_erf,
    "tanh": tanh,
    "atan": atan,
    "sin": lambda x: trig(x, 0, "f32", loose=True),
    "cos": lambda x: trig(x, 1, "f32", loose=True),
}


RULED = facts((*WIDER, *POLYNOMIALS, "const", "pow", "rem", "mod", "neg", "cast", "ne", "eq"))
"""What a node that a rule rewrites has: an operation on constants alone is one of those."""


def legal(e: Expr, memo: dict[Expr, Expr]) -> Expr:
    """`e` with only operations that `values` can print. `memo` is shared between calls."""
    if not e.facts & RULED:
        return e

    def step(x: Expr) -> Expr | None:
        new = _rule(x)
        return None if new is None else legal(new, memo)

    return rewrite(e, {}, step, memo)


def stored(e: Expr, dtype: str, half: bool) -> Expr:
    """What a buffer of `dtype` takes: a bool as 0 or 1, narrow floats rounded (by the store itself, where the device
    has f16), narrow integers wrapped."""
    if dtype == "bool":
        return select(e, const(1, "u32"), const(0, "u32"))
    if dtype == "f16" and half:
        return e
    return wrapped(e, dtype) if dtype in ("f16", "bf16") else e


def _rule(x: Expr) -> Expr | None:
    narrow = [a.dtype for a in (x, *x.args) if a.dtype in WIDER]
    if narrow and (x.dtype in WIDER or x.op not in ("load", "axis")):
        return _wide(x)
    if x.dtype == "f32" and x.op in OPS and all(a.op == "const" and a.dtype == "f32" for a in x.args):
        return _known(x)
    if x.op in ("ne", "eq") and x.args[0] == x.args[1] and x.args[0].dtype == "f32":
        return _is_number(x.args[0], x.op == "eq")
    if x.op in POLYNOMIALS:
        if x.dtype != "f32":
            raise UnsupportedExpr(f"{x.op} of {x.dtype} in WGSL")
        return POLYNOMIALS[x.op](x.args[0])
    if x.op == "pow":
        new = power(x)
        if new is None:
            raise UnsupportedExpr(f"pow of {x.dtype} in WGSL")
        return new
    if x.op in ("rem", "mod"):
        return _remainder(x)
    if x.op == "neg" and x.dtype in UNSIGNED:
        return op("sub", const(0, x.dtype), x.args[0])
    if x.op == "cast" and x.args[0].dtype in ("i64", "u64"):
        return _low_word(x)
    if x.op == "cast" and x.dtype == "f32" and _is_small(x.args[0]):
        return _small_number(x.args[0])
    return None


def _wide(x: Expr) -> Expr:
    """A node of a narrow type, or one that reads such, over wide operands."""
    memo: dict[Expr, Expr] = {}
    args = tuple(legal(a, memo) for a in x.args)
    new = narrowed(x, args)
    if new is not None:
        return new
    return cast(args[0], x.dtype) if x.op == "cast" else Expr(x.op, x.dtype, args, x.attr)


def _known(x: Expr) -> Expr:
    """An operation on constants: WGSL refuses a shader in which one has no finite result."""
    with np.errstate(all="ignore"):
        value = OPS[x.op](*(np.array([a.attr], np.float32) for a in x.args))
    return const(float(np.float32(value[0])), "f32")


def _is_number(x: Expr, number: bool) -> Expr:
    """x == x and x != x ask for NaN; compilers may assume that there is none, so the bits are looked at."""
    size = op("band", bitcast(x, "u32"), const(0x7FFFFFFF, "u32"))
    return compare("le" if number else "gt", size, const(0x7F800000, "u32"))


def _remainder(x: Expr) -> Expr | None:
    """rem has the dividend's sign, as WGSL's %; mod the divisor's; 0 where an integer divisor is 0."""
    a, b = x.args
    if x.dtype in FLOATS:
        q = op("div", a, b)
        r = op("sub", a, op("mul", Expr("trunc", x.dtype, (q,)), b))
        # an infinite divisor leaves the dividend, if that is finite
        largest = const(3.4028234663852886e38, "f32")
        sizes = (Expr("abs", "f32", (v,)) for v in (a, b))
        over = [compare("gt", v, largest) for v in sizes]
        r = select(Expr("and", "bool", (over[1], Expr("not", "bool", (over[0],)))), a, r)
    elif b.op == "const" and b.attr == 0:
        return const(0, x.dtype)
    elif x.op == "rem":
        return None
    else:
        r = op("rem", a, b)
    if x.op == "rem" or x.dtype in UNSIGNED:
        return r
    zero = const(0, x.dtype)
    differs = compare("ne", compare("lt", r, zero), compare("lt", b, zero))
    return select(Expr("and", "bool", (compare("ne", r, zero), differs)), op("add", r, b), r)


MANTISSA = 23


def _is_small(x: Expr) -> bool:
    """Whether an integer is some bits out of a word, so few that its float ends in a bit of 0."""
    bits = x.args[1] if x.op == "band" else x
    return (
        x.op == "band" and x.dtype in ("i32", "u32") and bits.op == "const" and 0 <= bits.attr < 1 << MANTISSA
    )


def _small_number(x: Expr) -> Expr:
    """A float whose mantissa is these bits is 2^23 more than they are. All steps are exact, and as fast as additions;
    a conversion takes four times as long on NVIDIA's GPUs. The last step takes off a bit that is 0: compilers would
    add what comes next, 0.5 say, to the 2^23 that are subtracted, and that sum has lost it."""
    exponent = const((127 + MANTISSA) << MANTISSA, x.dtype)
    value = op("sub", bitcast(op("bor", x, exponent), "f32"), const(float(1 << MANTISSA), "f32"))
    return bitcast(op("band", bitcast(value, "i32"), const(-2, "i32")), "f32")


def _low_word(x: Expr) -> Expr | None:
    """A 64-bit integer read as an index: an i32 load of the pair's low word."""
    wide = x.args[0]
    if x.dtype not in ("i32", "u32"):
        return None
    if wide.op == "const":
        return const((wide.attr + 2**31) % 2**32 - 2**31 if x.dtype == "i32" else wide.attr % 2**32, x.dtype)
    if wide.op == "cast" and wide.args[0].dtype in ("i32", "u32", "bool"):
        return cast(wide.args[0], x.dtype)
    if wide.op != "load":
        return None
    access: Access = wide.attr
    low = Expr("load", "i32", tuple(cast(a, "i32") for a in wide.args), access)
    return cast(low, x.dtype)
