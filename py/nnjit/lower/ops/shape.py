"""Operators that move elements: views where strides can say it, one copy where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Expr, Index, cast, const
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import const_ints, shape_of
from nnjit.lower.registry import Computation, composite, computation, injective, view

if TYPE_CHECKING:
    from nnjit.lower.build import Build


@view("Transpose")
def transpose(node: Node, x: Layout) -> Layout:
    perm = node.attrs.get("perm")
    return x.permuted(list(perm) if perm else range(len(x.shape))[::-1])


@view("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def reshape(node: Node, x: Layout) -> Layout | None:
    shape = node.outputs[0].shape
    assert shape is not None
    return x.reshaped(shape)


@view("Expand")
def expand(node: Node, x: Layout) -> Layout:
    shape = node.outputs[0].shape
    assert shape is not None
    return x.expanded(shape)


@view("Slice")
def slice_(node: Node, x: Layout) -> Layout:
    starts, ends = const_ints(node.inputs[1]), const_ints(node.inputs[2])
    assert starts is not None and ends is not None
    axes = const_ints(node.input(3)) if len(node.inputs) > 3 else None
    steps = const_ints(node.input(4)) if len(node.inputs) > 4 else None
    for n, start in enumerate(starts):
        d = (axes[n] if axes else n) % len(x.shape)
        step = steps[n] if steps else 1
        first, stop, step = slice(start, ends[n], step).indices(x.shape[d])
        # ONNX clamps an end below -size to "before the first element" for negative steps, as slice() does
        x = x.sliced(d, first, step, len(range(first, stop, step)))
    return x


@view("Split")
def split(node: Node, x: Layout, out: int = 0) -> Layout:
    d = node.attrs.get("axis", 0) % len(x.shape)
    start = 0
    for v in node.outputs[:out]:
        assert v.shape is not None
        start += v.shape[d]
    shape = node.outputs[out].shape
    assert shape is not None
    return x.sliced(d, start, 1, shape[d])


@composite("Concat")
def concat(build: Build, node: Node) -> None:
    """Each input is written to its slice of the output, if the kernel that made it has not done so."""
    y = node.outputs[0]
    assert y.shape is not None
    d = node.attrs["axis"] % len(y.shape)
    if y not in build.tensors.places:
        layout = _common_order([v for v in node.inputs if v is not None], build, y.shape)
        if y in build.outputs:
            layout = Layout.row_major(y.shape)
        build.buffer(y, layout, node.once)
    buffer, layout = build.tensors.place(y)
    start = 0
    for v in node.inputs:
        assert v is not None and v.shape is not None
        place = build.tensors.places.get(v)
        if place is None or place.buffer is not buffer:
            build.copy_into(v, buffer, layout.sliced(d, start, 1, v.shape[d]), [node], node.once)
        start += v.shape[d]


def _common_order(values: Sequence[Value], build: Build, shape: Sequence[int]) -> Layout:
    """The memory order of the largest input."""
    largest = max(values, key=lambda v: v.size or 0)
    if largest.const is not None and largest not in build.tensors.places:
        return Layout.row_major(shape)
    _, x = build.tensors.place(largest)
    order = sorted(range(len(shape)), key=lambda i: (-x.strides[i], i))
    return Layout.ordered(shape, order)


@computation("Tile")
def tile(ctx: Context, node: Node, out: int) -> Computation:
    """y[r * n + i] = x[i] along each dimension."""
    axes, idx, at = [], [], []
    shape = shape_of(node.inputs[0])
    for d, (n, whole) in enumerate(zip(shape, shape_of(node.outputs[0]), strict=True)):
        axes += [Axis(f"r{d}", whole // n if n else 0), Axis(f"i{d}", n)]
        at.append(Index.of(f"i{d}"))
        idx.append(Index(0, {f"r{d}": n, f"i{d}": 1}))
    return Computation(axes, idx, ctx.read(node.inputs[0], at), name="tile")


@computation("DepthToSpace", "SpaceToDepth")
def depth_and_space(ctx: Context, node: Node, out: int) -> Computation:
    """Blocks of b x b pixels to and from channels: small[n, (i, j, c), h, w] = large[n, c, h*b + i, w*b + j].

    Mode CRD of DepthToSpace has the channels as (c, i, j)."""
    b = node.attrs["blocksize"]
    to_space = node.op == "DepthToSpace"
    n, deep, high, wide = shape_of(node.inputs[0] if to_space else node.outputs[0])
    channels = deep // (b * b)
    axes = [Axis("n", n), Axis("c", channels), Axis("h", high), Axis("i", b), Axis("w", wide), Axis("j", b)]
    if node.attrs.get("mode", "DCR") in ("CRD", b"CRD"):
        channel = Index(0, {"c": b * b, "i": b, "j": 1})
    else:
        channel = Index(0, {"i": b * channels, "j": channels, "c": 1})
    small = [Index.of("n"), channel, Index.of("h"), Index.of("w")]
    large = [Index.of("n"), Index.of("c"), Index(0, {"h": b, "i": 1}), Index(0, {"w": b, "j": 1})]
    source, place = (small, large) if to_space else (large, small)
    return Computation(axes, place, ctx.read(node.inputs[0], source), name=node.op.lower())


@injective("CastLike")
def cast_like(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """x as the type of the other input, whose shape does not matter."""
    return cast(ctx.read(node.inputs[0], idx), node.outputs[0].dtype)


def _same_size(node: Node) -> bool:
    x = node.inputs[0]
    return x is not None and SIZES.get(x.dtype) == SIZES.get(node.outputs[0].dtype)


@view("BitCast", when=_same_size)
def bit_cast(node: Node, x: Layout) -> Layout:
    """The same bytes, read as another type."""
    return x


@injective("ConstantOfShape")
def constant_of_shape(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """One value everywhere."""
    value = node.attrs.get("value")
    number = 0.0 if value is None else np.asarray(value).reshape(-1)[0].item()
    return const(number, node.outputs[0].dtype)
