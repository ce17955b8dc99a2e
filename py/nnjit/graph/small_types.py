"""bfloat16, fp8, fp6, fp4 and 4-, 2-bit integers by hand: numbers ↔ bit patterns, without ml_dtypes.

Where ml_dtypes cannot be had (its wheel for Pyodide is on one CDN only), numpy holds such values as
bits that it cannot calculate with. `decode` gives numbers, `encode` rounds numbers to nearest even.
Formats: the ONNX specification, "Float stored in 8 bits" and "4 bit integer types".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .dtypes import NUMPY, Array

# name: (exponent bits, mantissa bits, bias, what the extreme codes are)
_FLOATS: dict[str, tuple[int, int, int, str]] = {
    "float8e4m3fn": (4, 3, 7, "nan"),  # NaN is S.1111.111, no infinity
    "float8e4m3fnuz": (4, 3, 8, "uz"),  # NaN is 0x80, no infinity, no -0
    "float8e5m2": (5, 2, 15, "ieee"),
    "float8e5m2fnuz": (5, 2, 16, "uz"),
    "float6e2m3": (2, 3, 1, "finite"),
    "float6e3m2": (3, 2, 3, "finite"),
    "float4e2m1": (2, 1, 1, "finite"),
}
_INTS = {"int4": (4, True), "uint4": (4, False), "int2": (2, True), "uint2": (2, False)}
SMALL = frozenset({"bf16", "float8e8m0", *_FLOATS, *_INTS})


def bits_only(dtype: str) -> bool:
    """numpy holds this type as bits and cannot calculate with it: ml_dtypes is not there."""
    return dtype in SMALL and NUMPY[dtype].kind == "V" and NUMPY[dtype].fields is not None


def wide(dtype: str) -> str:
    """The type that `decode` gives: f32, or i8 and u8 for small integers."""
    if dtype in _INTS:
        return "i8" if _INTS[dtype][1] else "u8"
    return "f32" if dtype in SMALL else dtype


def bits(array: Array, dtype: str) -> Array:
    """The bit patterns as unsigned integers."""
    return np.ascontiguousarray(array).view(np.uint16 if dtype == "bf16" else np.uint8).reshape(array.shape)


def from_bits(patterns: Array, dtype: str) -> Array:
    """The array of the type's own numpy dtype."""
    plain = np.ascontiguousarray(patterns.astype(np.uint16 if dtype == "bf16" else np.uint8))
    return plain.view(NUMPY[dtype]).reshape(patterns.shape)


