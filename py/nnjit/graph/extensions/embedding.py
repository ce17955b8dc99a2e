"""Embeddings: EmbedLayerNormalization of BERT's three tables, GatherBlockQuantized of one with few bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Value
from .body import Body
from .declare import FLOATS, operator


@operator(
    "EmbedLayerNormalization",
    "input_ids:I segment_ids:I? word_embedding:T position_embedding:T segment_embedding:T? gamma:T beta:T mask:I?"
    " position_ids:I?",
    "output:T mask_index:I? embedding_sum:T?", "epsilon:float=1e-12 mask_index_type:int=0", T="f32 f16", I="i32",
)  # fmt: skip
def embed_layer_normalization(b: Body) -> Sequence[Value | None]:
    """LayerNormalization(word[ids] + position[0, 1, …] + segment[segment_ids]), and how many ones the mask has"""
    ids, table = b.given("input_ids"), b.given("position_embedding")
    batch, length = b.dims(ids, 2)
    x = b("Gather", b.given("word_embedding"), ids, axis=0)
    at = b.maybe("position_ids")
    if at is None:
        if b.dims(table, 2)[0] < length:
            b.fail("there are fewer positions than words", f"at least {length}", b.shape(table)[0])
        place = b.slice(table, 0, 0, length)
        place = b.reshape(place, (1, *b.shape(place)))
    else:
        if b.dims(at, 2) not in ((batch, length), (1, length)):
            b.fail("position_ids does not fit input_ids", [batch, length], list(b.shape(at)))
        place = b("Gather", table, at, axis=0)
    x = b("Add", x, place)
    segments, kinds = b.maybe("segment_ids"), b.maybe("segment_embedding")
    if segments is not None and kinds is not None:
        x = b("Add", x, b("Gather", kinds, segments, axis=0))
    y = b("LayerNormalization", x, b.given("gamma"), b.given("beta"), axis=-1, epsilon=b.attr("epsilon"))
    count: Value | None = None
    if b.wants(1):
        mask = b.maybe("mask")
        count = b.const(np.zeros(batch), "i32")
        if mask is not None:
            ones = b.cast(b("Equal", mask, b.const(1, "i32")), "i32")
            count = b("ReduceSum", ones, b.const([1]), keepdims=0)
    return [y, count, x]


@operator(
    "GatherBlockQuantized", "data:T1 indices:Tind scales:T2 zero_points:T1?", "output:T2",
    "gather_axis:int=0 quantize_axis:int=1 block_size:int=128 bits:int=4",
    T1="int4 uint4 u8 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float4e2m1", T2=FLOATS, Tind="i32 i64",
)  # fmt: skip
def gather_block_quantized(b: Body) -> Value:
    """Rows of codes, their scales and zero points are gathered, and these few are made numbers"""
    data, indices, scales, zero = (
        b.given("data"),
        b.given("indices"),
        b.given("scales"),
        b.maybe("zero_points"),
    )
    rank = len(b.shape(data))
    gather, along = b.attr("gather_axis") % rank, b.attr("quantize_axis") % rank
    if data.dtype not in ("int4", "uint4", "u8"):
        b.refuse(f"data of {data.dtype}", "quantise to integers of 2, 4 or 8 bits")
    bits = b.attr("bits") if data.dtype == "u8" else 4
    if bits not in (2, 4, 8):
        b.fail(f"{bits} bits", "2, 4 or 8", bits)
    if gather == along or along != rank - 1:
        b.refuse(
            f"gather_axis {gather} and quantize_axis {along}", "gather rows and quantise along the last axis"
        )
    signed = data.dtype == "int4"
    default = 0 if data.dtype != "u8" else 1 << (bits - 1)
    wide = b.shape(data)[-1] * (8 // bits if data.dtype == "u8" else 1)
    blocks, block = b.shape(scales)[-1], b.attr("block_size")
    if blocks != -(-wide // block):
        b.fail("scales are not one for each block", -(-wide // block), blocks)

    def numbers(x: Value, count: int) -> Value:
        """The gathered rows of x as `count` numbers each."""
        held, width = _held(b, x, bits)
        return _numbers(b, b("Gather", held, indices, axis=gather), width, count, signed, scales.dtype)

    codes = numbers(data, wide)
    scale = b("Gather", scales, indices, axis=gather)
    middle = b.const(default, scales.dtype) if zero is None else numbers(zero, blocks)
    outer = b.shape(codes)[:-1]
    if wide % block == 0:
        codes = b.reshape(codes, (*outer, blocks, block))
        scale = b.reshape(scale, (*outer, blocks, 1))
        middle = middle if zero is None else b.reshape(middle, (*outer, blocks, 1))
        return b.reshape(b("Mul", b("Sub", codes, middle), scale), (*outer, wide))
    of = b.const(np.arange(wide) // block)
    middle = middle if zero is None else b("Gather", middle, of, axis=-1)
    return b("Mul", b("Sub", codes, middle), b("Gather", scale, of, axis=-1))


def _held(b: Body, x: Value, bits: int) -> tuple[Value, int]:
    """Bytes with the codes, and how many bits of a byte are one: constants of 4 bits stay as they lie."""
    shape = b.shape(x)
    if x.dtype == "u8":
        return x, bits
    if x.const is None or shape[-1] % 2:
        return b.cast(x, "i8" if x.dtype == "int4" else "u8"), 8
    return b.value(x.const.as_bytes((*shape[:-1], shape[-1] // 2))), bits


def _numbers(b: Body, x: Value, bits: int, count: int, signed: bool, dtype: str) -> Value:
    """`count` numbers a row, from bytes that hold 8 / bits of them, lowest bits first."""
    shape, each = b.shape(x), 8 // bits
    if -(-count // each) != shape[-1]:
        b.fail(
            f"{shape[-1]} bytes a row do not hold {count} codes of {bits} bits", -(-count // each), shape[-1]
        )
    if bits == 8:
        return b.cast(x, dtype)
    shifts = b.const(np.arange(each) * bits, "u8")
    codes = b("BitShift", b.reshape(x, (*shape, 1)), shifts, direction="RIGHT")
    codes = b("BitwiseAnd", codes, b.const((1 << bits) - 1, "u8"))
    if signed:  # two's complement
        codes = b("BitwiseXor", codes, b.const(1 << (bits - 1), "u8"))
        number = b("Sub", b.cast(codes, dtype), b.const(1 << (bits - 1), dtype))
    else:
        number = b.cast(codes, dtype)
    return b.slice(b.reshape(number, (*shape[:-1], shape[-1] * each)), len(shape) - 1, 0, count)
