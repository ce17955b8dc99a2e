"""Element types at the border: the API's names (float32, int64, …) to and from the short ones.

Takes and gives raw little-endian bytes, the form in which a tensor crosses between Python and JavaScript.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, FeedError
from ..graph import dtypes
from ..graph.dtypes import Array

# JavaScript says what onnxruntime-web says; kinds without a short name are called the same everywhere.
_NAMES = {
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f64": "float64",
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "u32": "uint32",
    "i64": "int64",
    "u64": "uint64",
    "c64": "complex64",
    "c128": "complex128",
}
_SHORT = {name: short for short, name in _NAMES.items()}


def api_name(short: str) -> str:
    """`f32` → `float32`; `int4`, `bool`, `string`, `sequence` stay."""
    return _NAMES.get(short, short)


def short_name(name: str) -> str:
    """`float32` → `f32`. DTypeError for a type ONNX does not have."""
    short = _SHORT.get(name, name)
    if short not in dtypes.TO_ONNX:
        raise DTypeError(f"{name!r} is not a tensor type", got=name)
    return short


def from_bytes(name: str, data: bytes, dims: Sequence[int]) -> Array:
    """Array of raw bytes in the layout of ONNX's raw_data. FeedError when the length does not fit."""
    short = short_name(name)
    shape = tuple(dims)
    count = int(np.prod(shape, dtype=np.int64))
    expected = dtypes.nbytes(short, count)
    if len(data) != expected:
        raise FeedError(
            f"{name} of {list(shape)} takes {expected} bytes, {len(data)} came",
            expected=expected,
            got=len(data),
        )
    return dtypes.from_raw(data, short, shape)


def to_bytes(array: Array, short: str) -> bytes:
    """Raw bytes of an array of element type `short`; not for strings."""
    return dtypes.to_raw(array, short)


def strings(values: Sequence[str], dims: Sequence[int]) -> Array:
    """A string tensor as numpy holds it: an object array of str."""
    out: Array = np.empty(len(values), dtype=object)
    out[:] = list(values)
    return out.reshape(tuple(dims))


def type_of(value: Any) -> str:
    """Short element type of a value the reference gave: an array, a numpy scalar or a list of them."""
    if isinstance(value, list):
        return "sequence"
    if value is None:
        return "optional"
    if isinstance(value, dict):
        return "map"
    return dtypes.from_numpy(np.asarray(value).dtype)
