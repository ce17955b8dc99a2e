"""Which Wasm instruction an operation of the expression language is, for each register kind.

Registers hold f32 (also f16 and bf16 values), f64, i64 (also u64) or i32 (every smaller type, extended
as its signedness says; bool is 0 or 1). A vector statement holds the 32-bit kinds four wide in a v128,
bool as a mask of all ones or zeros.
"""

from __future__ import annotations

from nnjit.codegen.dtypes import SIZES


def kind(dtype: str) -> str:
    """The scalar value type a `dtype` is computed in."""
    if dtype in ("f32", "f16", "bf16"):
        return "f32"
    return dtype if dtype in ("f64",) else "i64" if dtype in ("i64", "u64") else "i32"


def _table(text: str) -> dict[tuple[str, str], str]:
    """Lines `op kinds suffix`: {(op, kind): "kind.suffix"}."""
    out = {}
    for line in text.split("\n"):
        if line.strip():
            name, kinds, suffix = line.split()
            for k in kinds.split(","):
                out[name, k] = f"{k}.{suffix}"
    return out


SCALAR = _table("""
add  f32,f64,i32,i64 add
sub  f32,f64,i32,i64 sub
mul  f32,f64,i32,i64 mul
div  f32,f64 div
min  f32,f64 min
max  f32,f64 max
neg  f32,f64 neg
abs  f32,f64 abs
sqrt f32,f64 sqrt
floor f32,f64 floor
ceil f32,f64 ceil
trunc f32,f64 trunc
round f32,f64 nearest
eq   f32,f64,i32,i64 eq
ne   f32,f64,i32,i64 ne
lt   f32,f64 lt
le   f32,f64 le
gt   f32,f64 gt
ge   f32,f64 ge
lt   i32,i64 lt_s
le   i32,i64 le_s
gt   i32,i64 gt_s
ge   i32,i64 ge_s
band i32,i64 and
bor  i32,i64 or
bxor i32,i64 xor
shl  i32,i64 shl
shr  i32,i64 shr_s
idiv i32,i64 div_s
irem i32,i64 rem_s
and  i32 and
or   i32 or
xor  i32 xor
""")

UNSIGNED_SCALAR = _table("""
lt   i32,i64 lt_u
le   i32,i64 le_u
gt   i32,i64 gt_u
ge   i32,i64 ge_u
shr  i32,i64 shr_u
idiv i32,i64 div_u
irem i32,i64 rem_u
""")
"""What differs for u32 and u64 (smaller unsigned types are zero-extended, so signed instructions serve)."""

VECTOR = {
    **{(n, "f32"): f"f32x4.{n}" for n in
       "add sub mul div min max pmin pmax neg abs sqrt floor ceil trunc eq ne lt le gt ge".split()},
    ("round", "f32"): "f32x4.nearest",
    **{(n, "i32"): f"i32x4.{n}" for n in "add sub mul neg abs eq ne".split()},
    **{(n, "i32"): f"i32x4.{n}_s" for n in "min max lt le gt ge".split()},
    ("band", "i32"): "v128.and", ("bor", "i32"): "v128.or", ("bxor", "i32"): "v128.xor",
    ("bnot", "i32"): "v128.not",
    ("and", "bool"): "v128.and", ("or", "bool"): "v128.or", ("xor", "bool"): "v128.xor",
    ("not", "bool"): "v128.not", ("eq", "bool"): "i32x4.eq", ("ne", "bool"): "v128.xor",
}  # fmt: skip

UNSIGNED_VECTOR = {(n, "i32"): f"i32x4.{n}_u" for n in "min max lt le gt ge".split()}

LOADS = {
    "f32": "f32.load", "f64": "f64.load", "i64": "i64.load", "u64": "i64.load", "i32": "i32.load", "u32": "i32.load",
    "i16": "i32.load16_s", "u16": "i32.load16_u", "i8": "i32.load8_s", "u8": "i32.load8_u", "bool": "i32.load8_u",
}  # fmt: skip
STORES = {
    "f32": "f32.store", "f64": "f64.store", "i64": "i64.store", "u64": "i64.store",
    "i32": "i32.store", "u32": "i32.store", "i16": "i32.store16", "u16": "i32.store16",
    "i8": "i32.store8", "u8": "i32.store8", "bool": "i32.store8",
}  # fmt: skip


def scalar_op(name: str, dtype: str) -> str | None:
    k = kind(dtype)
    if dtype in ("u32", "u64") and (name, k) in UNSIGNED_SCALAR:
        return UNSIGNED_SCALAR[name, k]
    return SCALAR.get((name, k))


def vector_op(name: str, dtype: str) -> str | None:
    k = "bool" if dtype == "bool" else kind(dtype)
    if dtype == "u32" and (name, k) in UNSIGNED_VECTOR:
        return UNSIGNED_VECTOR[name, k]
    return VECTOR.get((name, k))


def narrow(dtype: str) -> tuple[int, bool] | None:
    """(bits, signed) of an integer type held in a wider register; None where the register fits."""
    if dtype in ("i8", "u8", "i16", "u16"):
        return SIZES[dtype] * 8, dtype[0] == "i"
    return None
