"""Element types: the short names used everywhere in Python, their sizes and numpy counterparts."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES: dict[str, int] = {
    "f64": 8, "i64": 8, "u64": 8,
    "f32": 4, "i32": 4, "u32": 4,
    "f16": 2, "bf16": 2, "i16": 2, "u16": 2,
    "i8": 1, "u8": 1, "bool": 1,
}  # fmt: skip
"""Bytes of an element in memory, for the types that generated kernels can hold."""

NUMPY: dict[str, Any] = {
    "f64": np.float64, "i64": np.int64, "u64": np.uint64,
    "f32": np.float32, "i32": np.int32, "u32": np.uint32,
    "f16": np.float16, "i16": np.int16, "u16": np.uint16,
    "i8": np.int8, "u8": np.uint8, "bool": np.bool_, "bf16": np.uint16,
}  # fmt: skip
"""The numpy type whose buffer has the same bytes (bf16 travels as its 16 bits)."""

FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
SIGNED = frozenset({"i8", "i16", "i32", "i64"})
UNSIGNED = frozenset({"u8", "u16", "u32", "u64"})
INTS = SIGNED | UNSIGNED
WIDE = frozenset({"f64", "i64", "u64"})
"""Types of 64 bits: two to a v128, so loops over them are not vectorised four wide."""

LIMITS: dict[str, tuple[int, int]] = {
    name: ((-(1 << bits - 1), (1 << bits - 1) - 1) if name[0] == "i" else (0, (1 << bits) - 1))
    for name, bits in ((t, SIZES[t] * 8) for t in sorted(INTS))
}
"""Smallest and largest value of each integer type."""
