"""Value conversions between element types, scalar and four wide: ONNX Cast as numpy does it on this class of
machine (floats truncate, narrow integers wrap)."""

from __future__ import annotations

from nnjit.codegen.dtypes import INTS, LIMITS, WIDE
from nnjit.codegen.expr import Expr, UnsupportedExpr
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.ops import kind, narrow


def cast_scalar(b: FunctionBuilder, source: str, to: str, bits: bool = False) -> None:
    """Converts the operand on the stack."""
    have, want = kind(source), kind(to)
    if bits:
        if have != want:
            b.op(f"{want}.reinterpret_{have}")
        return
    if to == "bool":
        if have in ("f32", "f64"):
            b.f32_const(0.0) if have == "f32" else b.f64_const(0.0)
        else:
            b.i32_const(0) if have == "i32" else b.i64_const(0)
        b.op(f"{have}.ne")
        return
    if have in ("f32", "f64"):
        if want in ("f32", "f64"):
            if have != want:
                b.op("f64.promote_f32" if want == "f64" else "f32.demote_f64")
            return
        if to == "u64":
            b.op(f"i64.trunc_sat_{have}_u")
        elif to in ("u32", "i64"):
            # through 64 bits: a negative float wraps into u32
            b.op(f"i64.trunc_sat_{have}_s")
            if to == "u32":
                b.op("i32.wrap_i64")
        else:
            b.op(f"i32.trunc_sat_{have}_s")
    elif want in ("f32", "f64"):
        sign = "u" if source in ("u32", "u64") else "s"
        b.op(f"{want}.convert_{have}_{sign}")
        return
    elif have == "i64" and want == "i32":
        b.op("i32.wrap_i64")
    elif have == "i32" and want == "i64":
        b.op("i64.extend_i32_u" if source in ("u32", "u16", "u8", "bool") else "i64.extend_i32_s")
    small = narrow(to)
    if small is not None and source != to:
        width, signed = small
        if signed:
            b.op(f"i32.extend{width}_s")
        else:
            b.i32_const((1 << width) - 1)
            b.op("i32.and")


def limits(e: Expr) -> tuple[float, float] | None:
    """The range that min and max with constants hold a float to, if it has both ends and can be no NaN: pmax(c, x)
    and pmin(c, x) are c where x is one."""
    low, high, clean = float("-inf"), float("inf"), False
    while e.op in ("min", "max", "pmin", "pmax"):
        a, b = e.args
        at = 0 if a.op == "const" and e.op[0] == "p" else 1
        if e.args[at].op != "const":
            break
        bound = e.args[at].attr
        if e.op[-3:] == "min":
            low, high = min(low, bound), min(high, bound)
        else:
            low, high = max(low, bound), max(high, bound)
        clean = clean or at == 0
        e = b if at == 0 else a
    return (low, high) if clean and -(2.0**31) < low <= high < 2.0**31 else None


def cast_vector(
    b: FunctionBuilder, source: str, to: str, bits: bool = False,
    held: tuple[float, float] | None = None, relaxed: bool = False,
) -> None:  # fmt: skip
    """Converts the v128 on the stack (32-bit kinds only). `held`: the range a float is known to be in, in which
    relaxed truncation is exact."""
    have, want = kind(source), kind(to)
    if have not in ("f32", "i32") or want not in ("f32", "i32"):
        raise UnsupportedExpr(f"cast of {source} to {to} in vectors")
    if bits:
        return
    if to == "bool":
        if have == "f32":
            b.vec_const("f32x4", 0.0)
            b.op("f32x4.ne")
        elif source != "bool":
            b.vec_const("i32x4", 0)
            b.op("i32x4.ne")
        return
    if source == "bool":
        if want == "f32":
            b.vec_const("f32x4", 1.0)
        else:
            b.vec_const("i32x4", 1)
        b.op("v128.and")
        return
    if have == "f32" and want == "f32":
        return
    if to == "u32" and have == "f32":
        _wrapping_u32(b)
    elif have == "f32":
        b.op("i32x4.relaxed_trunc_f32x4_s" if relaxed and held else "i32x4.trunc_sat_f32x4_s")
    elif want == "f32":
        b.op("f32x4.convert_i32x4_u" if source == "u32" else "f32x4.convert_i32x4_s")
        return
    small = narrow(to)
    if (
        small is not None
        and source != to
        and not (held and LIMITS[to][0] <= held[0] and held[1] <= LIMITS[to][1])
    ):
        width, signed = small
        if signed:
            for name in ("i32x4.shl", "i32x4.shr_s"):
                b.i32_const(32 - width)
                b.op(name)
        else:
            b.vec_const("i32x4", (1 << width) - 1)
            b.op("v128.and")


def _wrapping_u32(b: FunctionBuilder) -> None:
    """f32x4 to u32: values from 2^31 on need the unsigned instruction, negative ones wrap by the signed one."""
    x = b.local("v128")
    b.tee(x)
    b.op("i32x4.trunc_sat_f32x4_u")
    b.get(x)
    b.op("i32x4.trunc_sat_f32x4_s")
    b.get(x)
    b.vec_const("f32x4", 0.0)
    b.op("f32x4.ge")
    b.op("v128.bitselect")
    b.release(x)


def widens(e: Expr) -> bool:
    """Whether a value is a smaller integer as a 64-bit one."""
    return (
        e.op == "cast"
        and e.dtype in ("i64", "u64")
        and e.args[0].dtype in INTS
        and e.args[0].dtype not in WIDE
    )
