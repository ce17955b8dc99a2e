"""Pooling: a window, or everything spatial, down to one element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import FLOATS, LIMITS
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import compute, fill, output, reshaped, shape_of
from nnjit.lower.ops.linear import SPATIAL, Window, accumulate
from nnjit.lower.ops.norm import keep
from nnjit.lower.ops.pointwise import text
from nnjit.lower.ops.reduce import split_axes
from nnjit.lower.ops.scatter import inside
from nnjit.lower.registry import Computation, Unsupported, composite, computation

if TYPE_CHECKING:
    from nnjit.lower.build import Build


@computation("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(ctx: Context, node: Node, out: int) -> Computation:
    """Every spatial dimension down to 1."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    kept, gone, idx, at = split_axes(x.shape, range(2, len(x.shape)))
    wide = accumulate(x.dtype)
    v, value = cast(ctx.read(x, idx), wide), acc(wide)
    if node.op == "GlobalAveragePool":
        value = op("mul", value, const(1 / prod(a.extent for a in gone), wide))
    elif node.op == "GlobalLpPool":
        v, value = norm_terms(v, node.attrs.get("p", 2))
    combine = "max" if node.op == "GlobalMaxPool" else "sum"
    return Computation(
        kept, at, cast(value, x.dtype), reduce=gone, combine=combine, body=v, name=node.op.lower()
    )


def norm_terms(v: Expr, p: int) -> tuple[Expr, Expr]:
    """|v|^p and, of the sum, its p-th root."""
    total = acc(v.dtype)
    size = Expr("abs", v.dtype, (v,))
    if p == 1:
        return size, total
    if p == 2:
        return op("mul", v, v), Expr("sqrt", v.dtype, (total,))
    return op("pow", size, const(p, v.dtype)), op("pow", total, const(1 / p, v.dtype))


class Windows:
    """Axes and indices of a pooling: output `at`, input `place`, the bounds that may be left."""

    def __init__(self, node: Node) -> None:
        x, y = shape_of(node.inputs[0]), shape_of(node.outputs[0])
        n = len(x) - 2
        if not 1 <= n <= 3:
            raise Unsupported(f"{node.op} with {n} spatial dimensions")
        self.x, self.window = x, Window(node, x[2:], node.attrs["kernel_shape"], y[2:])
        win, names = self.window, SPATIAL[3 - n :]
        outer = [Index.of("b"), Index.of("c")]
        self.axes = [
            Axis("b", y[0]),
            Axis("c", y[1]),
            *(Axis(f"o{a}", e) for a, e in zip(names, y[2:], strict=True)),
        ]
        self.reduce = [Axis(f"k{a}", e) for a, e in zip(names, win.kernel, strict=True)]
        self.spatial = [win.at(d, Index.of(f"o{a}"), Index.of(f"k{a}")) for d, a in enumerate(names)]
        self.bounds = [(self.spatial[d], x[2 + d]) for d in range(n) if win.begin[d] or win.after[d]]
        self.place = [*outer, *self.spatial]
        self.at = [*outer, *(Index.of(f"o{a}") for a in names)]
        self.shape = y

    def layout(self, ctx: Context, x: Value) -> Layout | None:
        """Channels stay last where they are; else who reads the output says, and rows are as good as any."""
        _, source = ctx.tensors.place(x)
        return Layout.channels_last(self.shape) if source.strides[1] == 1 else None

    def read(self, ctx: Context, x: Value, other: float) -> Expr:
        """The element at `place`, `other` outside of the input."""
        if not self.bounds:
            return ctx.read(x, self.place)
        return ctx.read_padded(x, self.place, self.bounds, const(other, x.dtype))

    def inside(self, before: Sequence[int], after: Sequence[int]) -> Expr:
        """Whether `place` is in the input or in a border of these widths around it."""
        out = const(True, "bool")
        for d, p in enumerate(self.spatial):
            low = compare("ge", axis(p), const(-before[d], "i32"))
            high = compare("lt", axis(p), const(self.x[2 + d] + after[d], "i32"))
            out = op("and", out, op("and", low, high)) if out.op != "const" else op("and", low, high)
        return out


