"""GroupQueryAttention: fewer heads of keys than of queries, rotary positions, and a cache of keys and values.

How many keys a sentence has comes with the run (seqlens_k); how long the cache is, with total_sequence_length, whose
value must be known for the shapes to be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Value
from .attending import LOWEST, attend, merged, scale_of
from .body import Body
from .declare import FLOATS, operator
from .norms import rms
from .rotary import rotated

_INPUTS = (
    "query:T key:T? value:T? past_key:C? past_value:C? seqlens_k:M total_sequence_length:M cos_cache:T? sin_cache:T?"
    " position_ids:i64? attention_bias:T? head_sink:T? k_scale:S? v_scale:S? q_norm_weight:T? k_norm_weight:T?"
)
_ATTRIBUTES = (
    "num_heads:int! kv_num_heads:int! scale:float=0 softcap:float=0 do_rotary:int=0 rotary_interleaved:int=0"
    " local_window_size:int=-1 smooth_softmax:int=-1 causal:int=1 qk_output:int=0 qk_norm_epsilon:float=1e-06"
    " k_quant_type:str=NONE v_quant_type:str=NONE kv_cache_bit_width:int=0 sliding_window_cache:int=0"
)


@operator(
    "GroupQueryAttention", _INPUTS, "output:T present_key:C? present_value:C? output_qk:T?", _ATTRIBUTES,
    T=FLOATS, C=f"{FLOATS} u8 i8 float8e4m3fn", S="f32", M="i32",
)  # fmt: skip
def group_query_attention(b: Body) -> Sequence[Value | None] | None:
    """Attention of new rows over the cache and themselves; see the module"""
    _refuse_forms(b)
    known = b.given("total_sequence_length").const
    if known is None:
        return None  # its value is asked for as one that shapes hang on
    total = int(known.numpy().reshape(-1)[0])
    q, k, v = _operands(b)
    batch, rows = b.shape(q)[:2]
    if total < rows:
        b.fail("total_sequence_length is less than the rows of the query", f"at least {rows}", total)
    if rows not in (1, total) and batch != 1:
        b.fail("several new rows behind a past are for one sentence", 1, batch)
    first = rows == total  # the prompt: whatever lies in the past is not looked at
    before = None if first else _before(b, batch, rows)
    q, k, v = (b.transpose(x, 0, 2, 1, 3) for x in (q, k, v))
    if b.attr("do_rotary"):
        cos, sin = _angles(b, batch, rows, before)
        q, k = (rotated(b, x, cos, sin, bool(b.attr("rotary_interleaved")), 2) for x in (q, k))
    past_key, past_value = b.maybe("past_key"), b.maybe("past_value")
    if (past_key is None) != (past_value is None):
        b.fail("past_key and past_value go together")
    length = max(total, b.dims(past_key, 4)[2] if past_key is not None else 0)
    keys = [_cached(b, x, past, before, length) for x, past in ((k, past_key), (v, past_value))]
    if not first:
        k, v = keys
    out = _attention(b, q, k, v, before, total)
    return [merged(b, out), *keys, None]


def _refuse_forms(b: Body) -> None:
    if b.attr("k_quant_type") != "NONE" or b.attr("v_quant_type") != "NONE" or b.maybe("k_scale") is not None:
        b.refuse("a quantised cache", "export with a cache of floats")
    if b.attr("sliding_window_cache"):
        b.refuse("sliding_window_cache", "export with a cache of the whole length")
    if b.attr("qk_output") or b.wants(3):
        b.refuse("the output of scores", "leave output_qk out")
    if b.attr("num_heads") % b.attr("kv_num_heads"):
        b.fail("num_heads is not a multiple of kv_num_heads")
    if not b.attr("causal") and b.attr("local_window_size") > 0:
        b.fail("a local window is for causal attention")


def _operands(b: Body) -> tuple[Value, Value, Value]:
    """Queries [B,S,H,D], keys and values [B,S,G,D], of one packed operand or of three."""
    query, key, value = b.given("query"), b.maybe("key"), b.maybe("value")
    heads, groups = b.attr("num_heads"), b.attr("kv_num_heads")
    batch, rows, wide = b.dims(query, 3)
    if key is None:
        depth = wide // (heads + 2 * groups)
        if depth * (heads + 2 * groups) != wide:
            b.fail("the packed query is not a whole number of heads", None, wide)
        packed = b.reshape(query, (batch, rows, heads + 2 * groups, depth))
        q, k, v = b.split(packed, 2, [heads, groups, groups])
    elif value is None:
        b.fail("key and value go together")
    else:
        depth = wide // heads
        q = b.reshape(query, (batch, rows, heads, depth))
        wanted = (batch, rows, groups * depth)
        for name, x in (("key", key), ("value", value)):
            if b.shape(x) != wanted:
                b.fail(f"{name} does not go with the query", list(wanted), list(b.shape(x)))
        k, v = (b.reshape(x, (batch, rows, groups, depth)) for x in (key, value))
    q_norm, k_norm = b.maybe("q_norm_weight"), b.maybe("k_norm_weight")
    if (q_norm is None) != (k_norm is None):
        b.fail("q_norm_weight and k_norm_weight go together")
    if q_norm is not None and k_norm is not None:
        epsilon = b.attr("qk_norm_epsilon")
        q, k = rms(b, q, q_norm, epsilon), rms(b, k, k_norm, epsilon)
    return q, k, v


def _before(b: Body, batch: int, rows: int) -> Value:
    """How many keys each sentence has before the new ones, i32[B,1,1,1]"""
    counts = b.given("seqlens_k")
    if counts.size != batch:
        b.fail("seqlens_k is not one number a sentence", [batch], list(b.shape(counts)))
    counts = b.reshape(counts, (batch, 1, 1, 1))
    return counts if rows == 1 else b("Sub", counts, b.const(rows - 1, "i32"))


def _angles(b: Body, batch: int, rows: int, before: Value | None) -> tuple[Value, Value]:
    """cos and sin of the new rows' positions, [B,S,R/2] or [1,S,R/2]"""
    cos, sin = b.maybe("cos_cache"), b.maybe("sin_cache")
    if cos is None or sin is None:
        b.fail("do_rotary needs cos_cache and sin_cache")
    at = b.maybe("position_ids")
    if at is None and before is None:
        parts = [b.slice(x, 0, 0, rows) for x in (cos, sin)]
        return tuple(b.reshape(x, (1, *b.shape(x))) for x in parts)  # type: ignore[return-value]
    if at is None:
        assert before is not None
        at = b.reshape(before, (batch, 1))
        at = at if rows == 1 else b("Add", at, b.const(np.arange(rows)[None], "i32"))
    elif b.shape(at) != (batch, rows):
        b.fail("position_ids is not one number a row", [batch, rows], list(b.shape(at)))
    elif before is None:  # by definition, a prompt's first number counts and the others follow it
        first = b.slice(b.reshape(at, (1, batch * rows)), 1, 0, 1)
        at = b("Add", first, b.const(np.arange(rows)[None]))
    return b("Gather", cos, at, axis=0), b("Gather", sin, at, axis=0)


