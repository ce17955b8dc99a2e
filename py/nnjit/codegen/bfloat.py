"""Half precision and bfloat16 as bit patterns (IEEE 754 binary16; bfloat16 = the upper half of an f32)."""

from __future__ import annotations

from typing import Any

import numpy as np


def bf16_bits(x: Any) -> Any:
    """f32 values to bfloat16 bits, round half to even, NaN kept quiet."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), 0x7FC0, rounded).astype(np.uint16)


def bf16_value(bits: Any) -> Any:
    """bfloat16 bits to f32 values."""
    return (np.asarray(bits, np.uint32) << 16).view(np.float32)
