"""Running totals: what takes the elements of an axis in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnjit.codegen.expr import Index, acc, axis, cast, compare, const, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import (
    compute,
    const_ints,
    output,
    shape_of,
)
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.registry import Computation, Unsupported, composite

if TYPE_CHECKING:
    from nnjit.lower.build import Build

QUADRATIC = 1 << 24
"""Comparisons up to which comparing all pairs is taken to be faster than a trip to the reference."""


@composite("CumSum", "CumProd")
def scan(build: Build, node: Node) -> None:
    """y[i] = sum (or product) of x[j] over j <= i, or j < i if exclusive, from the other end if reverse."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, given = shape_of(x), const_ints(node.inputs[1])
    assert given is not None
    d = given[0] % len(shape)
    if 0 in shape:
        output(build, node)
        return
    if not isinstance(build.target, Target):
        compute(build, node, output(build, node), lambda ctx: _all_pairs(ctx, node, d))
        return
    axes, idx = Context(build).axes(shape)
    along = Axis("r", shape[d])
    at = list(idx)
    at[d] = Index(shape[d] - 1, {"r": -1}) if node.attrs.get("reverse", 0) else Index.of("r")
    ctx, wide = Context(build), accumulate(x.dtype)
    layout = Layout.row_major(shape)
    buffer = build.buffer(y, layout, node.once)
    running = "before" if node.attrs.get("exclusive", 0) else "after"
    body = cast(ctx.read(x, at), wide)
    combine = "sum" if node.op == "CumSum" else "prod"
    stage = Stage(
        (), (along,), combine, body, acc(wide), keep="total", terms=(-1, layout.index(at)), running=running
    )
    kept = [a for a in axes if a.name != f"i{d}"]
    build.emit_stages(
        ctx, f"{x.dtype}_{node.op.lower()}", kept, (stage,), buffer, layout, [node], node.once, x.dtype
    )


def _all_pairs(ctx: Context, node: Node, d: int) -> Computation:
    """Each running total by itself, out of all terms: for targets whose elements have no order."""
    x = node.inputs[0]
    assert x is not None
    shape = shape_of(x)
    n = shape[d]
    if x.size is not None and x.size * n > QUADRATIC:
        raise Unsupported(f"{node.op} over {n} elements")
    axes, idx = ctx.axes(shape)
    wide = accumulate(x.dtype)
    at = list(idx)
    at[d] = Index.of("j")
    reverse, exclusive = node.attrs.get("reverse", 0), node.attrs.get("exclusive", 0)
    names = ("gt" if exclusive else "ge") if reverse else ("lt" if exclusive else "le")
    counts = compare(names, axis("j"), axis(idx[d]))
    combine = "sum" if node.op == "CumSum" else "prod"
    body = select(counts, cast(ctx.read(x, at), wide), const(0 if combine == "sum" else 1, wide))
    return Computation(
        axes, idx, cast(acc(wide), x.dtype), reduce=[Axis("j", n)], combine=combine, body=body, name="scan"
    )
