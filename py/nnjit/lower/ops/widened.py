"""Products with narrow constant weights and many rows: a tile of columns is widened once, for all rows.

    for each tile of columns:  scratch[k, j] = f32(w[k, j])    then    y[m, j] = sum over k of a[m, k] * scratch[k, j]

The weights keep their type in memory (bytes, or floats of 16 bits); what is widened stays in the nearest cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from nnjit.codegen.expr import Expr, Index, acc, cast, const, load, op
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.registry import Computation

COLUMNS = 8
"""Columns of a tile: two vectors, which six rows of accumulators fill the registers with."""
ROWS = 12
"""Rows from which widening apart pays: a register tile of six rows would widen twice."""
NARROW = frozenset({"i8", "u8", "f16", "bf16"})


def widened(ctx: Context, node: Node) -> Computation | None:
    """MatMul with a constant of narrow elements, or a Cast of one; None where that is not so, or has few rows."""
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    w = b.producer.inputs[0] if b.producer is not None and b.producer in ctx.inlined else b
    lead, (k, n) = shape_of(a)[:-1], shape_of(b)[-2:] if len(shape_of(b)) == 2 else (0, 0)
    if not isinstance(ctx.build.target, Target):  # scratch memory of this kind is WebAssembly's
        return None
    if (
        w is None
        or w.const is None
        or w.dtype not in NARROW
        or n % COLUMNS
        or k < COLUMNS
        or prod(lead) < ROWS
    ):
        return None
    column = Index(0, {"nt": COLUMNS, "j": 1})

    def weight(k: Index) -> Expr:
        return cast(ctx.read(w, [k, column]), "f32")

    return tiled_product(ctx, node, as_rows(ctx, a, k), n, k, weight)


def tiled_product(
    ctx: Context, node: Node, a: Value, n: int, k: int, weight: Callable[[Index], Expr]
) -> Computation:
    """The product of the rows of `a` with weights that `weight(k)` gives at column 8 nt + j."""
    own, lead = ctx.axes(shape_of(a)[:-1], "m")
    column = Index(0, {"nt": COLUMNS, "j": 1})
    tile = ctx.scratch("f32", k * COLUMNS)
    widen = Stage((Axis("kk", k), Axis("j", COLUMNS)), (), "", None, weight(Index.of("kk")), tile,
                  Index(0, {"kk": COLUMNS, "j": 1}))  # fmt: skip
    body = op("mul", ctx.read(a, [*lead, Index.of("k")]), load(tile, Index(0, {"k": COLUMNS, "j": 1}), "f32"))
    value = cast(acc("f32"), node.outputs[0].dtype)
    return Computation(
        [Axis("nt", n // COLUMNS)], [*lead, column], value, [*own, Axis("j", COLUMNS)], [Axis("k", k)], "sum", body,
        [widen], name="matmul_widened",
    )  # fmt: skip


def as_rows(ctx: Context, a: Value, wide: int) -> Value:
    """`a` in f32, rows `wide` long and contiguous: itself, or a copy filled up with zeros."""
    shape = shape_of(a)
    if a.dtype == "f32" and shape[-1] == wide and (wide == 1 or ctx.tensors.place(a)[1].strides[-1] == 1):
        return a
    return copied_rows(ctx, a, (*shape[:-1], wide))


def copied_rows(ctx: Context, a: Value, full: Sequence[int]) -> Value:
    """A copy of `a` in f32 under the shape `full`, which may be longer in its last dimension: zeros there."""
    made, layout = Value(f"{a.name}/rows", "f32", tuple(full)), Layout.row_major(full)
    inner = type(ctx)(ctx.build)
    axes, idx = inner.axes(full)
    bounds = [(idx[-1], shape_of(a)[-1])] if full[-1] > shape_of(a)[-1] else []
    value = inner.read_padded(a, idx, bounds, const(0, a.dtype)) if bounds else inner.read(a, idx)
    buffer = ctx.build.buffer(made, layout, a.once)
    c = Computation(axes, idx, cast(value, "f32"), name="rows")
    ctx.build.emit(inner, c, "f32", buffer, layout, [a.producer] if a.producer else [], a.once)
    return made