def decode(array: Array, dtype: str) -> Array:
    """Numbers of an array of a small type: f32, i8 or u8."""
    codes = bits(array, dtype)
    if dtype == "bf16":
        return (codes.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float8e8m0":
        with np.errstate(over="ignore"):
            powers = np.ldexp(np.float32(1), codes.astype(np.int32) - 127).astype(np.float32)
        return np.where(codes == 0xFF, np.float32(np.nan), powers)
    if dtype in _INTS:
        width, signed = _INTS[dtype]
        low = (codes & ((1 << width) - 1)).astype(np.int8)
        sign = 1 << (width - 1)
        return (low ^ sign) - np.int8(sign) if signed else low.astype(np.uint8)
    table = _table(dtype)
    return np.asarray(table[codes & (len(table) - 1)])


def encode(values: Array, dtype: str, saturate: bool = True, round_mode: str = "up") -> Array:
    """Numbers rounded to a small type; what is too large becomes the largest (`saturate`), NaN or infinity.

    `round_mode` (up, down, nearest) is for float8e8m0, which has powers of two only.
    """
    if dtype in _INTS:
        width, signed = _INTS[dtype]
        whole = np.trunc(values.astype(np.float64)).astype(np.int64)  # as a cast to an integer does
        return from_bits(whole & ((1 << width) - 1) if not signed else _narrow(whole, width), dtype)
    x = values.astype(np.float32)
    if dtype == "bf16":
        return from_bits(_bfloat16(x), dtype)
    if dtype == "float8e8m0":
        return from_bits(_powers(x, saturate, round_mode), dtype)
    return from_bits(_nearest(x, dtype, saturate), dtype)


def _narrow(whole: Array, width: int) -> Array:
    """Two's complement of `width` bits, sign-extended to a byte."""
    sign = 1 << (width - 1)
    return (((whole & ((1 << width) - 1)) ^ sign) - sign).astype(np.int8).view(np.uint8)


def _bfloat16(x: Array) -> Array:
    raw = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape).astype(np.uint64)
    rounded = (raw + 0x7FFF + ((raw >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (raw >> 16) | 0x40, rounded).astype(np.uint16)


def _powers(x: Array, saturate: bool, round_mode: str) -> Array:
    """The exponent field of f32, rounded by the mantissa; NaN and infinity are 0xFF."""
    raw = np.ascontiguousarray(x).view(np.uint32).reshape(x.shape)
    exponent, mantissa = ((raw >> 23) & 0xFF).astype(np.int32), raw & 0x7FFFFF
    half = 1 << 22
    up = {
        "up": mantissa > 0,
        "down": np.zeros(x.shape, bool),
        "nearest": (mantissa > half) | ((mantissa == half) & (exponent > 0)),
    }[round_mode]
    if saturate:
        up = up & (exponent != 0xFE)
    return np.where(exponent == 0xFF, 0xFF, exponent + up)


@cache
def _table(dtype: str) -> Array:
    """The number of every code."""
    e, m, bias, special = _FLOATS[dtype]
    count = 1 << (1 + e + m)
    codes = np.arange(count)
    exponent, mantissa = (codes >> m) & ((1 << e) - 1), codes & ((1 << m) - 1)
    normal = np.ldexp(1 + mantissa / (1 << m), exponent - bias)
    subnormal = np.ldexp(mantissa / (1 << m), 1 - bias)
    table = np.where(exponent == 0, subnormal, normal)
    table = np.where(codes >= count // 2, -table, table).astype(np.float32)
    top = exponent == (1 << e) - 1
    if special == "ieee":
        table[top & (mantissa == 0)] *= np.float32(np.inf)
        table[top & (mantissa > 0)] = np.nan
    elif special == "nan":
        table[top & (mantissa == (1 << m) - 1)] = np.nan
    elif special == "uz":
        table[count // 2] = np.nan
    return table


def _nearest(x: Array, dtype: str, saturate: bool) -> Array:
    e, m, _, special = _FLOATS[dtype]
    table, sign = _table(dtype), 1 << (e + m)
    grid = table[:sign]
    last = int(np.flatnonzero(np.isfinite(grid))[-1])
    grid = grid[: last + 1].astype(np.float64)
    size = np.abs(x.astype(np.float64))
    low = np.clip(np.searchsorted(grid, size, "right") - 1, 0, last)
    high = np.minimum(low + 1, last)
    to_low, to_high = size - grid[low], grid[high] - size
    code = np.where((to_high < to_low) | ((to_high == to_low) & (low % 2 == 1)), high, low)
    # Beyond the middle between the largest number and the next that would follow it.
    step = grid[last] - grid[last - 1]
    over = size >= grid[last] + step / 2 if last % 2 else size > grid[last] + step / 2
    over |= np.isinf(x)
    nan = {"ieee": sign - 1, "nan": sign - 1, "uz": sign, "finite": 0}[special]
    negative = np.signbit(x)
    result = np.where(negative, code | sign, code)
    if not saturate and special != "finite":
        infinity = (((1 << e) - 1) << m) if special == "ieee" else nan
        result = np.where(over, infinity | (sign * negative), result)
    if special == "uz":
        result = np.where((code == 0) & ~over, 0, result)
    return np.where(np.isnan(x), nan, result)
