"""Floats to integers as kernels have them, on numpy arrays: what numpy makes of numbers that an integer cannot hold
differs from processor to processor, and so between the page and CPython."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import dtypes
from .dtypes import Array


def converted(x: Array, to: Any) -> Array:
    """x as numpy type `to`. Floats become integers of 32 or 64 bits: cut off, the nearest end of the type, 0 for NaN;
    narrower ones are the low bits of i32. Of u32, negative numbers are an i32's bits, f64 the low bits of an i64."""
    to = np.dtype(to)
    if x.dtype.kind != "f" or to.kind not in "iu":
        return x.astype(to)
    if to == np.uint32:
        if x.dtype == np.float64:
            return _held(x, np.int64).astype(to)
        return np.where(x < 0, _held(x, np.int32).astype(to), _held(x, np.uint32))
    return _held(x, to if to.itemsize >= 4 else np.int32).astype(to)


def _held(x: Array, to: Any) -> Array:
    """x cut off and held to the ends of an integer type, 0 for NaN."""
    ends = np.iinfo(to)
    numbers = np.where(np.isnan(x), 0, x).astype(np.float64)
    above = numbers >= float(ends.max)  # as a float the end of 64 bits is one more than itself
    inside = np.where(above, 0, np.maximum(numbers, float(ends.min)))
    return np.where(above, ends.max, inside.astype(to)).astype(to)


def spread(scale: Array, shape: tuple[int, ...], attrs: Mapping[str, Any]) -> Array:
    """Scale or zero point in a shape that broadcasts: one, one a slice of `axis`, or one a block of it."""
    if scale.size == 1:
        return scale.reshape(())
    axis, block = attrs.get("axis", 1) % len(shape), attrs.get("block_size", 0)
    if block:
        return np.repeat(scale, block, axis).take(range(shape[axis]), axis)
    return scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def quantized(scaled: Array, zero: Any, dtype: str) -> Array:
    """x / scale rounded half to even, plus the zero point, held to the range of an integer type; NaN is its least."""
    width = dtypes.BITS[dtype]
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if dtype[0] == "i" else (0, (1 << width) - 1)
    whole = np.rint(scaled) + np.asarray(zero).astype(np.float32)
    return np.where(np.isnan(whole), low, np.clip(whole, low, high)).astype(np.int64)
