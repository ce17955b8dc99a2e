"""Attention with a head of keys for each of queries: Attention, MultiHeadAttention and its form for decoders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Value
from .attending import LOWEST, attend, heads_of, joined_bias, merged, padding_bias, scale_of, scores_of
from .body import Body
from .declare import FLOATS, operator

_SHARED = "pass the past as an input of its own length and take the present as an output"


@operator(
    "MultiHeadAttention",
    "query:T key:T? value:T? bias:T? key_padding_mask:M? attention_bias:T? past_key:T? past_value:T?"
    " past_sequence_length:M? cache_indirection:M?",
    "output:T present_key:T? present_value:T? qk:QK?",
    "num_heads:int! mask_filter_value:float=-10000 scale:float=0 unidirectional:int=0",
    T=FLOATS, M="i32", QK=FLOATS,
)  # fmt: skip
def multi_head_attention(b: Body) -> Sequence[Value | None]:
    """Projected queries, keys and values, in any of the operator's packings"""
    for name in ("past_sequence_length", "cache_indirection"):
        if b.maybe(name) is not None:
            b.refuse(name, _SHARED)
    heads = b.attr("num_heads")
    q, k, v = _projected(b, heads)
    return _attended(b, q, k, v, b.maybe("key_padding_mask"), bool(b.attr("unidirectional")))


