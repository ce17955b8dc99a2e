"""Scatters: writes at places known only at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnjit.codegen.expr import Expr, Index, axis, cast, const, load, op
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import (
    compute,
    copy,
    output,
    shape_of,
)
from nnjit.lower.ops.gather import bounded, within, wrapped
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Computation, composite

if TYPE_CHECKING:
    from nnjit.lower.build import Build

REDUCTION = {"add": "add", "mul": "mul", "max": "max", "min": "min"}


def inside(i: Expr, extent: int) -> Index:
    """A run-time index brought into 0..extent-1: a store stays in its buffer whatever a model is fed."""
    return Index(0, ((bounded(wrapped(i, extent), extent), 1),))


def _combined(node: Node, old: Expr, new: Expr) -> Expr:
    how = text(node, "reduction", "none")
    if how == "none":
        return new
    wide = accumulate(new.dtype)
    return cast(op(REDUCTION[how], cast(old, wide), cast(new, wide)), new.dtype)


def _written(ctx: Context, node: Node, y: Value, at: Sequence[Index], new: Expr) -> Expr:
    """What goes to `at`: the update, or it and what lies there (operand -1 is the kernel's own output)."""
    _, layout = ctx.tensors.place(y)
    return _combined(node, load(-1, layout.index(list(at)), y.dtype), new)


@composite("ScatterND")
def scatter_nd(build: Build, node: Node) -> None:
    """A copy of the data, then data[indices[i]] = updates[i], one i after the other, slices in parallel."""
    data, indices, updates = (v for v in node.inputs[:3])
    assert data is not None and updates is not None
    shape, of = shape_of(data), shape_of(indices)
    depth, outer = of[-1], of[:-1]
    within(node, indices, shape[:depth])
    y = output(build, node)
    copy(build, node, data, y)

    def rule(ctx: Context) -> Computation:
        slices, rest = ctx.axes(shape[depth:], "s")
        serial, row = ctx.axes(outer, "u")
        at = [inside(ctx.read(indices, [*row, Index(n)]), shape[n]) for n in range(depth)]
        idx = [*at, *rest]
        value = _written(ctx, node, y, idx, ctx.read(updates, [*row, *rest]))
        return Computation(slices, idx, value, own=serial)

    if 0 not in shape_of(updates):
        compute(build, node, y, rule)


@composite("ScatterElements")
def scatter_elements(build: Build, node: Node) -> None:
    """A copy of the data, then data[indices[i, j], j] = updates[i, j] along axis 0, and so on."""
    data, indices, updates = (v for v in node.inputs[:3])
    assert data is not None and updates is not None
    shape, of = shape_of(data), shape_of(indices)
    d = node.attrs.get("axis", 0) % len(shape)
    within(node, indices, [shape[d]])
    y = output(build, node)
    copy(build, node, data, y)

    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(of)
        along = [a for a in axes if a.name == f"i{d}"]
        at = list(idx)
        at[d] = inside(ctx.read(indices, idx), shape[d])
        value = _written(ctx, node, y, at, ctx.read(updates, idx))
        return Computation([a for a in axes if a not in along], at, value, own=along)

    if 0 not in of:
        compute(build, node, y, rule)


@composite("TensorScatter")
def tensor_scatter(build: Build, node: Node) -> None:
    """The cache with update[b, ..., s, ...] at write_indices[b] + s along `axis`, modulo its length if circular."""
    cache, updates, begin = node.inputs[0], node.inputs[1], node.input(2)
    assert cache is not None and updates is not None
    shape, of = shape_of(cache), shape_of(updates)
    d = node.attrs.get("axis", -2) % len(shape)
    y = output(build, node)
    copy(build, node, cache, y)

    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(of)
        place = axis(idx[d])
        if begin is not None:
            place = op("add", place, cast(ctx.read(begin, [idx[0]]), "i32"))
        if text(node, "mode", "linear") == "circular":
            place = op("mod", place, const(shape[d], "i32"))
        at = list(idx)
        at[d] = inside(place, shape[d])
        own = [a for a in axes if a.name == f"i{d}"]
        return Computation([a for a in axes if a not in own], at, ctx.read(updates, idx), own=own)

    if 0 not in of:
        compute(build, node, y, rule)
