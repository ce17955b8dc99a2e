"""Products of quantised tensors: the factors as dot instructions want them, and what mends the sum.

    sum (a - za)(b - zb)  =  sum a (b - zb)  -  za * sum (b - zb)

The second factor is shifted by its zero point ahead (a constant once, at load); the first is read as it lies. The
column sums of the second, times za, come off at the end. A convolution's border holds za, which stands for zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Expr, Index, acc, bitcast, cast, const, op
from nnjit.codegen.spec import Axis
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.registry import Computation, Unsupported

Border = tuple[Sequence[int], Sequence[int]]
"""Elements before and after each spatial dimension."""
NO_BORDER: Border = ((), ())
Rows = tuple[Sequence[Index], int]
"""An index whose last place counts rows (or columns), and how many there are."""


def known(v: Value | None) -> Any | None:
    """The array of a constant that is at hand; None for others, and for those still in the model's file."""
    return None if v is None or v.const is None else v.const.array


@dataclass(frozen=True, slots=True)
class Zero:
    """A zero point: `number` where it is one that is known, else that of tensor `value`; plus `shift`."""

    value: Value | None
    number: int | None
    shift: int = 0

    @staticmethod
    def of(v: Value | None) -> Zero:
        if v is None:
            return Zero(None, 0)
        array = known(v)
        same = array is not None and array.size > 0 and bool((array == array.flat[0]).all())
        return Zero(v, int(array.flat[0]) if same and array is not None else None)

    @property
    def nothing(self) -> bool:
        return self.number is not None and self.number + self.shift == 0

    def read(self, ctx: Context, row: Sequence[Index], size: int) -> Expr:
        """As an i32, for the last index of `row` where it differs from row (of `size`) to row."""
        if self.number is not None:
            return const(self.number + self.shift, "i32")
        x = cast(per_row(ctx, self.value, row, size), "i32")
        return op("add", x, const(self.shift, "i32")) if self.shift else x


def per_row(ctx: Context, v: Value | None, row: Sequence[Index], size: int) -> Expr:
    """A scale or zero point: one for all, or one for each of `size` rows (columns)."""
    assert v is not None
    shape = shape_of(v)
    if v.size == 1:
        return ctx.read(v, [Index()] * len(shape))
    if len(shape) == 1 and shape[0] == size:
        return ctx.read(v, [row[-1]])
    raise Unsupported(f"a scale or zero point of shape {shape}")


# ---- the first factor ----


def bytes_wanted(ctx: Context, first: str, second: str) -> str:
    """The type of the first factor with which four products are one instruction; its own if there is none."""
    machine = getattr(ctx.build.target, "dot", "")
    if machine == "u8" and second in ("i8", "u8"):
        return "u8" if second == "i8" else "i8"
    return "i8" if machine == "s8" and second == "i8" else first


def by_fours(ctx: Context, first: str, second: str) -> bool:
    """Whether WebAssembly's dot product of four bytes is exact for these two, the first as `bytes_wanted` has it."""
    target = ctx.build.target
    wanted = {"u8": {"i8", "u8"}, "s8": {"i8"}}.get(target.dot if isinstance(target, Target) else "")
    return {bytes_wanted(ctx, first, second), second} == wanted


def first_factor(
    ctx: Context, x: Value, zero: Zero, wanted: str, last: bool = False, border: Border = NO_BORDER
) -> tuple[Value, Zero]:
    """`x` as `wanted`: itself, or a copy with a border of zeros. `last`: channels are to lie side by side.

    i8 and u8 become each other by 128 more or less, in the elements and in the zero point alike."""
    shift = 0 if wanted == x.dtype else 128 if wanted == "u8" else -128
    zero = replace(zero, shift=zero.shift + shift)
    if not shift and not any((*border[0], *border[1])) and not (last and not channels_last(ctx, x)):
        return x, zero
    return copied(ctx, x, wanted, shift, zero, last, border), zero


def channels_last(ctx: Context, x: Value) -> bool:
    """Whether channels lie side by side."""
    return shape_of(x)[1] == 1 or ctx.tensors.place(x)[1].strides[1] == 1


def copied(
    ctx: Context, x: Value, dtype: str, shift: int | Zero, zero: Zero, last: bool, border: Border
) -> Value:
    """x + shift (or x - shift, a zero point) as `dtype`, `zero` being what stands for 0 in it."""
    build, shape = ctx.build, shape_of(x)
    lead = len(shape) - len(border[0])
    around = [(b, n, a) for b, n, a in zip(border[0], shape[lead:], border[1], strict=True)]
    wide = (*shape[:lead], *(b + n + a for b, n, a in around))
    made = Value(f"{x.name}/{dtype}", dtype, wide)
    layout = Layout.channels_last(wide) if last else Layout.row_major(wide)
    inner = type(ctx)(build)
    axes, idx = inner.axes(wide)
    at, bounds = list(idx[:lead]), []
    for place, (b, n, a) in zip(idx[lead:], around, strict=True):
        at.append(place + (-b))
        if b or a:
            bounds.append((at[-1], n))
    unshifted = replace(zero, shift=zero.shift - (shift if isinstance(shift, int) else 0))
    fill = _as(unshifted.read(inner, [Index()], 1), x.dtype) if bounds else const(0, x.dtype)
    value = inner.read_padded(x, at, bounds, fill) if bounds else inner.read(x, at)
    if isinstance(shift, Zero):
        value = op("sub", cast(value, "i32"), shift.read(inner, [Index()], 1))
    elif shift:
        value = op("add", cast(value, "i32"), const(shift, "i32"))
    buffer = build.buffer(made, layout, x.once)
    nodes = [x.producer] if x.producer else []
    name = "border" if bounds else "signed" if shift else "reordered"
    build.emit(
        inner, Computation(axes, idx, _as(value, dtype), name=name), dtype, buffer, layout, nodes, x.once
    )
    return made


