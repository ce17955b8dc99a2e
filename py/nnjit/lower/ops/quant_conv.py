"""Convolutions of integers with zero points: ConvInteger, and QLinearConv, which scales and quantises again.

How the sum runs decides how the input is read: over channels that lie side by side, over places of a row where channels
are few, or in each lane by itself where every channel has its own window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from nnjit.codegen.expr import Expr, Index, acc, cast, const, op
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.linear import SPATIAL, Window
from nnjit.lower.ops.quant import minus, requantized
from nnjit.lower.ops.quant_product import (
    Border,
    Rows,
    Zero,
    by_fours,
    bytes_wanted,
    centred,
    channels_last,
    copied,
    first_factor,
    most,
    multiplier,
    per_row,
    rounded,
    second_factor,
    sums,
)
from nnjit.lower.registry import Computation, Unsupported, computation

FOUR = 4
"""Bytes that a dot product takes in each lane."""
FEW_TAPS = 64
"""Products of two bytes whose sum is exact in f32 and below 2^22."""


@dataclass(frozen=True)
class _Input:
    """The first factor at each point of the sum, its zero point, the type of the sum, and how the output lies."""

    read: Expr
    zero: Zero
    sum: str
    layout: Layout
    by_row: bool = False
    """The sum runs fastest along the last spatial dimension, not along the channels."""


@computation("ConvInteger", "QLinearConv")
def conv_integer(ctx: Context, node: Node, out: int) -> Computation:
    """A convolution of x - x_zero with w - w_zero, the border being x_zero; QLinearConv adds an i32 bias,
    scales and quantises."""
    linear = node.op == "QLinearConv"
    x, w = node.inputs[0], node.inputs[3 if linear else 1]
    assert x is not None and w is not None
    x_zero, w_zero = (Zero.of(node.input(i)) for i in ((2, 5) if linear else (2, 3)))
    shape, kernel, y = shape_of(x), shape_of(w), shape_of(node.outputs[0])
    n, groups = len(kernel) - 2, int(node.attrs.get("group", 1))
    if not 1 <= n <= 3:
        raise Unsupported(f"{node.op} with {n} spatial dimensions")
    win, names = Window(node, shape[2:], kernel[2:], y[2:]), SPATIAL[3 - n :]
    per_in, per_out = kernel[1], kernel[0] // groups
    filters = Index(0, {"g": per_out, "o": 1})
    w = second_factor(ctx, w, w_zero, 0)
    if per_in == per_out == 1 and groups > 1:
        source, w = _own(ctx, x, x_zero, win, y, w)
    else:
        source = _shared(ctx, x, x_zero, win, y, per_in, groups, w.dtype)
    right = ctx.read(w, [filters, Index.of("i"), *(Index.of(f"k{a}") for a in names)])
    body = op("mul", cast(source.read, source.sum), cast(right, source.sum))
    value: Expr = acc("i32") if source.sum == "i32" else rounded(acc("f32"))
    bias = ctx.read(node.inputs[8], [filters]) if linear and node.input(8) is not None else None
    if not source.zero.nothing:
        column = ctx.read(sums(ctx, w, [0]), [filters])
        column = op("mul", minus(source.zero.read(ctx, [Index()], 1)), column)
        bias = column if bias is None else op("add", bias, column)
    if bias is not None:
        value = op("add", value, bias)
    if linear:
        at: list[Rows] = [([], 1), ([filters], kernel[0]), ([], 1)]
        scales = [node.inputs[i] for i in (1, 4, 6)]
        ratio = multiplier(ctx, node, scales, at)
        zero = per_row(ctx, node.inputs[7], [Index()], 1)
        largest = most(prod(kernel[1:]), node.input(8))
        value = requantized(ctx, value, ratio, zero, node.outputs[0].dtype, scales, largest)
    axes = [Axis("b", y[0]), Axis("g", groups), Axis("o", per_out)]
    axes += [Axis(f"o{a}", e) for a, e in zip(names, y[2:], strict=True)]
    reduce = [Axis(f"k{a}", e) for a, e in zip(names, shape_of(w)[2:], strict=True)]
    reduce = [Axis("i", per_in), *reduce] if source.by_row else [*reduce, Axis("i", per_in)]
    idx = [Index.of("b"), filters, *(Index.of(f"o{a}") for a in names)]
    return Computation(
        axes, idx, value, reduce=reduce, combine="sum", body=body, layout=source.layout, name=node.op.lower(),
    )  # fmt: skip


def _shared(
    ctx: Context, x: Value, zero: Zero, win: Window, y: Sequence[int], per_in: int, groups: int, second: str
) -> _Input:
    """Groups of several channels: neighbours along the sum must lie next to each other, for dot products."""
    taps = win.kernel[-1]
    by_row = not channels_last(ctx, x) and groups == 1 and win.dilations[-1] == 1
    by_row = by_row and per_in * -(-taps // 4) <= taps * -(-per_in // 4)
    border = _border(win)
    x, zero = first_factor(ctx, x, zero, bytes_wanted(ctx, x.dtype, second), not by_row, border)
    read = ctx.read(x, _place(win, per_in, border))
    return _Input(read, zero, "i32", Layout.channels_last(y), by_row)


def _own(ctx: Context, x: Value, zero: Zero, win: Window, y: Sequence[int], w: Value) -> tuple[_Input, Value]:
    """Depthwise, each lane is a sum of its own: four taps at a time where lanes are neighbours of a row, else in
    floats, which have a fused multiply-add. The window comes back as it is to be read."""
    if by_fours(ctx, x.dtype, w.dtype) and not channels_last(ctx, x) and _overlap(win, y):
        return _in_fours(ctx, x, zero, win, y, w)
    return _in_floats(ctx, x, zero, win, y), w


def _overlap(win: Window, y: Sequence[int]) -> bool:
    """Whether four lanes along a row read four neighbours each within 16 bytes."""
    return y[-1] >= LANES and win.dilations[-1] == 1 and win.strides[-1] <= FOUR and win.kernel[-1] > 1


def _in_fours(
    ctx: Context, x: Value, zero: Zero, win: Window, y: Sequence[int], w: Value
) -> tuple[_Input, Value]:
    """The window's rows filled up with zeros to whole fours, the image with as many columns as these read."""
    taps, n = win.kernel[-1], len(win.kernel)
    more = -taps % FOUR
    if more:
        w = copied(ctx, w, w.dtype, 0, Zero(None, 0), False, ((0,) * n, (*(0,) * (n - 1), more)))
    before, after = (list(b) for b in _border(win))
    reached = (y[-1] - 1) * win.strides[-1] + taps + more
    after[-1] = max(after[-1], reached - before[-1] - shape_of(x)[-1])
    border = (before, after)
    x, zero = first_factor(ctx, x, zero, bytes_wanted(ctx, x.dtype, w.dtype), False, border)
    return _Input(ctx.read(x, _place(win, 1, border)), zero, "i32", Layout.row_major(y), True), w


