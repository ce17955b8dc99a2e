"""Integer quantisation: to and from integers, and matrix products of integers with zero points.

Products keep their sums in i32, as ONNX asks for; a zero point is taken off each factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Expr, Index, acc, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import compute, fill, output, shape_of, temporary
from nnjit.lower.ops.linear import matmul_axes
from nnjit.lower.ops.norm import keep
from nnjit.lower.ops.quant_product import (
    Rows,
    Zero,
    bytes_wanted,
    first_factor,
    most,
    multiplier,
    per_row,
    rounded,
    second_factor,
    small,
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
        reach = op("sub", local("high", "f32"), local("low", "f32"))
        reach = select(
            compare("eq", reach, nothing), const(1, "f32"), reach
        )  # of zeros alone, as the reference has it
        size = op("div", reach, const(255, "f32"))
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


def wide(x: Expr) -> Expr:
    return cast(x, "i32")


def minus(x: Expr) -> Expr:
    return const(-x.attr, "i32") if x.op == "const" else Expr("neg", "i32", (x,))


def requantized(
    ctx: Context,
    total: Expr,
    ratio: Expr,
    zero: Expr,
    dtype: str,
    scales: Sequence[Value | None],
    largest: float,
) -> Expr:
    """An i32 of at most `largest` times the ratio of `scales`, as `multiplier` has it, quantised."""
    x = op("mul", cast(total, "f32"), ratio)
    if not (isinstance(ctx.build.target, Target) and zero.op == "const" and small(largest, scales)):
        return quantized(x, zero, dtype)
    low, high = LIMITS[dtype]
    number = rounded(x, int(zero.attr))
    return cast(op("min", const(high, "i32"), op("max", const(low, "i32"), number)), dtype)


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
    body = op("mul", wide(ctx.read(a, m.left)), wide(ctx.read(b, m.right)))
    value: Expr = acc("i32")
    if not a_zero.nothing:
        kept = [d for d in range(len(shape_b)) if d != max(0, len(shape_b) - 2)]
        column = ctx.read(sums(ctx, b, kept), [m.right[d] for d in kept])
        value = op("add", value, op("mul", minus(a_zero.read(ctx, m.left[:-1], rows)), column))
    if linear:
        at: list[Rows] = [(m.left[:-1], rows), (m.right, columns), ([], 1)]
        scales = [node.inputs[i] for i in (1, 4, 6)]
        ratio = multiplier(ctx, node, scales, at)
        zero = per_row(ctx, node.inputs[7], [Index()], 1)
        value = requantized(ctx, value, ratio, zero, node.outputs[0].dtype, scales, most(shape_a[-1]))
    return Computation(
        m.axes,
        m.out,
        value,
        reduce=[Axis("k", shape_a[-1])],
        combine="sum",
        body=body,
        name=node.op.lower(),
    )
