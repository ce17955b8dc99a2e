"""Integer quantisation: to and from integers, and products of integers with zero points.

Products keep their sums in i32, as ONNX asks for; a zero point is taken off each factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Expr, Index, acc, bitcast, cast, const, local, op
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import compute, fill, output, shape_of, temporary
from nnjit.lower.ops.linear import SPATIAL, Window, matmul_axes
from nnjit.lower.ops.norm import keep
from nnjit.lower.ops.quant_product import (
    Border,
    Rows,
    Zero,
    bytes_wanted,
    centred,
    first_factor,
    multiplier,
    per_row,
    second_factor,
    sums,
)
from nnjit.lower.registry import Computation, Unsupported, composite, computation, injective, pointwise

if TYPE_CHECKING:
    from nnjit.lower.build import Build


def _per_tensor(node: Node) -> bool:
    return len(node.inputs) > 1 and all(v is None or v.size == 1 for v in node.inputs[1:])


def dequantized(x: Expr, scale: Expr, zero: Expr | None, dtype: str) -> Expr:
    """(x - zero) * scale; the difference of integers is exact."""
    wide = cast(x, "i32")
    if zero is not None:
        wide = op("sub", wide, cast(zero, "i32"))
    return cast(op("mul", cast(wide, "f32"), cast(scale, "f32")), dtype)


def quantized(x: Expr, zero: Expr | None, dtype: str) -> Expr:
    """x (an f32, scaled already) rounded half to even, plus the zero point, held to the range of `dtype`."""
    low, high = LIMITS[dtype]
    y = Expr("round", "f32", (x,))
    if zero is not None and not (zero.op == "const" and zero.attr == 0):
        y = op("add", y, cast(zero, "f32"))
    # the constant first: a NaN becomes the smallest value, on every target
    return cast(op("pmin", const(high, "f32"), op("pmax", const(low, "f32"), y)), dtype)


@pointwise("DequantizeLinear", when=_per_tensor)
def dequantize(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    return dequantized(x, scale, zero, node.outputs[0].dtype)


@pointwise("QuantizeLinear", when=_per_tensor)
def quantize(node: Node, x: Expr, scale: Expr, zero: Expr | None = None) -> Expr:
    return quantized(op("div", cast(x, "f32"), cast(scale, "f32")), zero, node.outputs[0].dtype)


@injective("DequantizeLinear", "QuantizeLinear")
def quantize_by_axis(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """A scale for each place along `axis`, or for each block of `block_size` places."""
    x = ctx.read(node.inputs[0], idx)
    at = _scale_place(node, idx)
    scale = ctx.read(node.inputs[1], at)
    zero = ctx.read(node.inputs[2], at) if node.input(2) is not None else None
    if node.op == "DequantizeLinear":
        return dequantized(x, scale, zero, node.outputs[0].dtype)
    return quantized(op("div", cast(x, "f32"), cast(scale, "f32")), zero, node.outputs[0].dtype)


def _scale_place(node: Node, idx: Sequence[Index]) -> list[Index]:
    """Where the scale of element `idx` is."""
    shape, scale = shape_of(node.inputs[0]), shape_of(node.inputs[1])
    d, block = node.attrs.get("axis", 1) % len(shape), node.attrs.get("block_size", 0)
    if not block:
        if len(scale) != 1:
            raise Unsupported(f"a scale of shape {scale}")
        return [idx[d]]
    at = list(idx)
    number = op("div", Expr("axis", "i32", (), idx[d]), const(block, "i32"))
    at[d] = Index(0, ((number, 1),))
    return at


@composite("DynamicQuantizeLinear")
def dynamic_quantize(build: Build, node: Node) -> None:
    """scale = (max - min) / 255 of a range that holds 0, zero = round(-min / scale), then x as u8.

    The ends of the range are found row by row first, which threads share out, then among the rows."""
    x = node.inputs[0]
    assert x is not None
    y, scale, zero = (output(build, node, n) for n in range(3))
    shape = shape_of(x)
    lows = highs = x
    if len(shape) > 1 and x.size:
        lows, highs = (temporary(build, node, stem, "f32", shape[:-1]) for stem in ("low", "high"))

        def rows(ctx: Context) -> Computation:
            axes, idx = ctx.axes(shape[:-1])
            v = ctx.read(x, [*idx, Index.of("r")])
            reduce = [Axis("r", shape[-1])]
            first = stored(ctx, lows, idx, Stage((), tuple(reduce), "min", v, acc("f32")))
            return Computation(axes, idx, acc("f32"), (), reduce, "max", v, [first], name="row_range")

        compute(build, node, highs, rows)

    def bounds(ctx: Context) -> Computation:
        own, idx = ctx.axes(shape_of(lows), "r")
        own = own or [Axis("r", 1)]
        nothing = const(0, "f32")
        low = keep("low", own, "min", ctx.read(lows, idx), op("min", acc("f32"), nothing))
        high = keep("high", own, "max", ctx.read(highs, idx), op("max", acc("f32"), nothing))
        size = op("div", op("sub", local("high", "f32"), local("low", "f32")), const(255, "f32"))
        ratio = op("div", op("sub", nothing, local("low", "f32")), size)
        first = stored(ctx, scale, [], Stage((), (), "", None, size))
        return Computation([], [], quantized(ratio, None, "u8"), stages=[low, high, first], name="range")

    compute(build, node, zero, bounds)

    def element(ctx: Context, idx: Sequence[Index]) -> Expr:
        scaled = op("div", ctx.read(x, idx), ctx.read(scale, []))
        return quantized(scaled, ctx.read(zero, []), "u8")

    fill(build, node, y, element, "quantize")


def stored(ctx: Context, into: Value, idx: Sequence[Index], stage: Stage) -> Stage:
    """A stage whose result goes to `into` at `idx`: a second output of the kernel."""
    buffer, layout = ctx.tensors.place(into)
    at = ctx.operand(buffer, layout.offset, into.dtype, layout.span, "out")
    return replace(stage, out=at, index=layout.index(list(idx)))


# ---- products ----


def _wide(x: Expr) -> Expr:
    return cast(x, "i32")


def minus(x: Expr) -> Expr:
    return const(-x.attr, "i32") if x.op == "const" else Expr("neg", "i32", (x,))


def _requantized(total: Expr, ratio: Expr, zero: Expr | None, dtype: str) -> Expr:
    return quantized(op("mul", cast(total, "f32"), ratio), zero, dtype)


@computation("MatMulInteger", "QLinearMatMul")
def matmul_integer(ctx: Context, node: Node, out: int) -> Computation:
    """(A - a_zero) (B - b_zero); QLinearMatMul scales the result and quantises it again."""
    linear = node.op == "QLinearMatMul"
    a, b = node.inputs[0], node.inputs[3 if linear else 1]
    assert a is not None and b is not None
    a_zero, b_zero = (Zero.of(node.input(i)) for i in ((2, 5) if linear else (2, 3)))
    shape_a, shape_b = shape_of(a), shape_of(b)
    m = matmul_axes(ctx, shape_a, shape_b)
    rows, columns = shape_a[-2] if len(shape_a) > 1 else 1, shape_b[-1]
    b = second_factor(ctx, b, b_zero, len(shape_b) - 1)
    a, a_zero = first_factor(ctx, a, a_zero, bytes_wanted(ctx, a.dtype, b.dtype))
    body = op("mul", _wide(ctx.read(a, m.left)), _wide(ctx.read(b, m.right)))
    value: Expr = acc("i32")
    if not a_zero.nothing:
        kept = [d for d in range(len(shape_b)) if d != max(0, len(shape_b) - 2)]
        column = ctx.read(sums(ctx, b, kept), [m.right[d] for d in kept])
        value = op("add", value, op("mul", minus(a_zero.read(ctx, m.left[:-1], rows)), column))
    if linear:
        at: list[Rows] = [(m.left[:-1], rows), (m.right, columns), ([], 1)]
        ratio = multiplier(ctx, node, [node.inputs[i] for i in (1, 4, 6)], at)
        zero = per_row(ctx, node.inputs[7], [Index()], 1)
        value = _requantized(value, ratio, zero, node.outputs[0].dtype)
    return Computation(
        m.axes,
        m.out,
        value,
        reduce=[Axis("k", shape_a[-1])],
        combine="sum",
        body=body,
        name=node.op.lower(),
    )


FEW_TAPS = 64
"""Products of two bytes whose sum is exact in f32 and below 2^22."""


def whole(x: Expr) -> Expr:
    """An f32 that is a whole number below 2^22 as an i32: 1.5 * 2^23 more, its low bits are the number."""
    return op("sub", bitcast(op("add", x, const(12582912.0, "f32")), "i32"), const(0x4B400000, "i32"))


def _inside(at: Sequence[Index], border: Border) -> list[Index]:
    """An index of an image as one into its copy with a border."""
    lead = len(at) - len(border[0])
    return [*at[:lead], *(i + b for i, b in zip(at[lead:], border[0], strict=True))]


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
    channel, filters = Index(0, {"g": per_in, "i": 1}), Index(0, {"g": per_out, "o": 1})
    w = second_factor(ctx, w, w_zero, 0)
    last = shape[1] == 1 or ctx.tensors.place(x)[1].strides[1] == 1
    # neighbours along the sum must lie next to each other: channels or, where those are few, places of a row
    by_row = not last and groups == 1 and win.dilations[-1] == 1
    by_row = by_row and per_in * -(-kernel[-1] // 4) <= kernel[-1] * -(-per_in // 4)
    order = None if last or by_row else Layout.channels_last(shape)
    border = (win.begin, win.after) if win.padded else ((0,) * n, (0,) * n)
    layout = Layout.channels_last(y)
    at_x = [
        Index.of("b"),
        channel,
        *(win.at(d, Index.of(f"o{a}"), Index.of(f"k{a}")) for d, a in enumerate(names)),
    ]
    wide = "i32"
    if per_in == per_out == 1 and groups > 1:
        # each lane is a sum of its own: there is no dot product, and floats have a fused multiply-add
        wide = "f32" if prod(kernel[2:]) <= FEW_TAPS else "i32"
        if last and x_zero.number is not None:
            bounds = [(at_x[2 + d], shape[2 + d]) for d in range(n) if win.begin[d] or win.after[d]]
            left = (
                ctx.read_padded(x, at_x, bounds, const(x_zero.number, x.dtype))
                if bounds
                else ctx.read(x, at_x)
            )
        else:
            own = shape[1] > 1 and not last
            kept = "f32" if wide == "f32" else "i16"
            x, x_zero = centred(ctx, x, x_zero, kept, None if own else layout, border), Zero(None, 0)
            layout = Layout.row_major(y) if own else layout
            left = ctx.read(x, _inside(at_x, border))
    else:
        x, x_zero = first_factor(ctx, x, x_zero, bytes_wanted(ctx, x.dtype, w.dtype), order, border)
        left = ctx.read(x, _inside(at_x, border))
    right = ctx.read(w, [filters, Index.of("i"), *(Index.of(f"k{a}") for a in names)])
    body = op("mul", cast(left, wide), cast(right, wide))
    value: Expr = acc("i32") if wide == "i32" else whole(acc("f32"))
    bias = ctx.read(node.inputs[8], [filters]) if linear and node.input(8) is not None else None
    if not x_zero.nothing:
        column = ctx.read(sums(ctx, w, [0]), [filters])
        column = op("mul", minus(x_zero.read(ctx, [Index()], 1)), column)
        bias = column if bias is None else op("add", bias, column)
    if bias is not None:
        value = op("add", value, bias)
    if linear:
        at: list[Rows] = [([], 1), ([filters], kernel[0]), ([], 1)]
        ratio = multiplier(ctx, node, [node.inputs[i] for i in (1, 4, 6)], at)
        zero = per_row(ctx, node.inputs[7], [Index()], 1)
        value = _requantized(value, ratio, zero, node.outputs[0].dtype)
    axes = [Axis("b", y[0]), Axis("g", groups), Axis("o", per_out)]
    axes += [Axis(f"o{a}", e) for a, e in zip(names, y[2:], strict=True)]
    reduce = [Axis(f"k{a}", e) for a, e in zip(names, kernel[2:], strict=True)]
    reduce = [Axis("i", per_in), *reduce] if by_row else [*reduce, Axis("i", per_in)]
    idx = [Index.of("b"), filters, *(Index.of(f"o{a}") for a in names)]
    return Computation(
        axes, idx, value, reduce=reduce, combine="sum", body=body, layout=layout, name=node.op.lower(),
    )  # fmt: skip
