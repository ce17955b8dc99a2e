"""Pieces of the binary format above single numbers: names, vectors, sections, types, limits, constants.

Everything returns bytes; module.py puts them in order, builder.py appends them to a function's code.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from .leb import ULEB, Prefixed
from .opcodes import OPS, TYPE_BYTE

MAGIC = b"\0asm\x01\0\0\0"
(CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT) = (
    range(13)
)

# What an import or export is.
EXTERN_FUNCTION, EXTERN_TABLE, EXTERN_MEMORY, EXTERN_GLOBAL = range(4)

END = b"\x0b"
EMPTY_BLOCK = 0x40
LOCAL_GET, LOCAL_SET, LOCAL_TEE = (Prefixed(OPS[f"local.{verb}"].code) for verb in ("get", "set", "tee"))
BR, BR_IF = Prefixed(OPS["br"].code), Prefixed(OPS["br_if"].code)

# struct formats of v128 constants by shape.
LANE_FORMAT = {
    "i8x16": "<16B",
    "i16x8": "<8H",
    "i32x4": "<4I",
    "i64x2": "<2Q",
    "f32x4": "<4f",
    "f64x2": "<2d",
}


def name(text: str) -> bytes:
    """A name: byte count and UTF-8."""
    data = text.encode()
    return ULEB[len(data)] + data


def vector(items: Sequence[bytes]) -> bytes:
    """A count, then the items."""
    return ULEB[len(items)] + b"".join(items)


def section(number: int, payload: bytes) -> bytes:
    """A section with its size."""
    return bytes((number,)) + ULEB[len(payload)] + payload


def type_bytes(types: Iterable[str]) -> bytes:
    """Value types by name, a byte each: ["i32", "v128"] -> 7f 7b."""
    return bytes([TYPE_BYTE[t] for t in types])


def function_type(params: bytes, results: bytes) -> bytes:
    """A type section entry."""
    return b"\x60" + ULEB[len(params)] + params + ULEB[len(results)] + results


def limits(minimum: int, maximum: int | None, shared: bool = False) -> bytes:
    """Limits of a memory (64 KiB pages) or a table (elements). A shared memory needs a maximum."""
    if shared and maximum is None:
        raise ValueError("a shared memory needs a maximum")
    if maximum is None:
        return b"\x00" + ULEB[minimum]
    return (b"\x03" if shared else b"\x01") + ULEB[minimum] + ULEB[maximum]


def local_groups(types: bytes | bytearray) -> bytes:
    """The local declarations of a function body: runs of equal types."""
    runs: list[tuple[int, int]] = []
    for ty in types:
        if runs and runs[-1][1] == ty:
            runs[-1] = (runs[-1][0] + 1, ty)
        else:
            runs.append((1, ty))
    return vector([ULEB[count] + bytes((ty,)) for count, ty in runs])


def lanes(shape: str, values: Sequence[float]) -> bytes:
    """The 16 bytes of a vector constant. One value fills all lanes; integers may be signed or unsigned."""
    layout = LANE_FORMAT[shape]
    count = int(layout[1:-1])
    if len(values) == 1:
        values = list(values) * count
    if shape[0] == "i":
        bits = 128 // count
        for value in values:
            if not -(1 << bits - 1) <= value < 1 << bits:
                raise ValueError(f"{value} does not fit a lane of {shape}")
        values = [int(value) & (1 << bits) - 1 for value in values]
    return struct.pack(layout, *values)
