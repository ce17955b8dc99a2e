"""Constant tensors: arrays in memory, ranges of the model's bytes that nobody has read yet, or several as one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from . import dtypes
from .dtypes import Array

Shape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes at `start` of file number `file` (0 is the model itself)."""

    file: int
    start: int
    length: int


class Const:
    """A constant tensor: an array in memory, a range of the model's bytes that nobody has read yet, or `parts`, one
    after the other.

    `shape` and `dtype` are always known. A lazy constant holds ONNX's raw layout: row-major,
    little-endian, sub-byte types packed.
    """

    __slots__ = ("_read", "array", "dtype", "parts", "range", "shape")

    def __init__(
        self,
        dtype: str,
        shape: Shape,
        array: Array | None = None,
        range: ByteRange | None = None,
        read: Callable[[ByteRange], bytes] | None = None,
    ) -> None:
        self.dtype, self.shape, self.array, self.range, self._read = dtype, shape, array, range, read
        self.parts: tuple[Const, ...] = ()

    @staticmethod
    def of(array: Array, dtype: str | None = None) -> Const:
        """A constant from a numpy array (not copied; do not write to it afterwards)."""
        return Const(dtype or dtypes.from_numpy(array.dtype), array.shape, array)

    @staticmethod
    def joined(parts: Sequence[Const], shape: Shape) -> Const:
        """The elements of constants of one type, one after the other, as `shape`: nothing is read, so what loads them
        reads each from where it lies. Not for sub-byte types."""
        one = Const(parts[0].dtype, shape)
        one.parts = tuple(parts)
        return one

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return dtypes.nbytes(self.dtype, self.size)

    @property
    def data(self) -> Hashable:
        """The same for constants that show the same data as the same type."""
        if self.parts:
            return tuple(part.data for part in self.parts)
        r = self.range
        return id(self.array) if r is None else (self.dtype, r.file, r.start, r.length)

    def numpy(self) -> Array:
        """The values as numpy; a lazy constant is read anew at each call and not kept."""
        if self.array is not None:
            return self.array
        return dtypes.from_raw(self.raw(), self.dtype, self.shape)

    def raw(self) -> bytes:
        """The values as ONNX raw bytes (row-major, little-endian, sub-byte types packed)."""
        if self.parts:
            return b"".join(part.raw() for part in self.parts)
        if self.array is None:
            assert self.range is not None and self._read is not None
            return self._read(self.range)
        return dtypes.to_raw(self.array, self.dtype)

    def reshaped(self, shape: Shape) -> Const:
        """The same elements under another shape; lazy stays lazy."""
        if self.array is not None:
            return Const(self.dtype, shape, self.array.reshape(shape))
        if self.parts:
            return Const.joined(self.parts, shape)
        return Const(self.dtype, shape, None, self.range, self._read)

    def as_bytes(self, shape: Shape) -> Const:
        """Its raw bytes as u8 of a shape that holds as many; lazy stays lazy."""
        if self.array is not None or self.parts:
            return Const.of(np.frombuffer(self.raw(), np.uint8).reshape(shape))
        return Const("u8", shape, None, self.range, self._read)

    def rows(self, start: int, count: int) -> Const:
        """Elements start to start + count of the first axis; lazy stays lazy. Not for sub-byte types."""
        shape = (count, *self.shape[1:])
        if self.array is not None or self.parts:
            return Const(self.dtype, shape, self.numpy()[start : start + count])
        assert self.range is not None
        row = dtypes.nbytes(self.dtype, prod(self.shape[1:]))
        part = ByteRange(self.range.file, self.range.start + start * row, count * row)
        return Const(self.dtype, shape, None, part, self._read)

    def __repr__(self) -> str:
        if self.parts:
            return f"Const({self.dtype}{list(self.shape)} of {len(self.parts)} parts)"
        place = f"@{self.range.file}:{self.range.start}" if self.range else ""
        return f"Const({self.dtype}{list(self.shape)}{place})"
