"""Integer quantisation: to and from integers, and products of integers with zero points.

Products keep their sums in i32, as ONNX asks for; a zero point is taken off each factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Expr, Index, acc, cast, const, local, op
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import compute, fill, output, shape_of
from nnjit.lower.ops.linear import SPATIAL, Window, matmul_axes
from nnjit.lower.ops.norm import keep
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
    if zero is not None:
        y = op("add", y, cast(zero, "f32"))
    return cast(op("min", op("max", y, const(low, "f32")), const(high, "f32")), dtype)


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
    """scale = (max - min) / 255 of a range that holds 0, zero = round(-min / scale), then x as u8."""
    x = node.inputs[0]
    assert x is not None
    y, scale, zero = (output(build, node, n) for n in range(3))

    def bounds(ctx: Context, what: str) -> Computation:
        own, idx = ctx.axes(shape_of(x), "r")
        own = own or [Axis("r", 1)]
        v = ctx.read(x, idx)
        nothing = const(0, "f32")
        low = keep("low", own, "min", v, op("min", acc("f32"), nothing))
        high = keep("high", own, "max", v, op("max", acc("f32"), nothing))
        size = op("mul", op("sub", local("high", "f32"), local("low", "f32")), const(1 / 255, "f32"))
        ratio = op("div", op("sub", nothing, local("low", "f32")), size)
        value = size if what == "scale" else quantized(ratio, None, "u8")
        return Computation([], [], value, stages=[low, high], name=f"quantize_{what}")

    compute(build, node, scale, lambda ctx: bounds(ctx, "scale"))
    compute(build, node, zero, lambda ctx: bounds(ctx, "zero"))

    def element(ctx: Context, idx: Sequence[Index]) -> Expr:
        scaled = op("div", ctx.read(x, idx), ctx.read(scale, []))
        return quantized(scaled, ctx.read(zero, []), "u8")

    fill(build, node, y, element, "quantize")


# ---- products ----


def _by_row(ctx: Context, v: Value | None, row: Sequence[Index], size: int) -> Expr | None:
    """A scale or zero point: one for all, or one for each of `size` rows (columns), alone or in a matrix."""
    if v is None:
        return None
    shape = shape_of(v)
    if v.size == 1:
        return ctx.read(v, [Index()] * len(shape))
    if len(shape) == 1 and shape[0] == size:
        return ctx.read(v, [row[-1]])
    raise Unsupported(f"a zero point of shape {shape}")


def _shifted(x: Expr, zero: Expr | None) -> Expr:
    wide = cast(x, "i32")
    return wide if zero is None else op("sub", wide, cast(zero, "i32"))


def _scaled(total: Expr, scales: Sequence[Expr], zero: Expr | None, dtype: str) -> Expr:
    """The sum times a_scale * b_scale / y_scale, as `dtype`."""
    a, b, y = (cast(s, "f32") for s in scales)
    return quantized(op("mul", cast(total, "f32"), op("div", op("mul", a, b), y)), zero, dtype)


@computation("MatMulInteger", "QLinearMatMul")
def matmul_integer(ctx: Context, node: Node, out: int) -> Computation:
    """(A - a_zero) (B - b_zero); QLinearMatMul scales the result and quantises it again."""
    linear = node.op == "QLinearMatMul"
    a, b = node.inputs[0], node.inputs[3 if linear else 1]
    zeros = (2, 5) if linear else (2, 3)
    m = matmul_axes(ctx, shape_of(a), shape_of(b))
    a_zero = _by_row(ctx, node.input(zeros[0]), m.left[:-1], shape_of(a)[-2] if len(shape_of(a)) > 1 else 1)
    b_zero = _by_row(ctx, node.input(zeros[1]), m.right, shape_of(b)[-1])
    body = op("mul", _shifted(ctx.read(a, m.left), a_zero), _shifted(ctx.read(b, m.right), b_zero))
    value: Expr = acc("i32")
    if linear:
        scales = [
            _by_row(ctx, node.inputs[1], m.left[:-1], shape_of(a)[-2]),
            _by_row(ctx, node.inputs[4], m.right, shape_of(b)[-1]),
            ctx.read(node.inputs[6], [Index()] * len(shape_of(node.inputs[6]))),
        ]
        zero = ctx.read(node.inputs[7], [Index()] * len(shape_of(node.inputs[7])))
        value = _scaled(value, [s for s in scales if s is not None], zero, node.outputs[0].dtype)
    return Computation(
        m.axes,
        m.out,
        value,
        reduce=[Axis("k", shape_of(a)[-1])],
        combine="sum",
        body=body,
        name=node.op.lower(),
    )


@computation("ConvInteger", "QLinearConv")
def conv_integer(ctx: Context, node: Node, out: int) -> Computation:
    """A convolution of x - x_zero with w - w_zero, the border being x_zero; QLinearConv adds an i32 bias,
    scales and quantises."""
    linear = node.op == "QLinearConv"
    x, w = node.inputs[0], node.inputs[3 if linear else 1]
    assert x is not None
    x_zero_at, w_zero_at = (node.input(2), node.input(5)) if linear else (node.input(2), node.input(3))
    shape, kernel, y = shape_of(x), shape_of(w), shape_of(node.outputs[0])
    n, groups = len(kernel) - 2, int(node.attrs.get("group", 1))
    if not 1 <= n <= 3:
        raise Unsupported(f"{node.op} with {n} spatial dimensions")
    win, names = Window(node, shape[2:], kernel[2:], y[2:]), SPATIAL[3 - n :]
    per_in, per_out = kernel[1], kernel[0] // groups
    channel, filters = Index(0, {"g": per_in, "i": 1}), Index(0, {"g": per_out, "o": 1})
    place = [win.at(d, Index.of(f"o{a}"), Index.of(f"k{a}")) for d, a in enumerate(names)]
    x_zero = _by_row(ctx, x_zero_at, [Index()], 1)
    bounds = [(p, shape[2 + d]) for d, p in enumerate(place) if win.begin[d] or win.after[d]]
    at = [Index.of("b"), channel, *place]
    border = const(0, x.dtype) if x_zero is None else x_zero
    left = ctx.read_padded(x, at, bounds, border) if bounds else ctx.read(x, at)
    right = ctx.read(w, [filters, Index.of("i"), *(Index.of(f"k{a}") for a in names)])
    w_zero = _by_row(ctx, w_zero_at, [filters], kernel[0])
    body = op("mul", _shifted(left, x_zero), _shifted(right, w_zero))
    value: Expr = acc("i32")
    if linear:
        if node.input(8) is not None:
            value = op("add", value, ctx.read(node.inputs[8], [filters]))
        scales = [_by_row(ctx, node.inputs[i], [filters], kernel[0]) for i in (1, 4, 6)]
        zero = _by_row(ctx, node.inputs[7], [Index()], 1)
        value = _scaled(value, [s for s in scales if s is not None], zero, node.outputs[0].dtype)
    axes = [Axis("b", y[0]), Axis("g", groups), Axis("o", per_out)]
    axes += [Axis(f"o{a}", e) for a, e in zip(names, y[2:], strict=True)]
    reduce = [Axis(f"k{a}", e) for a, e in zip(names, kernel[2:], strict=True)] + [Axis("i", per_in)]
    idx = [Index.of("b"), filters, *(Index.of(f"o{a}") for a in names)]
    return Computation(
        axes, idx, value, reduce=reduce, combine="sum", body=body, layout=Layout.channels_last(y),
        name=node.op.lower(),
    )  # fmt: skip
