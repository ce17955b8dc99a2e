"""Scatters and scans: writes at places known only at run time, running sums, positions of the largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, load, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import compute, const_ints, copy, output, shape_of, temporary
from nnjit.lower.ops.gather import wrapped
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Computation, Unsupported, composite

if TYPE_CHECKING:
    from nnjit.lower.build import Build

REDUCTION = {"add": "add", "mul": "mul", "max": "max", "min": "min"}
QUADRATIC = 1 << 24
"""Comparisons up to which comparing all pairs is taken to be faster than a trip to the reference."""


def inside(i: Expr, extent: int) -> Index:
    """A run-time index brought into 0..extent-1: a store stays in its buffer whatever a model is fed."""
    at = wrapped(i, extent)
    last = const(max(0, extent - 1), "i32")
    return Index(0, ((op("max", op("min", at, last), const(0, "i32")), 1),))


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
    if (x.size or 0) * n > QUADRATIC or x.dtype == "bool":
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
