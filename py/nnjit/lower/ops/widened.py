"""Products with narrow constant weights and many rows: a tile of columns is widened once, for all rows.

    for each tile of columns:  scratch[k, j] = f32(w[k, j])    then    y[m, j] = sum over k of a[m, k] * scratch[k, j]

The weights keep their type in memory (bytes, or floats of 16 bits); what is widened stays in the nearest cache.
"""

from __future__ import annotations

from collections.abc import Sequence
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
"""Columns of a tile: two vectors, which six rows of accumulators fill the registers with ..."""
WIDE_COLUMNS = 24
"""... or six, for two rows: the faster tile where it divides the weights' columns,"""
WIDE_BYTES = 160 * 1024
"""and a widened one leaves a second-level cache room for the rows that pass by."""
ROWS = 12
"""Rows from which widening apart pays: a register tile of six rows would widen twice."""
NARROW = frozenset({"i8", "u8", "f16", "bf16"})


def widened(ctx: Context, node: Node) -> Computation | None:
    """MatMul with a constant of narrow elements, or a Cast of one; None where that is not so, or has few rows."""
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    w = b.producer.inputs[0] if b.producer is not None and b.producer in ctx.inlined else b
    k, n = shape_of(b) if len(shape_of(b)) == 2 else (0, 0)
    if w is None or w.const is None or w.dtype not in NARROW or k < COLUMNS or not many_rows(ctx, a, n):
        return None
    tile = tile_columns(n, k)
    weight = cast(ctx.read(w, [Index.of("kk"), column_of(tile)]), "f32")
    return tiled_product(ctx, node, as_rows(ctx, a, k), n, [Axis("kk", k)], weight, tile)


def tile_columns(n: int, k: int) -> int:
    """Columns that are widened together."""
    return WIDE_COLUMNS if n % WIDE_COLUMNS == 0 and 4 * k * WIDE_COLUMNS <= WIDE_BYTES else COLUMNS


def column_of(tile: int) -> Index:
    """The column of the weights in terms of the tile of so many and the place in it."""
    return Index(0, {"nt": tile, "j": 1})


def many_rows(ctx: Context, a: Value, n: int) -> bool:
    """Whether a product of the rows of `a` with n columns should widen them apart. Scratch memory of this kind is
    WebAssembly's."""
    wasm = isinstance(ctx.build.target, Target)
    return wasm and n % COLUMNS == 0 and prod(shape_of(a)[:-1]) >= ROWS


def tiled_product(
    ctx: Context,
    node: Node,
    a: Value,
    n: int,
    along: Sequence[Axis],
    weight: Expr,
    columns: int,
    bias: Value | None = None,
) -> Computation:
    """The product of the rows of `a` with n columns of `weight`, which is written in terms of column_of(columns) and of
    the axes `along`: those of the sum, outermost first."""
    own, lead = ctx.axes(shape_of(a)[:-1], "m")
    k = prod(x.extent for x in along)
    tile, place, step = ctx.scratch("f32", k * columns), Index.of("j"), columns
    for x in reversed(along):
        place, step = place + Index(0, {x.name: step}), step * x.extent
    widen = Stage((*along, Axis("j", columns)), (), "", None, weight, tile, place)
    body = op("mul", ctx.read(a, [*lead, Index.of("k")]), load(tile, Index(0, {"k": columns, "j": 1}), "f32"))
    value = acc("f32")
    if bias is not None:
        value = op("add", value, cast(ctx.read(bias, [column_of(columns)]), "f32"))
    value = cast(value, node.outputs[0].dtype)
    return Computation(
        [Axis("nt", n // columns)], [*lead, column_of(columns)], value, [*own, Axis("j", columns)], [Axis("k", k)],
        "sum", body, [widen], name=f"{node.op.lower()}_widened",
    )  # fmt: skip


def in_floats(ctx: Context, a: Value) -> Value:
    """`a` itself, or in f32 if it has 16 bits: a factor that is read again for each tile of columns is widened
    once, where that takes several instructions."""
    small = a.dtype in ("f16", "bf16") and isinstance(ctx.build.target, Target) and 0 not in shape_of(a)
    return copied_rows(ctx, a, shape_of(a)) if small else a


def as_rows(ctx: Context, a: Value, wide: int) -> Value:
    """`a` in f32, rows `wide` long and contiguous: itself, or a copy filled up with zeros."""
    shape = shape_of(a)
    if a.dtype == "f32" and shape[-1] == wide and (wide == 1 or ctx.tensors.place(a)[1].strides[-1] == 1):
        return a
    return copied_rows(ctx, a, (*shape[:-1], wide))


def copied_rows(ctx: Context, a: Value, full: Sequence[int]) -> Value:
    """A copy of `a` in f32 under the shape `full`, which may be longer in its last dimension: zeros there. One for all
    who want it: the products of queries, keys and values read the same rows."""
    known = ctx.build.rows.get((a, tuple(full)))
    if known is not None:
        return known
    made, layout = Value(f"{a.name}/rows", "f32", tuple(full)), Layout.row_major(full)
    inner = type(ctx)(ctx.build)
    axes, idx = inner.axes(full)
    bounds = [(idx[-1], shape_of(a)[-1])] if full[-1] > shape_of(a)[-1] else []
    value = inner.read_padded(a, idx, bounds, const(0, a.dtype)) if bounds else inner.read(a, idx)
    buffer = ctx.build.buffer(made, layout, a.once)
    c = Computation(axes, idx, cast(value, "f32"), name="rows")
    ctx.build.emit(inner, c, "f32", buffer, layout, [a.producer] if a.producer else [], a.once)
    ctx.build.rows[a, tuple(full)] = made
    return made