def _cached(b: Body, x: Value, past: Value | None, before: Value | None, length: int) -> Value:
    """[B,G,length,D]: the past up to `before`, then x, then zeros; one kernel writes it"""
    rows = b.shape(x)[2]
    zero = b.const(0, x.dtype)
    if before is None:
        return x if rows == length else b("Pad", x, b.const([0, length - rows]), zero, b.const([2]))
    if past is None:
        b.fail("total_sequence_length tells of a past, and there is none")
    have = b.shape(past)[2]
    if have < length:
        past = b("Pad", past, b.const([0, length - have]), zero, b.const([2]))
    place = b.const(np.arange(length).reshape(1, 1, length, 1), "i32")
    # A chain from the past on, so that all of it is one kernel.
    if rows == 1:
        y = b("Where", b("Equal", place, before), x, past)
        end = before
    else:  # one sentence
        at = b("Sub", b.reshape(place, (length,)), b.reshape(before, (1,)))
        shifted = b("Gather", x, b("Clip", at, b.const(0, "i32"), b.const(rows - 1, "i32")), axis=2)
        y = b("Where", b("GreaterOrEqual", place, before), shifted, past)
        end = b("Add", before, b.const(rows - 1, "i32"))
    return b("Where", b("LessOrEqual", place, end), y, zero)


