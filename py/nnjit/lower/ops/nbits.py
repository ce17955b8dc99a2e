"""MatMulNBits: products with weights of 4 or 8 bits in blocks, which stay packed in memory.

    y[m, n] = sum over k of a[m, k] * (code[n, k] - zero[n, k / block]) * scale[n, k / block]

A word of 32 bits holds 8 (or 4) neighbours along k of one column; a shift and a mask bring each out in registers.
"""

from __future__ import annotations

from nnjit.codegen.expr import Expr, Index, acc, axis, cast, const, load, op
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.widened import as_rows, column_of, many_rows, tile_columns, tiled_product
from nnjit.lower.registry import Computation, Unsupported, computation


@computation("MatMulNBits")
def matmul_nbits(ctx: Context, node: Node, out: int) -> Computation:
    """The words, scales and zero points are read by column, block and word; the bits of a word one after another."""
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    k, n, bits, block = (int(node.attrs.get(x, 4)) for x in ("K", "N", "bits", "block_size"))
    if bits not in (4, 8):
        raise Unsupported(f"weights of {bits} bits")
    if node.input(4) is not None:
        raise Unsupported("weights whose rows are out of order (g_idx)")
    each, blocks = 32 // bits, -(-k // block)
    words = block // each
    axes, lead = ctx.axes(shape_of(a)[:-1])
    place = Index(0, {"block": block, "word": each, "bit": 1})
    apart = many_rows(ctx, a, n)
    tile = tile_columns(n, blocks * block)
    column = column_of(tile) if apart else Index.of("n") if n > 1 else Index()
    word = _word(ctx, b, column * (blocks * words) + Index(0, {"block": words, "word": 1}))
    shift = axis(Index(0, {"bit": bits}))
    code = cast(op("band", Expr("shr", "i32", (word, shift)), const((1 << bits) - 1, "i32")), "f32")
    at = column * blocks + Index.of("block")
    scale = cast(_flat(ctx, node.inputs[2], at), "f32")
    middle: Expr = const(-float(1 << (bits - 1)), "f32")
    if node.input(3) is not None:
        middle = Expr("neg", "f32", (cast(_zero(ctx, node.inputs[3], n, blocks, bits, at), "f32"),))
    right = Expr("fma", "f32", (code, scale, op("mul", middle, scale)))
    reduce = [Axis("block", blocks), Axis("word", words), Axis("bit", each)]
    a = as_rows(ctx, a, blocks * block)
    if apart:
        return tiled_product(ctx, node, a, n, reduce, right, tile, node.input(5))
    left = ctx.read(a, [*lead, place])
    value: Expr = acc("f32")
    if node.input(5) is not None:
        value = op("add", value, cast(ctx.read(node.inputs[5], [column]), "f32"))
    axes = [*axes, Axis("n", n)]
    return Computation(
        axes, [*lead, column], cast(value, node.outputs[0].dtype), reduce=reduce, combine="sum",
        body=op("mul", left, right), name=f"matmul_{bits}bits",
    )  # fmt: skip


def _word(ctx: Context, b: Value, at: Index) -> Expr:
    """A word of the weights' bytes; an i32, because a vector of unsigned ones has no quick way to floats."""
    buffer, layout = ctx.tensors.place(b)
    if not layout.contiguous or layout.offset % 4:
        raise Unsupported("weights that are a view")
    return load(ctx.operand(buffer, layout.offset // 4, "i32", layout.size // 4), at, "i32")


def _flat(ctx: Context, v: Value | None, at: Index) -> Expr:
    """Element `at` of a tensor that may be flat or have a row for each column of the weights."""
    assert v is not None
    buffer, layout = ctx.tensors.place(v)
    if not layout.contiguous:
        raise Unsupported(f"{v.name} is a view")
    return load(ctx.operand(buffer, layout.offset, v.dtype, layout.size), at, v.dtype)


def _zero(ctx: Context, v: Value | None, n: int, blocks: int, bits: int, at: Index) -> Expr:
    """The zero point of a block: as it is, or taken out of its byte once, at load."""
    assert v is not None
    if v.dtype != "u8" or bits == 8:
        return _flat(ctx, v, at)
    per_byte, row = 8 // bits, -(-blocks * bits // 8)
    made, layout = Value(f"{v.name}/bytes", "u8", (n, blocks)), Layout.row_major((n, blocks))
    inner = type(ctx)(ctx.build)
    axes = [Axis("n", n), Axis("block", blocks)]
    number = axis(Index.of("block"))
    byte = Index(0, {"n": row, op("div", number, const(per_byte, "i32")): 1})
    shift = op("mul", Expr("rem", "i32", (number, const(per_byte, "i32"))), const(bits, "i32"))
    code = op(
        "band", Expr("shr", "i32", (cast(_flat(inner, v, byte), "i32"), shift)), const((1 << bits) - 1, "i32")
    )
    buffer = ctx.build.buffer(made, layout, v.once)
    c = Computation(axes, [Index.of("n"), Index.of("block")], cast(code, "u8"), name="zero_points")
    ctx.build.emit(inner, c, "u8", buffer, layout, [v.producer] if v.producer else [], v.once)
    return _flat(ctx, made, at)
