"""Operators that move elements: views where strides can say it, one copy where not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnjit.codegen.expr import Expr, Index, cast, compare, const, op, select
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.registry import Unsupported, composite, injective, view

if TYPE_CHECKING:
    from nnjit.lower.build import Build


def const_ints(v: Value | None) -> list[int] | None:
    """The integers of a constant tensor; None for an absent one. Unsupported if it is computed at run time."""
    if v is None:
        return None
    if v.const is None:
        raise Unsupported(f"{v.name} is computed at run time")
    return [int(x) for x in np.asarray(v.const.numpy()).reshape(-1)]


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
    """Each input is written to its slice of the output."""
    y = node.outputs[0]
    assert y.shape is not None
    d = node.attrs["axis"] % len(y.shape)
    layout = _common_order([v for v in node.inputs if v is not None], build, y.shape)
    if y in build.outputs:
        layout = Layout.row_major(y.shape)
    buffer = build.buffer(y, layout, node.once)
    start = 0
    for v in node.inputs:
        assert v is not None and v.shape is not None
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


def gathered(i: Expr, extent: int) -> Index:
    """A run-time index, with ONNX's negative values, as an Index."""
    if i.op == "const":
        return Index(int(i.attr) % extent if extent else 0)
    at = cast(i, "i32")
    at = select(compare("lt", at, const(0, "i32")), op("add", at, const(extent, "i32")), at)
    return Index(0, ((at, 1),))


@injective("Gather")
def gather(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[..., i, ...] = x[..., indices[i], ...]."""
    x, indices = node.inputs[0], node.inputs[1]
    assert x is not None and indices is not None and x.shape is not None and indices.shape is not None
    d = node.attrs.get("axis", 0) % len(x.shape)
    rank = len(indices.shape)
    at = gathered(ctx.read(indices, idx[d : d + rank]), x.shape[d])
    return ctx.read(x, [*idx[:d], at, *idx[d + rank :]])


@injective("Pad")
def pad(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """Constant mode: a guarded read. Other modes are separate reads of the mirrored place: not here."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    mode = node.attrs.get("mode", "constant")
    if mode not in ("constant", b"constant"):
        raise Unsupported(f"Pad with mode {mode}")
    pads = const_ints(node.inputs[1]) or []
    axes = const_ints(node.input(3)) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    names = [a % len(x.shape) for a in axes] if axes is not None else list(range(len(x.shape)))
    value = node.inputs[2] if len(node.inputs) > 2 else None
    other = const(0, x.dtype) if value is None else ctx.read(value, [Index()] * len(value.shape or ()))
    at = list(idx)
    bounds = []
    for n, d in enumerate(names):
        before, after = pads[n], pads[n + len(names)]
        at[d] = idx[d] + (-before)
        if before > 0 or after > 0:
            bounds.append((at[d], x.shape[d]))
    return ctx.read_padded(x, at, bounds, other) if bounds else ctx.read(x, at)
