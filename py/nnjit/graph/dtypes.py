"""Element types: short names (f32, i64, …) to and from ONNX enum values and numpy dtypes.

fp8 and 4-bit kinds, which have no short name, keep their ONNX ones (float8e4m3fn, int4, …).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

_SHORT = {
    "float": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "double": "f64",
    "int8": "i8",
    "uint8": "u8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "uint64": "u64",
    "complex64": "c64",
    "complex128": "c128",
}
# Everything TensorProto.DataType has, by its number: new ONNX types come in under their own name.
FROM_ONNX: dict[int, str] = {
    number: _SHORT.get(name.lower(), name.lower())
    for name, number in onnx.TensorProto.DataType.items()
    if name != "UNDEFINED"
}
TO_ONNX: dict[str, int] = {name: number for number, name in FROM_ONNX.items()}
# The words of ONNX's own type strings, tensor(float) → f32.
FROM_TYPE_STR: dict[str, str] = {
    name.lower(): FROM_ONNX[number] for name, number in onnx.TensorProto.DataType.items() if number
}

NUMPY: dict[str, np.dtype[Any]] = {
    name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)) for name, number in TO_ONNX.items()
}
_FROM_NUMPY: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY.items()}

BITS: dict[str, int] = {name: dtype.itemsize * 8 for name, dtype in NUMPY.items()}
for _name in BITS:
    if _name.endswith("int4") or _name == "float4e2m1":
        BITS[_name] = 4
    elif _name.endswith("int2"):
        BITS[_name] = 2

FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
INTS = frozenset({"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"})
# Types of values that are not tensors; such values have shape None and live on the reference.
NOT_TENSORS = frozenset({"sequence", "optional", "map", "sparse"})


def from_numpy(dtype: np.dtype[Any]) -> str:
    """Short name of a numpy dtype. Any string or object dtype is 'string'."""
    found = _FROM_NUMPY.get(dtype)
    if found is not None:
        return found
    if dtype.kind in "USO":
        return "string"
    return _FROM_NUMPY[dtype.newbyteorder("=")]


def nbytes(dtype: str, count: int) -> int:
    """Bytes of `count` elements in ONNX's raw layout (sub-byte types are packed)."""
    return (count * BITS[dtype] + 7) // 8


def from_raw(raw: bytes, dtype: str, shape: tuple[int, ...]) -> Array:
    """Numpy array of ONNX raw bytes (row-major, little-endian, sub-byte types packed)."""
    if BITS[dtype] >= 8:
        return np.frombuffer(raw, NUMPY[dtype]).reshape(shape)
    tensor = onnx.TensorProto(data_type=TO_ONNX[dtype], dims=shape, raw_data=raw)
    return np.asarray(onnx.numpy_helper.to_array(tensor))


def to_raw(array: Array, dtype: str) -> bytes:
    """ONNX raw bytes of an array; strings have none (TypeError)."""
    if dtype == "string":
        raise TypeError("strings have no raw bytes")
    if BITS[dtype] >= 8:
        return np.ascontiguousarray(array).tobytes()
    return bytes(onnx.numpy_helper.from_array(np.ascontiguousarray(array)).raw_data)