@computation("MaxPool")
def max_pool(ctx: Context, node: Node, out: int) -> Computation:
    """The largest element of each window; output 1 is its place in the whole input."""
    x, w = node.inputs[0], Windows(node)
    assert x is not None
    low, _ = LIMITS.get(x.dtype, (-math.inf, 0))
    largest = "pmax" if x.dtype in FLOATS else "max"  # a NaN is not the largest, as in onnxruntime
    v = w.read(ctx, x, low)
    if out == 0:
        return Computation(
            w.axes,
            w.at,
            acc(x.dtype),
            reduce=w.reduce,
            combine=largest,
            body=v,
            layout=w.layout(ctx, x),
            name="maxpool",
        )
    # the place counts over all of the input, its last dimension fastest, or with storage_order 1 its first
    extents = w.x[2:][::-1] if node.attrs.get("storage_order", 0) else w.x[2:]
    place = w.place[:2] + (w.spatial[::-1] if node.attrs.get("storage_order", 0) else w.spatial)
    flat = Layout.row_major((*w.x[:2], *extents)).index(place)
    top = keep("top", w.reduce, largest, v, acc(x.dtype))
    here = compare("eq", v, local("top", x.dtype))
    if w.bounds:
        zero = [0] * len(extents)
        here = op("and", here, w.inside(zero, zero))
    body = select(here, axis(flat), const(LIMITS["i32"][1], "i32"))
    return Computation(
        w.axes, w.at, cast(acc("i32"), "i64"), stages=[top], reduce=w.reduce, combine="min", body=body,
        layout=w.layout(ctx, x), name="maxpool_index",
    )  # fmt: skip


@computation("AveragePool")
def average_pool(ctx: Context, node: Node, out: int) -> Computation:
    """The mean of each window; with count_include_pad the declared pads count as zeros, what ceil_mode
    reaches beyond them never does."""
    x, w = node.inputs[0], Windows(node)
    assert x is not None
    wide, n = accumulate(x.dtype), len(w.spatial)
    stages = []
    count: Expr = const(prod(w.window.kernel), wide)
    if w.bounds:
        all_in = node.attrs.get("count_include_pad", 0)
        declared = list(node.attrs.get("pads") or [0] * (2 * n))[n:]
        same = text(node, "auto_pad", "NOTSET").startswith("SAME")  # the pads that it stands for
        after = (w.window.after if same else declared) if all_in else [0] * n
        one = w.inside(w.window.begin if all_in else [0] * n, after)
        one = select(one, const(1, wide), const(0, wide))
        stages.append(keep("count", w.reduce, "sum", one, acc(wide)))
        count = local("count", wide)
    value = op("div", acc(wide), count)
    return Computation(
        w.axes, w.at, cast(value, x.dtype), stages=stages, reduce=w.reduce, combine="sum",
        body=cast(w.read(ctx, x, 0), wide), layout=w.layout(ctx, x), name="avgpool",
    )  # fmt: skip


@computation("LpPool")
def lp_pool(ctx: Context, node: Node, out: int) -> Computation:
    """(sum |x|^p)^(1/p) of each window."""
    x, w = node.inputs[0], Windows(node)
    assert x is not None
    body, value = norm_terms(cast(w.read(ctx, x, 0), accumulate(x.dtype)), node.attrs.get("p", 2))
    return Computation(
        w.axes, w.at, cast(value, x.dtype), reduce=w.reduce, combine="sum", body=body, layout=w.layout(ctx, x),
        name="lppool",
    )  # fmt: skip


@composite("MaxUnpool")
def max_unpool(build: Build, node: Node) -> None:
    """Zeros, and each element at the place its index names, which counts over the unpooled tensor."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    n = len(shape_of(x)) - 2
    kernel, pads = node.attrs["kernel_shape"], node.attrs.get("pads") or [0] * (2 * n)
    strides = node.attrs.get("strides") or [1] * n
    whole = [(e - 1) * strides[d] - pads[d] - pads[d + n] + kernel[d] for d, e in enumerate(shape_of(x)[2:])]
    if shape_of(y)[2:] != tuple(whole):
        raise Unsupported("MaxUnpool to a larger output_shape")
    y = output(build, node)
    fill(build, node, y, lambda ctx, idx: const(0, x.dtype), "zeros")
    flat = reshaped(build, node, y, [y.size or 0])

    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape_of(x))
        # two windows may name the same place: one after the other
        at = inside(ctx.read(node.inputs[1], idx), y.size or 0)
        return Computation([], [at], ctx.read(x, idx), own=axes, name="unpool")

    compute(build, node, flat, rule)
