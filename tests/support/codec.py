"""ONNX values (tensors of any type, sequences, optionals) to JSON plus one block of bytes, and back.

`Packer.add(value)` gives the JSON description of a numpy array, list or None and collects the bytes, in the
layout of ONNX's raw_data; `unpack(description, blob)` gives the value again. values.js does it on the page.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import numpy_helper

Value = Any  # np.ndarray | list[Value] | None

# The API's type names, as in onnxruntime-web, by numpy's.
NAMES = {
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float8_e8m0fnu": "float8e8m0",
    "float4_e2m1fn": "float4e2m1",
    "object": "string",
}
NUMPY = {name: numpy for numpy, name in NAMES.items()}
BITS = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}


def numpy_dtype(name: str) -> np.dtype[Any]:
    numpy_name = NUMPY.get(name, name)
    return np.dtype(getattr(ml_dtypes, numpy_name, numpy_name))


def type_name(array: np.ndarray) -> str:
    if array.dtype.kind in "US":
        return "string"
    return NAMES.get(array.dtype.name, array.dtype.name)


def pack_bits(codes: np.ndarray, bits: int) -> bytes:
    """One code a byte to `bits` a code, the first in the lowest bits, the last byte filled with 0."""
    per_byte = 8 // bits
    codes = codes.reshape(-1) & ((1 << bits) - 1)
    codes = np.pad(codes, (0, -len(codes) % per_byte)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    return np.bitwise_or.reduce(codes << shifts, axis=1).astype(np.uint8).tobytes()


def unpack_bits(data: bytes, bits: int, count: int, signed: bool) -> np.ndarray:
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    codes = (np.frombuffer(data, np.uint8)[:, None] >> shifts) & ((1 << bits) - 1)
    flat = codes.reshape(-1)[:count].astype(np.uint8)
    if signed:
        flat = np.where(flat >> (bits - 1), flat.astype(np.int8) - (1 << bits), flat.astype(np.int8)).astype(
            np.int8
        )
    return flat


class Packer:
    """Collects the bytes of values; each tensor starts at a multiple of 16."""

    def __init__(self) -> None:
        self.blob = bytearray()

    def add_bytes(self, data: bytes) -> dict[str, int]:
        self.blob.extend(bytes(-len(self.blob) % 16))
        offset = len(self.blob)
        self.blob.extend(data)
        return {"offset": offset, "length": len(data)}

    def add(self, value: Value) -> dict[str, Any]:
        if value is None:
            return {"kind": "none"}
        if isinstance(value, list):
            return {"kind": "sequence", "items": [self.add(item) for item in value]}
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        array = np.asarray(value)
        name = type_name(array)
        head: dict[str, Any] = {"kind": "tensor", "type": name, "dims": list(array.shape)}
        if name == "string":
            return {**head, "strings": [as_text(s) for s in array.reshape(-1)]}
        return {**head, **self.add_bytes(raw(array, name))}


def as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def raw(array: np.ndarray, name: str) -> bytes:
    if name not in BITS:
        return np.ascontiguousarray(array).tobytes()
    # ml_dtypes keeps one element a byte: integers by value, floats by code.
    codes = array.astype(np.int8) if name.startswith(("int", "uint")) else array.copy()
    return pack_bits(codes.reshape(-1).view(np.uint8), BITS[name])


def unpack(head: dict[str, Any], blob: bytes | memoryview) -> Value:
    if head["kind"] == "none":
        return None
    if head["kind"] == "sequence":
        return [unpack(item, blob) for item in head["items"]]
    name, dims = head["type"], tuple(head["dims"])
    if name == "string":
        strings = np.empty(len(head["strings"]), dtype=object)
        strings[:] = head["strings"]
        return strings.reshape(dims)
    data = bytes(blob[head["offset"] : head["offset"] + head["length"]])
    dtype = numpy_dtype(name)
    if name not in BITS:
        return np.frombuffer(data, dtype).reshape(dims)
    codes = unpack_bits(data, BITS[name], int(np.prod(dims, dtype=np.int64)), name.startswith("int"))
    return (codes.astype(dtype) if name.startswith(("int", "uint")) else codes.view(dtype)).reshape(dims)


def bundle(head: dict[str, Any], blob: bytes | bytearray) -> bytes:
    """For the page: length (4 bytes), JSON padded so that the blob starts at a multiple of 16, blob."""
    text = json.dumps(head).encode()
    text += b" " * (-(4 + len(text)) % 16)
    return struct.pack("<I", len(text)) + text + bytes(blob)
