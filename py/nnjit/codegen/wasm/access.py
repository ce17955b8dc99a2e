"""Vector loads and stores of every element type: contiguous, splat, strided, and the first few lanes only."""

from __future__ import annotations

from collections.abc import Callable

from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.ops import LOADS


def vector_load(b: FunctionBuilder, dtype: str, stride: int, place: Callable[[], int]) -> None:
    """Pushes four elements `stride` bytes apart as an i32x4 or f32x4 (bool: a mask).

    `place` pushes the address and returns the immediate offset; it is called once for each access."""
    size = {"f32": 4, "i32": 4, "u32": 4, "i16": 2, "u16": 2}.get(dtype, 1)
    if stride == 0:
        _splat(b, dtype, place)
    elif stride != size:
        _strided(b, dtype, stride, place)
    elif size == 4:
        at = place()
        b.load("v128.load", offset=at, align=4)
    elif size == 2:
        at = place()
        b.load("v128.load16x4_s" if dtype == "i16" else "v128.load16x4_u", offset=at, align=2)
    else:
        sign = "s" if dtype == "i8" else "u"
        at = place()
        b.load("v128.load32_zero", offset=at, align=1)
        b.op(f"i16x8.extend_low_i8x16_{sign}")
        b.op(f"i32x4.extend_low_i16x8_{sign}")
        if dtype == "bool":
            _mask(b)


def _mask(b: FunctionBuilder) -> None:
    b.vec_const("i32x4", 0)
    b.op("i32x4.ne")


def _splat(b: FunctionBuilder, dtype: str, place: Callable[[], int]) -> None:
    at = place()
    if dtype in ("f32", "i32", "u32"):
        b.load("v128.load32_splat", offset=at)
        return
    b.load(LOADS[dtype], offset=at)
    b.op("i32x4.splat")
    if dtype == "bool":
        _mask(b)


def _reach(b: FunctionBuilder, address: int, offset: int) -> int:
    """Pushes an address and returns the immediate that leads from it to `offset`: none is below 0."""
    b.get(address)
    if offset >= 0:
        return offset
    b.i32_const(offset)
    b.op("i32.add")
    return 0


def _strided(b: FunctionBuilder, dtype: str, stride: int, place: Callable[[], int]) -> None:
    at = place()
    address = b.local("i32")
    if at + min(0, 3 * stride) < 0:  # immediates are unsigned: a backward run starts from its own address
        b.i32_const(at)
        b.op("i32.add")
        at = 0
    b.set(address)
    vector = b.local("v128")
    for lane in range(4):
        offset = _reach(b, address, at + lane * stride)
        if dtype not in ("f32", "i32", "u32"):
            b.load(LOADS[dtype], offset=offset)
            if lane == 0:
                b.op("i32x4.splat")
            else:
                word = b.local("i32")
                b.set(word)
                b.get(vector)
                b.get(word)
                b.lane("i32x4.replace_lane", lane)
                b.release(word)
        elif lane == 0:
            b.load("v128.load32_zero", offset=offset)
        else:
            b.get(vector)
            b.load_lane("v128.load32_lane", lane, offset=offset)
        b.set(vector)
    b.get(vector)
    b.release(vector)
    b.release(address)
    if dtype == "bool":
        _mask(b)


def store_vector(
    b: FunctionBuilder, dtype: str, value: int, at: int, count: int, stride: int, first: int = 0
) -> None:
    """Stores `count` lanes of the local `value` from `first` on (0 for more than one); the address is on the stack,
    `stride` bytes between lanes."""
    size = {"f32": 4, "i32": 4, "u32": 4, "i16": 2, "u16": 2}.get(dtype, 1)
    if dtype == "bool":
        b.get(value)
        b.vec_const("i32x4", 1)
        b.op("v128.and")
        b.set(value)
    if stride == size and size == 4 and count == 4:
        b.get(value)
        b.store("v128.store", offset=at, align=4)
        return
    if stride == size and size < 4 and count == 4:
        # registers hold a small type's own values, or for a byte any that are to be held to its range; the first of its
        # two packs is a signed one, since the second takes its operand to be signed
        sign = "s" if dtype[0] == "i" else "u"
        b.get(value)
        b.get(value)
        b.op(f"i16x8.narrow_i32x4_{'s' if size == 1 else sign}")
        if size == 1:
            b.set(value)
            b.get(value)
            b.get(value)
            b.op(f"i8x16.narrow_i16x8_{sign}")
        b.store_lane(f"v128.store{32 * size}_lane", 0, offset=at, align=size)
        return
    address = b.local("i32")
    b.set(address)
    lane = 0
    while lane < count:
        offset = _reach(b, address, at + lane * stride)
        b.get(value)
        if stride == 4 and size == 4 and lane == 0 and count >= 2:
            b.store_lane("v128.store64_lane", 0, offset=offset, align=4)
            lane += 2
            continue
        b.store_lane(f"v128.store{8 * size}_lane", (first + lane) * (4 // size), offset=offset)
        lane += 1
    b.release(address)


def store_widened(
    b: FunctionBuilder, source: str, value: int, at: int, count: int, stride: int, first: int = 0
) -> None:
    """Stores lanes of the local `value`, i32s of the type `source`, as 64-bit integers: as `store_vector` does."""
    sign = "u" if source == "u32" else "s"
    if source == "bool":
        b.get(value)
        b.vec_const("i32x4", 1)
        b.op("v128.and")
        b.set(value)
    address = b.local("i32")
    b.set(address)
    if stride == 8 and count == 4 and at >= 0:
        for half, offset in (("low", at), ("high", at + 16)):
            b.get(address)
            b.get(value)
            b.op(f"i64x2.extend_{half}_i32x4_{sign}")
            b.store("v128.store", offset=offset, align=8)
        b.release(address)
        return
    for lane in range(count):
        b.get(address)
        if at + lane * stride < 0:
            b.i32_const(at + lane * stride)
            b.op("i32.add")
        b.get(value)
        b.lane("i32x4.extract_lane", first + lane)
        b.op(f"i64.extend_i32_{sign}")
        b.store("i64.store", offset=max(0, at + lane * stride))
    b.release(address)