def _projected(b: Body, heads: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values [B,H,S,D], their bias added."""
    query, key, bias = b.given("query"), b.maybe("key"), b.maybe("bias")
    if len(b.dims(query, 3, 5)) == 5:
        q, k, v = (_flat(b, x) for x in _unpacked(b, query, 3))
    elif key is None:
        b.fail("key is missing, and the query is not packed with it")
    elif len(b.dims(key, 3, 4, 5)) == 5:
        q, (k, v) = query, (_flat(b, x) for x in _unpacked(b, key, 2))
    else:
        q, k, v = query, key, b.given("value")
        if len(b.shape(k)) == 4:
            q = q if bias is None else b("Add", q, b.slice(bias, 0, 0, b.shape(q)[2]))
            return heads_of(b, q, heads), k, v
    if bias is not None:
        wide = (b.shape(q)[2], b.shape(k)[2], b.shape(v)[2])
        if b.shape(bias) != (sum(wide),):
            b.fail("the bias is not as long as a query, a key and a value", [sum(wide)], list(b.shape(bias)))
        q, k, v = (b("Add", x, part) for x, part in zip((q, k, v), b.split(bias, 0, wide), strict=True))
    return heads_of(b, q, heads), heads_of(b, k, heads), heads_of(b, v, heads)


def _unpacked(b: Body, x: Value, count: int) -> list[Value]:
    """[B,S,H,count,D] → `count` of [B,S,H,1,D]"""
    if b.shape(x)[3] != count:
        b.fail(f"the packed operand does not hold {count}", count, b.shape(x)[3])
    return b.split(x, 3, [1] * count)


def _flat(b: Body, x: Value) -> Value:
    """[B,S,H,1,D] → [B,S,H·D]"""
    batch, length, heads, _, depth = b.shape(x)
    return b.reshape(x, (batch, length, heads * depth))


def _attended(
    b: Body, q: Value, k: Value, v: Value, mask: Value | None, causal: bool
) -> Sequence[Value | None]:
    """The outputs of the operator: attention over the past and the new keys, these keys and values, the scores."""
    past_key, past_value = b.maybe("past_key"), b.maybe("past_value")
    past = 0
    if (past_key is None) != (past_value is None):
        b.fail("past_key and past_value go together")
    if past_key is not None and past_value is not None:
        past = b.dims(past_key, 4)[2]
        k, v = b("Concat", past_key, k, axis=2), b("Concat", past_value, v, axis=2)
    batch, _, rows, depth = b.shape(q)
    keys = b.shape(k)[2]
    bias = b.maybe("attention_bias")
    if bias is not None:
        b.dims(bias, 4)
    if mask is not None:
        bias = joined_bias(b, padding_bias(b, mask, batch, rows, keys, q.dtype), bias)
    scale = scale_of(b, depth)
    y = attend(b, q, k, v, bias, scale, causal, past)
    return [merged(b, y), k, v, scores_of(b, q, k, bias, scale, causal, past) if b.wants(3) else None]


@operator(
    "DecoderMaskedMultiHeadAttention",
    "query:T key:T? value:T? mask_index:M? attention_bias:T? past_key:T? past_value:T? past_sequence_length:M?"
    " beam_width:M? cache_indirection:M? bias:T?",
    "output:T present_key:T? present_value:T? qk:QK?",
    "num_heads:int! mask_filter_value:float=-10000 scale:float=0 past_present_share_buffer:int=0 output_qk:int=0",
    T="f32 f16", M="i32", QK="f32 f16",
)  # fmt: skip
def decoder_masked_multi_head_attention(b: Body) -> Sequence[Value | None]:
    """MultiHeadAttention of one row a sentence: with all keys at hand, or with a cache that the new one goes into"""
    for name in ("beam_width", "cache_indirection"):
        if b.maybe(name) is not None:
            b.refuse(name, "search among beams outside of the model")
    heads, query, key, past_value = (
        b.attr("num_heads"),
        b.given("query"),
        b.maybe("key"),
        b.maybe("past_value"),
    )
    if b.dims(query, 3)[1] != 1:
        b.fail("the query has more than one row", 1, b.shape(query)[1])
    if key is not None:
        q, k, v = _projected(b, heads)
    else:  # packed beside each other
        bias, wide = b.maybe("bias"), b.shape(query)[2]
        deep = wide // 3 if past_value is None else heads * b.dims(past_value, 4)[3]
        query = query if bias is None else b("Add", query, bias)
        q, k, v = (heads_of(b, x, heads) for x in b.split(query, 2, [(wide - deep) // 2] * 2 + [deep]))
    mask = b.maybe("mask_index")
    if not b.attr("past_present_share_buffer"):
        return _attended(b, q, k, v, mask, False)
    return _in_cache(b, q, k, v, mask)


def _in_cache(b: Body, q: Value, k: Value, v: Value, mask: Value | None) -> Sequence[Value | None]:
    """The outputs where the new key takes a place in the past that comes with the run."""
    before = b.given("past_sequence_length")
    if before.size != 1:
        b.fail("past_sequence_length is not one number", [1], list(b.shape(before)))
    before = b.reshape(before, (1, 1, 1, 1))
    past_key, past_value = b.given("past_key"), b.given("past_value")
    batch, _, length, depth = b.dims(past_key, 4)
    here = b("Equal", b.const(np.arange(length).reshape(1, 1, length, 1), "i32"), before)
    k, v = b("Where", here, k, past_key), b("Where", here, v, past_value)
    bias = b.maybe("attention_bias")
    if mask is not None:
        bias = joined_bias(b, padding_bias(b, mask, batch, 1, b.dims(mask, 2)[1], q.dtype), bias)
    if bias is not None and (short := length - b.shape(bias)[3]):
        bias = b("Pad", bias, b.const([0, short]), b.const(0, q.dtype), b.const([3]))
    seen = b("LessOrEqual", b.const(np.arange(length).reshape(1, 1, 1, length), "i32"), before)
    bias = b("Where", seen, b.const(0, q.dtype) if bias is None else bias, b.const(LOWEST[q.dtype], q.dtype))
    scale = scale_of(b, depth)
    y = attend(b, q, k, v, bias, scale, False)
    return [merged(b, y), k, v, scores_of(b, q, k, bias, scale, False, 0) if b.wants(3) else None]


@operator(
    "Attention",
    "input:T weights:T bias:T? mask_index:M? past:T? attention_bias:T? past_sequence_length:M?",
    "output:T present:T?",
    "num_heads:int! unidirectional:int=0 qkv_hidden_sizes:ints past_present_share_buffer:int=0 do_rotary:int=0"
    " rotary_embedding_dim:int=0 mask_filter_value:float=-10000 scale:float=0",
    T=FLOATS, M="i32",
)  # fmt: skip
def attention(b: Body) -> Sequence[Value | None]:
    """Self-attention with its projections: one product with all three weights beside each other"""
    if b.attr("past_present_share_buffer") or b.maybe("past_sequence_length") is not None:
        b.refuse("past_present_share_buffer", _SHARED)
    if b.attr("do_rotary"):
        b.refuse("do_rotary", "export with RotaryEmbedding nodes of their own")
    heads, x, weights, bias = b.attr("num_heads"), b.given("input"), b.given("weights"), b.maybe("bias")
    batch, rows, wide = b.dims(x, 3)
    deep, columns = b.dims(weights, 2)
    sizes = list(b.attr("qkv_hidden_sizes") or [columns // 3] * 3)
    if len(sizes) != 3 or sum(sizes) != columns or sizes[0] != sizes[1] or any(n % heads for n in sizes):
        b.fail("the weights' columns are not those of queries, keys and values", columns, sizes)
    if wide != deep:
        b.fail("the input's rows are not as long as the weights are deep", deep, wide)
    y = b("MatMul", x, weights)
    y = y if bias is None else b("Add", y, bias)
    past = b.maybe("past")
    before = 0
    if sizes[0] == sizes[2]:
        parts = b.reshape(y, (batch, rows, 3, heads, sizes[0] // heads))
        parts = b.transpose(parts, 2, 0, 3, 1, 4)  # [3,B,H,S,D]
        q, both = b("Squeeze", b.slice(parts, 0, 0, 1), b.const([0])), b.slice(parts, 0, 1, 3)
        if past is not None:
            before = b.dims(past, 5)[3]
            both = b("Concat", past, both, axis=3)
        k, v = (b("Squeeze", half, b.const([0])) for half in b.split(both, 0, [1, 1]))
    else:
        if past is not None or b.wants(1):
            b.fail("past and present are for keys and values of one length", sizes[0], sizes[2])
        q, k, v = (heads_of(b, part, heads) for part in b.split(y, 2, sizes))
    mask, extra = b.maybe("mask_index"), b.maybe("attention_bias")
    keys, depth = b.shape(k)[2], b.shape(q)[3]
    if mask is not None:
        extra = joined_bias(b, padding_bias(b, mask, batch, rows, keys, y.dtype), extra)
    out = attend(b, q, k, v, extra, scale_of(b, depth), bool(b.attr("unidirectional")), before)
    return [merged(b, out), both if sizes[0] == sizes[2] else None]
