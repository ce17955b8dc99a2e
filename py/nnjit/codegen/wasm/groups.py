"""Groups of small integers in vectors: their loads, and the instructions that multiply and sum them.

Which instruction a dot product of four bytes is depends on the engine: i32x4.relaxed_dot_i8x16_i7x16_add_s is specified
for a second operand of 0 to 127 only. `Target.dot` says what the engine makes of its eighth bit.
"""

from __future__ import annotations

from collections.abc import Callable

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.target import Target

BYTES = {"i8": 1, "u8": 1, "i16": 2}


def group_load(
    b: FunctionBuilder, group: str, memory: str, stride: int, place: Callable[[], int], relaxed: bool
) -> None:
    """Pushes four groups, `stride` bytes apart, of elements that have the type `memory` there.

    `place` pushes the address and returns the immediate offset; it is called once for each access."""
    element, count = GROUPS[group]
    size = BYTES[memory] * count
    widen = BYTES[memory] < BYTES[element]
    sign = (memory[0] == "i" and "s") or "u"
    if stride == size and widen:
        b.load(f"v128.load8x8_{sign}", offset=place(), align=1)
        return
    if stride == size:
        b.load("v128.load", offset=place(), align=1)
        return
    if stride == 0:
        b.load(f"v128.load{8 * size}_splat", offset=place(), align=1)
    elif stride > 0 and 3 * stride + size <= 16:
        _neighbours(b, size, stride, place, relaxed)
    else:
        _scattered(b, size, stride, place)
    if widen:
        b.op(f"i16x8.extend_low_i8x16_{sign}")


def _neighbours(b: FunctionBuilder, size: int, stride: int, place: Callable[[], int], relaxed: bool) -> None:
    """Groups that lie within 16 bytes, overlapping or not: one load, one shuffle. The order of the bytes is a value
    that all such loads share; an i8x16.shuffle would bring its own each time."""
    b.load("v128.load", offset=place(), align=1)
    order = [lane * stride + byte for lane in range(4) for byte in range(size)]
    b.v128_const(bytes(order + [0] * (16 - len(order))))
    b.op("i8x16.relaxed_swizzle" if relaxed else "i8x16.swizzle")


def _scattered(b: FunctionBuilder, size: int, stride: int, place: Callable[[], int]) -> None:
    at = place()
    address, vector = b.local("i32"), b.local("v128")
    b.i32_const(at)
    b.op("i32.add")
    b.set(address)
    b.v128_const(bytes(16))
    b.set(vector)
    for lane in range(4):
        b.get(address)
        b.i32_const(lane * stride)
        b.op("i32.add")
        b.get(vector)
        b.load_lane(f"v128.load{8 * size}_lane", lane, offset=0, align=1)
        b.set(vector)
    b.get(vector)
    b.release(address)
    b.release(vector)


def dot_order(left: str, right: str, target: Target) -> tuple[int, int]:
    """Which argument (0, 1) the instruction takes first, which second; UnsupportedExpr if it is not exact here."""
    if left == right == "i16x2" or (left == right == "i8x4" and target.dot == "s8"):
        return 0, 1
    if target.dot == "u8" and {left, right} == {"i8x4", "u8x4"}:
        return (0, 1) if left == "i8x4" else (1, 0)
    raise UnsupportedExpr(f"a dot product of {left} and {right} on this machine")


def dot(
    b: FunctionBuilder, group: str, push: Callable[[int], None], order: tuple[int, int], summed: bool
) -> None:
    """Pushes the dot products of the groups in each lane, plus a total: `push(i)` pushes argument i."""
    for i in order:
        push(i)
    if group == "i16x2":
        b.op("i32x4.dot_i16x8_s")
        if summed:
            push(2)
            b.op("i32x4.add")
        return
    if summed:
        push(2)
    else:
        b.v128_const(bytes(16))
    b.op("i32x4.relaxed_dot_i8x16_i7x16_add_s")
