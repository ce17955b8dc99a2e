"""Running totals and the few largest: what takes the elements of an axis in order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import Index, acc, axis, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import (
    compute,
    const_ints,
    fill,
    layout_of,
    output,
    part,
    shape_of,
    temporary,
)
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.norm import keep
from nnjit.lower.registry import Computation, Unsupported, composite
from nnjit.lower.turns import repeat

if TYPE_CHECKING:
    from nnjit.lower.build import Build

SELECTED = 1 << 27
"""Elements looked at, over all turns, up to which one extreme is taken after the other."""
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


@composite("TopK")
def top_k(build: Build, node: Node) -> None:
    """Each element's rank is how many come before it (larger, or equal and earlier); those below k are stored
    at their rank. The others go to a row past the end, which nobody reads."""
    x, given = node.inputs[0], const_ints(node.inputs[1])
    assert x is not None and given is not None
    shape, k = list(shape_of(x)), given[0]
    d = node.attrs.get("axis", -1) % len(shape)
    n = shape[d]
    if x.dtype == "bool":
        raise Unsupported("TopK of bool")
    if 0 < 2 * k < n and (x.size or 0) * k <= SELECTED and isinstance(build.target, Target):
        select_one_by_one(build, node, d, k)
        return
    if (x.size or 0) * n > QUADRATIC:
        raise Unsupported(f"TopK of {n} {x.dtype} elements")
    ranks = temporary(build, node, "rank", "i32", shape)

    def rank(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape)
        other = list(idx)
        other[d] = Index.of("j")
        mine, its = ctx.read(x, idx), ctx.read(x, other)
        before = compare("gt" if node.attrs.get("largest", 1) else "lt", its, mine)
        tie = op("and", compare("eq", its, mine), compare("lt", axis("j"), axis(idx[d])))
        body = select(op("or", before, tie), const(1, "i32"), const(0, "i32"))
        return Computation(
            axes, idx, acc("i32"), reduce=[Axis("j", n)], combine="sum", body=body, name="rank"
        )

    if k:
        compute(build, node, ranks, rank)
    for number, name in enumerate(("values", "indices")):
        if number >= len(node.outputs) or not node.outputs[number].name:
            continue
        y = node.outputs[number]
        longer = temporary(build, node, name, y.dtype, [k + 1 if i == d else e for i, e in enumerate(shape)])

        def place(ctx: Context, number: int = number) -> Computation:
            axes, idx = ctx.axes(shape)
            at = list(idx)
            at[d] = Index(0, ((op("min", ctx.read(ranks, idx), const(k, "i32")), 1),))
            value = ctx.read(x, idx) if number == 0 else axis(idx[d], "i64")
            # elements past k share a place: along d they follow one another on one thread
            own = [a for a in axes if a.name == f"i{d}"]
            return Computation([a for a in axes if a not in own], at, value, own=own, name="place")

        if k:
            compute(build, node, longer, place)
        buffer, layout = build.tensors.place(longer)
        build.tensors.put(y, buffer, layout.sliced(d, 0, 1, k))


def select_one_by_one(build: Build, node: Node, d: int, k: int) -> None:
    """TopK as a loop of the plan: each turn finds the best element behind the last one found, by value, then
    by place.

    Both outputs are kept a turn each, [k + 1, ...], the first of them a value and place ahead of all."""
    x = node.inputs[0]
    assert x is not None
    shape = shape_of(x)
    n, rest = shape[d], [e for i, e in enumerate(shape) if i != d]
    largest = node.attrs.get("largest", 1)
    low, high = LIMITS.get(x.dtype, (-math.inf, math.inf))
    values = temporary(build, node, "values", x.dtype, [k + 1, *rest])
    places = temporary(build, node, "places", "i32", [k + 1, *rest])

    def turn(value: Value, number: int) -> Value:
        return part(build, value, layout_of(build, value).sliced(0, number, 1, 1))

    fill(build, node, turn(values, 0), lambda ctx, idx: const(high if largest else low, x.dtype), "ahead")
    fill(build, node, turn(places, 0), lambda ctx, idx: const(-1, "i32"), "ahead")
    ctx = Context(build)
    axes, at = ctx.axes(rest)
    here = [*at[:d], Index.of("r"), *at[d:]]
    element, place = ctx.read(x, here), axis(Index.of("r"))
    last, where = (ctx.read(turn(v, 0), [Index(), *at]) for v in (values, places))
    behind = op("and", compare("eq", element, last), compare("gt", place, where))
    behind = op("or", compare("lt" if largest else "gt", element, last), behind)
    nothing, extreme = (low, "max") if largest else (high, "min")
    along = (Axis("r", n),)
    best = keep("best", along, extreme, select(behind, element, const(nothing, x.dtype)), acc(x.dtype))
    is_best = op("and", behind, compare("eq", element, local("best", x.dtype)))
    buffer, layout = build.tensors.place(places)
    layout = layout.sliced(0, 1, 1, 1)
    out = ctx.operand(buffer, layout.offset, "i32", layout.span, "out")
    # (a NaN is behind nothing: where no other is left, the place stays inside)
    first = Stage((), along, "min", select(is_best, place, const(LIMITS["i32"][1], "i32")),
                  op("min", acc("i32"), const(n - 1, "i32")), out, layout.index([Index(), *at]))  # fmt: skip
    into, of = build.tensors.place(values)
    of = of.sliced(0, 1, 1, 1)
    store = Stage((), (), "", None, local("best", x.dtype), -1, of.index([Index(), *at]))
    mark = len(build.steps)
    stages = (best, first, store)
    build.emit_stages(ctx, f"{x.dtype}_top", axes, stages, into, of, [node], node.once, x.dtype)
    by = layout_of(build, values).strides[0]
    repeat(build, mark, k, {into: by, buffer: by}, frozenset())
    for number, source in enumerate((values, places)):
        if number < len(node.outputs) and node.outputs[number].name:
            y = output(build, node, number)
            found = layout_of(build, source).sliced(0, 1, 1, k)
            order = [*range(1, d + 1), 0, *range(d + 1, len(shape))]
            seen = part(build, source, found.permuted(order))
            fill(build, node, y, lambda ctx, idx, s=seen, t=y.dtype: cast(ctx.read(s, idx), t), "top")  # type: ignore[misc]
