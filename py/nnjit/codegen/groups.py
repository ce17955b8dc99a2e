"""Groups: two i16 or four 8-bit integers side by side in one 32-bit lane, and what a dot product of them is.

A load of a group type reads that many neighbouring elements of its operand (16-bit ones may be 8 bits in memory). The
interpreter holds a group as the 32 bits a lane has, first element lowest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

GROUPS: dict[str, tuple[str, int]] = {"i16x2": ("i16", 2), "i8x4": ("i8", 4), "u8x4": ("u8", 4)}
"""Group type -> (the type of its elements in a register, how many)."""
_NUMPY: dict[str, Any] = {"i16": np.int16, "i8": np.int8, "u8": np.uint8}


def group_of(dtype: str, count: int) -> str:
    """The group type that `count` elements of a memory type are held in; '' if there is none."""
    name = "i16x2" if count == 2 else f"{dtype}x{count}"
    fits = dtype in ("i8", "u8", "i16") if count == 2 else True
    return name if fits and name in GROUPS else ""


def grouped(elements: Array, group: str) -> Array:
    """[lanes, count] integers -> [lanes] words of a group."""
    element, _ = GROUPS[group]
    return np.ascontiguousarray(elements.astype(_NUMPY[element])).view(np.int32).reshape(-1)


def elements(words: Array, group: str) -> Array:
    """[lanes] words of a group -> [lanes, count] integers of 64 bits."""
    element, count = GROUPS[group]
    raw = np.ascontiguousarray(words, np.int32).view(_NUMPY[element])
    return raw.reshape(-1, count).astype(np.int64)


def dot(x: Array, left: str, y: Array, right: str, total: Array | None = None) -> Array:
    """`total` + the sum of products of the elements of each lane, modulo 2^32 as i32 arithmetic is."""
    found = (elements(x, left) * elements(y, right)).sum(axis=1)
    if total is not None:
        found = found + total
    return found.astype(np.int32)