def _attention(b: Body, q: Value, k: Value, v: Value, before: Value | None, total: int) -> Value:
    """Each row sees the keys up to its own, the last local_window_size of them, or all of its sentence's."""
    batch, _, rows, depth = b.shape(q)
    keys = b.shape(k)[2]
    bias, window, causal = b.maybe("attention_bias"), b.attr("local_window_size"), bool(b.attr("causal"))
    if bias is not None:
        if b.dims(bias, 4)[2:] != (rows, total):
            b.fail("attention_bias does not fit the scores", [batch, "H", rows, total], list(b.shape(bias)))
        if keys > total:
            b_zero = b.const(0, bias.dtype)
            bias = b("Pad", bias, b.const([0, keys - total]), b_zero, b.const([3]))
    key = b.const(np.arange(keys).reshape(1, 1, 1, keys), "i32")
    own = b.const(np.arange(rows).reshape(1, 1, rows, 1), "i32")
    own = own if before is None else b("Add", own, before)
    seen: Value | None = None
    if not causal:
        counts = b("Add", b.reshape(b.given("seqlens_k"), (batch, 1, 1, 1)), b.const(1, "i32"))
        seen = b("Less", key, counts)
    elif before is not None or window > 0:
        seen = b("LessOrEqual", key, own)
        if window > 0:
            seen = b("And", seen, b("Greater", key, b("Sub", own, b.const(window, "i32"))))
    if seen is not None:
        bias = b(
            "Where", seen, b.const(0, q.dtype) if bias is None else bias, b.const(LOWEST[q.dtype], q.dtype)
        )
    sink = b.maybe("head_sink")
    scale, cap = scale_of(b, depth), float(b.attr("softcap"))
    if sink is None and b.attr("smooth_softmax") != 1:
        return attend(b, q, k, v, bias, scale, causal and seen is None, softcap=cap)
    if causal and seen is None:
        seen = b("LessOrEqual", key, own)
        bias = b(
            "Where", seen, b.const(0, q.dtype) if bias is None else bias, b.const(LOWEST[q.dtype], q.dtype)
        )
    return _with_sink(b, q, k, v, bias, scale, cap, sink)


def _with_sink(
    b: Body, q: Value, k: Value, v: Value, bias: Value | None, scale: float, cap: float, sink: Value | None
) -> Value:
    """Attention whose softmax has one more score that has no value: exp(s - m) / (Σ exp(s - m) + exp(sink - m))"""
    batch, heads, rows, depth = b.shape(q)
    groups, keys = b.shape(k)[1:3]
    share = heads // groups
    grouped = b.reshape(q, (batch, groups, share * rows, depth))
    s = b("MatMul", grouped, b.transpose(k, 0, 1, 3, 2))
    s = b("Mul", b.reshape(s, (batch, heads, rows, keys)), b.const(scale, q.dtype))
    if cap:
        bound = b.const(cap, q.dtype)
        s = b("Mul", b("Tanh", b("Div", s, bound)), bound)
    s = s if bias is None else b("Add", s, bias)
    extra = b.const(0, q.dtype) if sink is None else b.reshape(sink, (1, heads, 1, 1))
    top = b("Max", b("ReduceMax", s, b.const([3]), keepdims=1), extra)
    e = b("Exp", b("Sub", s, top))
    below = b("Add", b("ReduceSum", e, b.const([3]), keepdims=1), b("Exp", b("Sub", extra, top)))
    p = b.reshape(b("Div", e, below), (batch, groups, share * rows, keys))
    y = b("MatMul", p, v)
    return b.reshape(y, (batch, heads, rows, b.shape(v)[3]))
