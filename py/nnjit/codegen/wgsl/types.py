"""Element types in WGSL: which type a value has in a register and in a storage buffer, and constants as text.

f32, i32, u32 are themselves. bool is a u32 of 0 or 1 in a buffer. i64 is a pair of i32 (low word first), enough to
read indices and to write them; it has no arithmetic. Everything else is unsupported.
"""

from __future__ import annotations

import math

import numpy as np

from nnjit.codegen.expr import UnsupportedExpr

SCALARS = {"f32": "f32", "i32": "i32", "u32": "u32", "bool": "bool", "i64": "vec2i"}
VECTORS = {"f32": "vec4f", "i32": "vec4i", "u32": "vec4u", "bool": "vec4<bool>"}
STORED = {"f32": "f32", "i32": "i32", "u32": "u32", "bool": "u32", "i64": "vec2i"}
STORED_BYTES = {"f32": 4, "i32": 4, "u32": 4, "bool": 4, "i64": 8}

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
"""Functions that a shader gets if it calls them."""


def register_type(dtype: str, lanes: int) -> str:
    """The type of a value in a statement of `lanes` lanes."""
    found = (VECTORS if lanes > 1 else SCALARS).get(dtype)
    if found is None:
        raise UnsupportedExpr(f"{dtype} in {'vectors' if lanes > 1 else 'WGSL'}")
    return found


def stored_type(dtype: str) -> str:
    """The element type of a storage buffer."""
    if dtype not in STORED:
        raise UnsupportedExpr(f"a buffer of {dtype} in WGSL")
    return STORED[dtype]


def literal(value: float | int | bool, dtype: str) -> str:
    """A scalar constant."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "f32":
        return _float(float(value))
    if dtype == "u32":
        return f"{int(value) & 0xFFFFFFFF}u"
    if dtype == "i32":
        # the literal of the smallest value would be minus a literal that is too large
        return f"{int(value)}i" if value != -(2**31) else "i32(-2147483648)"
    if dtype == "i64":
        low = (int(value) & 0xFFFFFFFF) - ((int(value) & 0x80000000) << 1)
        return f"vec2i({low}, {int(value) >> 32})"
    raise UnsupportedExpr(f"a constant of {dtype} in WGSL")


def _float(value: float) -> str:
    if math.isnan(value):
        return "not_a_number()"
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if np.isinf(single):
        return "infinity()" if single > 0 else "-infinity()"
    return f"{single!s}f"