def _in_floats(ctx: Context, x: Value, zero: Zero, win: Window, y: Sequence[int]) -> _Input:
    shape, at = shape_of(x), _place(win, 1)
    few = prod(win.kernel) <= FEW_TAPS
    kind = "f32" if few else "i32"
    if channels_last(ctx, x) and zero.number is not None:
        bounds = [(at[2 + d], n) for d, n in enumerate(shape[2:]) if win.begin[d] or win.after[d]]
        outside = const(zero.number, x.dtype)
        read = ctx.read_padded(x, at, bounds, outside) if bounds else ctx.read(x, at)
        return _Input(read, zero, kind, Layout.channels_last(y))
    # an image as ONNX has it stays so: lanes are neighbours of a row
    last, border = channels_last(ctx, x), _border(win)
    layout = Layout.channels_last(y) if last else Layout.row_major(y)
    x = centred(ctx, x, zero, "f32" if few else "i16", last, border)
    return _Input(ctx.read(x, _place(win, 1, border)), Zero(None, 0), kind, layout)


def _border(win: Window) -> Border:
    n = len(win.kernel)
    return (win.begin, win.after) if win.padded else ((0,) * n, (0,) * n)


def _place(win: Window, per_in: int, border: Border | None = None) -> list[Index]:
    """The index of the input (or of its copy with a border) at a point of the sum."""
    names = SPATIAL[3 - len(win.kernel) :]
    at = [win.at(d, Index.of(f"o{a}"), Index.of(f"k{a}")) for d, a in enumerate(names)]
    if border is not None:
        at = [i + b for i, b in zip(at, border[0], strict=True)]
    return [Index.of("b"), Index(0, {"g": per_in, "i": 1}), *at]
