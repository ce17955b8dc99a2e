"""Element types in WGSL: which type a value has in a register and in a storage buffer, and constants as text.

f32, i32, u32 are themselves. A bool is a u32 of 0 or 1 in a buffer. i64 and u64 are pairs of i32, low word first;
their arithmetic is in `wide`. Narrow types are rewritten by `narrow` before anything is printed: an element takes four
bytes in a buffer, but f16 two where the device has it, and constants of 8 bits one, four to a u32. f64 is unsupported.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.spec import Operand

SCALARS = {
    "f32": "f32", "i32": "i32", "u32": "u32", "bool": "bool", "i64": "vec2i", "u64": "vec2i", "half": "f16",
    "i8x4": "i32",
}  # fmt: skip
VECTORS = {
    "f32": "vec4f",
    "i32": "vec4i",
    "u32": "vec4u",
    "bool": "vec4<bool>",
    "half": "vec4h",
    "i8x4": "vec4i",
}
STORED = {
    "f32": "f32", "i32": "i32", "u32": "u32", "bool": "u32", "i64": "vec2i", "u64": "vec2i",
    "i8": "i32", "i16": "i32", "u8": "u32", "u16": "u32", "bf16": "f32", "f16": "f32",
}  # fmt: skip
"""The element of a storage buffer by dtype; f16 is `f16` where the device has it."""
STORED_BYTES = {"f32": 4, "i32": 4, "u32": 4, "vec2i": 8, "f16": 2}

HELPERS = {
    "infinity": """fn infinity() -> f32 {
  // an expression of constants must not be infinite: the bits go through a variable
  var bits = 0x7f800000u;
  return bitcast<f32>(bits);
}
""",
    "not_a_number": """fn not_a_number() -> f32 {
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}
""",
}
"""Functions without parameters that a shader gets if it calls them."""


def register_type(dtype: str, lanes: int) -> str:
    """The type of a value in a statement of `lanes` lanes."""
    found = (VECTORS if lanes > 1 else SCALARS).get(dtype)
    if found is None:
        raise UnsupportedExpr(f"{dtype} in {'vectors' if lanes > 1 else 'WGSL'}")
    return found


def stored_type(dtype: str, half: bool = False) -> str:
    """The element type of a storage buffer; `half`: the device has f16."""
    if dtype not in STORED:
        raise UnsupportedExpr(f"a buffer of {dtype} in WGSL")
    return "f16" if half and dtype == "f16" else STORED[dtype]


def stored_bytes(dtype: str, half: bool = False) -> int:
    """Bytes of an element in a storage buffer."""
    return STORED_BYTES[stored_type(dtype, half)]


def stored_as(o: Operand, half: bool = False) -> str:
    """The element of an operand's buffer: "bytes" of those that lie four to a word."""
    return "bytes" if o.packed else stored_type(o.dtype, half)


def operand_bytes(o: Operand, half: bool = False) -> int:
    """Bytes of an operand, not rounded up to whole words."""
    return o.size * (1 if o.packed else stored_bytes(o.dtype, half))


def literal(value: float | int | bool, dtype: str) -> str:
    """A scalar constant."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "half":
        return f"{float(value)!r}h"
    if dtype == "f32":
        return _float(float(value), math.copysign(1.0, value))
    if dtype == "u32":
        return f"{int(value) & 0xFFFFFFFF}u"
    if dtype in ("i32", "i8x4"):
        # the literal of the smallest value would be minus a literal that is too large
        return f"{int(value)}i" if value != -(2**31) else "i32(-2147483648)"
    if dtype in ("i64", "u64"):
        words = [(int(value) >> s) & 0xFFFFFFFF for s in (0, 32)]
        low, high = (w - ((w & 0x80000000) << 1) for w in words)
        return f"vec2i({low}, {high})"
    raise UnsupportedExpr(f"a constant of {dtype} in WGSL")


@lru_cache(4096)
def _float(value: float, sign: float) -> str:
    """sign: tells 0.0 from -0.0, which are equal."""
    if math.isnan(value):
        return "not_a_number()"
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if np.isinf(single):
        return "infinity()" if single > 0 else "-infinity()"
    # numpy's shortest text of the largest numbers lies past them, and WGSL refuses it
    return f"{single!s}f" if abs(single) < 3.4e38 else f"{float(single)!r}f"
