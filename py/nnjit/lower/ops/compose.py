"""What rules are written with: constant operands, temporaries, views of them, kernels that fill them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnjit.codegen.expr import Expr, Index
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.registry import Computation, Unsupported

if TYPE_CHECKING:
    from nnjit.lower.build import Build
    from nnjit.lower.kernels import Kernels

Rule = Callable[[Context], Computation]
Element = Callable[[Context, Sequence[Index]], Expr]


def shape_of(value: Value | None) -> tuple[int, ...]:
    assert value is not None and value.shape is not None
    return value.shape


def temporary(build: Build, node: Node, stem: str, dtype: str, shape: Sequence[int]) -> Value:
    """A row-major tensor of this node's own."""
    made = Value(f"{node.outputs[0].name}/{stem}", dtype, tuple(shape))
    build.buffer(made, Layout.row_major(shape), node.once)
    return made


def output(build: Build, node: Node, number: int = 0, layout: Layout | None = None) -> Value:
    """An output of the node, with its buffer made."""
    value = node.outputs[number]
    build.buffer(value, layout or Layout.row_major(shape_of(value)), node.once)
    return value


def part(build: Build, value: Value, layout: Layout) -> Value:
    """Some elements of `value`'s buffer, or all of them in another order, as a tensor."""
    made = Value(value.name, value.dtype, layout.shape)
    buffer, _ = build.tensors.place(value)
    build.tensors.put(made, buffer, layout)
    return made


def layout_of(build: Build, value: Value | None) -> Layout:
    assert value is not None
    return build.tensors.place(value)[1]


def reshaped(build: Build, node: Node, value: Value | None, shape: Sequence[int]) -> Value:
    """`value` under another shape: a view if its memory order allows it, else a copy."""
    assert value is not None
    layout = layout_of(build, value).reshaped(shape)
    if layout is None:
        copy = temporary(build, node, "dense", value.dtype, shape_of(value))
        build.copy_into(value, *build.tensors.place(copy), [node], node.once)
        return reshaped(build, node, copy, shape)
    return part(build, value, layout)


def constant(build: Kernels, node: Node, stem: str, array: Any) -> Value:
    """A constant made while lowering (a table of indices or weights)."""
    return Value.constant(f"{node.outputs[0].name}/{stem}", np.ascontiguousarray(array))


def compute(build: Build, node: Node, into: Value, rule: Rule) -> None:
    """A kernel of this node that fills `into`."""
    ctx = Context(build)
    c = rule(ctx)
    buffer, layout = build.tensors.place(into)
    c.name = c.name or node.op.lower()
    build.emit(ctx, c, into.dtype, buffer, layout, [node], node.once)


def fill(build: Build, node: Node, into: Value, element: Element, name: str = "") -> None:
    """A kernel without reduction: `element(ctx, idx)` is what `into` holds at idx."""

    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape_of(into))
        return Computation(axes, idx, element(ctx, idx), name=name)

    compute(build, node, into, rule)


def copy(build: Build, node: Node, source: Value, into: Value) -> None:
    """A kernel that copies a tensor onto one of the same shape."""
    fill(build, node, into, lambda ctx, idx: ctx.read(source, idx), "copy")


def const_ints(v: Value | None) -> list[int] | None:
    """The integers of a constant tensor; None for an absent one. Unsupported if known only at run time."""
    if v is None:
        return None
    if v.const is None:
        raise Unsupported(f"{v.name} is computed at run time")
    return [int(x) for x in v.const.numpy().reshape(-1)]