def centred(ctx: Context, x: Value, zero: Zero, dtype: str, last: bool, border: Border) -> Value:
    """x - zero as `dtype`, with zeros around: what a depthwise convolution reads, each of its taps a lane's own."""
    return copied(ctx, x, dtype, zero, zero, last, border)


def _as(e: Expr, dtype: str) -> Expr:
    return const(int(e.attr), dtype) if e.op == "const" else cast(e, dtype)


# ---- the second factor ----


def second_factor(ctx: Context, w: Value, zero: Zero, axis: int) -> Value:
    """w - zero, its zero points along `axis`: `w` itself if they are 0; i8 where that holds every value, else i16."""
    if zero.nothing:
        return w
    low, high = LIMITS[w.dtype]
    fits = zero.number is not None and low - zero.number >= -128 and high - zero.number <= 127
    dtype = "i8" if fits else "i16"
    build, shape = ctx.build, shape_of(w)
    made, layout = Value(f"{w.name}/{dtype}", dtype, shape), Layout.row_major(shape)
    inner = type(ctx)(build)
    axes, idx = inner.axes(shape)
    once = w.once and (zero.value is None or zero.value.once)
    value = op("sub", cast(inner.read(w, idx), "i32"), zero.read(inner, [idx[axis]], shape[axis]))
    buffer = build.buffer(made, layout, once)
    c = Computation(axes, idx, cast(value, dtype), name="shifted")
    build.emit(inner, c, dtype, buffer, layout, [w.producer] if w.producer else [], once)
    return made


def sums(ctx: Context, w: Value, kept: Sequence[int]) -> Value:
    """The sums of `w` over all dimensions but `kept`, as i32."""
    build, shape = ctx.build, shape_of(w)
    out = tuple(shape[d] for d in kept)
    made, layout = Value(f"{w.name}/sum", "i32", out), Layout.row_major(out)
    inner = type(ctx)(build)
    reduce = [Axis(f"r{d}", n) for d, n in enumerate(shape) if d not in kept]
    axes, idx = inner.axes(out)
    at = [idx[list(kept).index(d)] if d in kept else Index.of(f"r{d}") for d in range(len(shape))]
    body = cast(inner.read(w, at), "i32")
    once = bool(w.once or build.tensors.place(w)[0].constant)
    c = Computation(axes, idx, acc("i32"), reduce=reduce, combine="sum", body=body, name="sums")
    buffer = build.buffer(made, layout, once)
    build.emit(inner, c, "i32", buffer, layout, [w.producer] if w.producer else [], once)
    return made


# ---- the result ----


ROUNDED = 2.0**22
"""Up to which size `rounded` is right."""


def rounded(x: Expr, more: int = 0) -> Expr:
    """An f32 of at most 2^22 as the nearest i32, half to even, plus `more`: with 1.5 * 2^23 added, its low bits are the
    number."""
    return op("sub", bitcast(op("add", x, const(12582912.0, "f32")), "i32"), const(0x4B400000 - more, "i32"))


def most(terms: int, bias: Value | None = None) -> float:
    """How large a sum of so many products of differences of bytes can be, with a bias; an i32 at most."""
    array = known(bias)
    if bias is None or bias.size == 0:
        beside = 0.0
    else:
        beside = inf if array is None else float(np.abs(array.astype(np.float64)).max())
    return min(2.0**31, terms * 255.0 * 255.0 + beside)


def small(largest: float, scales: Sequence[Value | None]) -> bool:
    """Whether numbers up to `largest`, times a_scale * b_scale / y_scale, can be rounded so, as far as is known."""
    arrays = [known(s) for s in scales]
    if any(a is None or not a.size for a in arrays):
        return False
    a, b, y = (np.asarray(x, np.float64).reshape(-1) for x in arrays)
    with np.errstate(all="ignore"):
        ratio = np.abs(a).max() * np.abs(b).max() / np.abs(y).min()
    return bool(ratio * largest < ROUNDED * (1 - 1e-6))


def multiplier(ctx: Context, node: Node, scales: Sequence[Value | None], rows: Sequence[Rows]) -> Expr:
    """a_scale * b_scale / y_scale in f32; computed here if the scales are at hand, one for all or one a row."""
    arrays = [known(s) for s in scales]
    last = [i for i, s in enumerate(scales) if s is not None and s.size != 1]
    if all(a is not None for a in arrays) and len(last) <= 1:
        flat = [np.asarray(a, np.float32).reshape(-1) for a in arrays]
        with np.errstate(all="ignore"):
            ratio = (flat[0] * flat[1]) / flat[2]
        if ratio.size == 1 or (ratio == ratio[0]).all():
            return const(float(ratio[0]), "f32")
        row, size = rows[last[0]]
        return per_row(ctx, Value.constant(f"{node.outputs[0].name}/multiplier", ratio), row, size)
    a, b, y = (cast(per_row(ctx, s, *r), "f32") for s, r in zip(scales, rows, strict=True))
    return op("div", op("mul", a, b), y)
