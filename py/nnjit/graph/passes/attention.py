"""Recognises scaled dot product attention that exporters wrote out: one node for five to fifteen.

nnjit.ScaledDotProductAttention(q[B,H,M,D], k[B,G,N,D], v[B,G,N,E], bias?, seen?) -> y[B,H,M,E]

    y = softmax over n of (cap(scale * sum over d of q k) + bias) times v

Head h of q goes with head h // (H / G) of k and v. Attributes:
  scale           float
  softcap         float, 0 for none: cap(s) = softcap * tanh(s / softcap)
  causal_offset   int, absent for none: a score with n > m + causal_offset is -inf
  empty           "nan" or "zero": what a row is whose scores are all -inf; "guarded": any row of NaN is zero
  replace         float, absent for none: where bias is this or less it is the score itself, whatever q and k hold there
`bias` and `seen` broadcast to [B,H,M,N]. `bias` is added in the scores' type; where `seen`, a bool, is false it is the
score itself. A causal mask that a model adds stays in `bias`,
exactly as it is; whoever lowers the node may ask `attention_masks.reach` which scores it leaves without weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from ..dtypes import FLOATS
from ..ir import Graph, Node, Value
from .attention_scores import Scores, is_float_cast, is_view, mask, product
from .rewrite import Builder, Rule, apply, made_by, only_use, scalar

OP, DOMAIN = "ScaledDotProductAttention", "nnjit"


def attention_node(b: Builder, inputs: Sequence[Value | None], **attrs: Any) -> Value:
    """The output of a new attention node; inputs and attributes as the module says."""
    q, v = inputs[0], inputs[2]
    assert q is not None and v is not None and q.shape is not None and v.shape is not None
    out = Value(b.graph.fresh(b.like.output.name), q.dtype, (*q.shape[:3], v.shape[3]))
    node = Node(OP, inputs, [out], attrs, name=b.like.name, domain=DOMAIN, version=1)
    node.once = all(x.once for x in node.reads())
    b.nodes.append(node)
    return out


def _attention(b: Builder, node: Node) -> Value | None:
    """MatMul(Softmax(Add(Mul(MatMul(q, Transpose(k)), scale), bias)), v) → ScaledDotProductAttention(q, k, v, bias)"""
    p, v = node.inputs
    if p is None or v is None or v.shape is None or p.dtype not in FLOATS:
        return None
    empty, soft = _softmax(b.graph, p)
    if soft is None or soft.inputs[0] is None:
        return None
    s = Scores()
    made = product(b.graph, soft.inputs[0], s)
    if made is None:
        return None
    q, kt = made.inputs
    if q is None or kt is None or q.shape is None or kt.shape is None or p.shape is None:
        return None
    if len(q.shape) not in (3, 4) or len(kt.shape) != len(q.shape) or len(v.shape) != len(q.shape):
        return None
    if q.dtype != v.dtype or 0 in (*q.shape, *kt.shape, *v.shape):
        return None
    q, factor = _scaled(b.graph, q)
    kt, other = _scaled(b.graph, kt)
    s.scale *= factor * other
    heads = s.shape if len(s.shape) == 4 else (1, *p.shape) if len(p.shape) == 3 else p.shape
    assert q.shape is not None and kt.shape is not None
    k = _grouped(b, _swapped(b, kt))
    v = _grouped(b, v)
    assert k.shape is not None and v.shape is not None
    if len(q.shape) == 3:
        q, k, v = (b.reshape(x, (*heads[:2], *x.shape[1:])) if x.shape is not None and x.shape[0] == prod(heads[:2])
                   else x for x in (q, k, v))  # fmt: skip
    if not _fits(q, k, v):
        return None
    assert q.shape is not None and k.shape is not None
    masked = mask(b, s, (*q.shape[:3], k.shape[2]))
    if masked is None:
        return None
    attrs: dict[str, Any] = {"scale": s.scale, "empty": empty}
    if s.softcap:
        attrs["softcap"] = s.softcap
    if masked.replace is not None:
        attrs["replace"] = masked.replace
    more = [x for x in (masked.bias, masked.seen) if x is not None]
    out = attention_node(b, [q, k, v, *more], **attrs)
    assert node.output.shape is not None
    return b.reshape(out, node.output.shape)


def _fits(q: Value, k: Value, v: Value) -> bool:
    """Whether shapes and types are those of an attention node."""
    a, c, d = q.shape, k.shape, v.shape
    if a is None or c is None or d is None or not len(a) == len(c) == len(d) == 4:
        return False
    if not q.dtype == k.dtype == v.dtype or a[3] != c[3] or c[2] != d[2] or c[:2] != d[:2]:
        return False
    return a[0] == c[0] and a[1] % c[1] == 0


def _softmax(graph: Graph, p: Value) -> tuple[str, Node | None]:
    """`empty` as above, and the Softmax over the last axis behind casts and views. Nothing else reads it."""
    empty = "nan"
    while only_use(graph, p):
        n = p.producer
        if n is None or n.domain or p.shape is None:
            return empty, None
        x = n.inputs[0]
        if n.op == "Softmax":
            return empty, n if n.attrs.get("axis", -1) in (-1, len(p.shape) - 1) else None
        if n.op == "Where" and (guard := _not_a_number(graph, n)) is not None:
            soft = made_by(guard, "Softmax")
            last = soft is not None and soft.attrs.get("axis", -1) in (-1, len(p.shape) - 1)
            return "guarded", soft if last else None
        if x is None or not (is_float_cast(n) or is_view(n)):
            return empty, None
        p = x
    return empty, None


def _not_a_number(graph: Graph, n: Node) -> Value | None:
    """x of Where(IsNaN(x), 0, x), where only these two read x."""
    test, zero, x = n.inputs
    nan = made_by(test, "IsNaN")
    if nan is None or scalar(zero) != 0 or x is None or nan.inputs[0] is not x or graph.is_output(x):
        return None
    return x if len(x.users) == 2 and only_use(graph, nan.output) else None


def _scaled(graph: Graph, x: Value) -> tuple[Value, float]:
    """(y, c) where x = y * c, through nodes that only this product reads."""
    n = made_by(x, "Mul", "Div")
    if n is None or not only_use(graph, x) or x.dtype in ("f16", "bf16"):  # there each product is rounded
        return x, 1.0
    y, c = n.inputs[0], scalar(n.inputs[1])
    if c is None and n.op == "Mul":
        y, c = n.inputs[1], scalar(n.inputs[0])
    if c is None or c == 0 or y is None or y.shape != x.shape:
        return x, 1.0
    return y, c if n.op == "Mul" else 1 / c


def _swapped(b: Builder, x: Value) -> Value:
    """x with its last two axes exchanged; the Transpose that did so before is undone."""
    assert x.shape is not None
    rank = len(x.shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    n = made_by(x, "Transpose")
    if n is not None and n.inputs[0] is not None:
        before = list(n.attrs.get("perm") or range(rank)[::-1])
        perm = [before[p] for p in perm]
        x = n.inputs[0]
    return x if perm == list(range(rank)) else b("Transpose", [x], perm=perm)


def _grouped(b: Builder, x: Value) -> Value:
    """k[B,G,N,D] of Reshape(Expand(Reshape(k, [B,G,1,N,D]), [B,G,R,N,D]), [B,G*R,N,D])"""
    outer = made_by(x, "Reshape")
    wide = made_by(outer.inputs[0], "Expand") if outer is not None else None
    source = wide.inputs[0] if wide is not None else None
    if wide is None or source is None or source.shape is None or wide.output.shape is None or x.shape is None:
        return x
    a, c = source.shape, wide.output.shape
    if len(x.shape) != 4 or len(a) != 5 or len(c) != 5 or a[2] != 1 or a[:2] + a[3:] != c[:2] + c[3:]:
        return x
    return b.reshape(source, a[:2] + a[3:]) if x.shape == (c[0], c[1] * c[2], c[3], c[4]) else x


def _operator(b: Builder, node: Node) -> list[Value] | None:
    """ONNX's Attention → ScaledDotProductAttention, for inputs whose masks need no run-time lengths or windows"""
    q, k, v = node.inputs[:3]
    mask, past_k, past_v = (node.input(i) for i in (3, 4, 5))
    attrs = node.attrs
    if node.input(6) is not None or any(
        attrs.get(a, -1) >= 0 for a in ("left_window_size", "right_window_size")
    ):
        return None
    if (
        len(node.outputs) > 3
        and node.outputs[3].name
        and (node.outputs[3].users or b.graph.is_output(node.outputs[3]))
    ):
        return None
    if any(x is None or x.shape is None or x.dtype not in ("f32", "f16") for x in (q, k, v)):
        return None
    assert q is not None and k is not None and v is not None
    rank = len(q.shape or ())
    if rank == 3:
        heads, groups = attrs.get("q_num_heads", 1), attrs.get("kv_num_heads", 1)
        q, k, v = _heads(b, q, heads), _heads(b, k, groups), _heads(b, v, groups)
    if (past_k is None) != (past_v is None):
        return None
    if past_k is not None and past_v is not None:
        if past_k.shape is None or past_v.shape is None:
            return None
        k, v = b("Concat", [past_k, k], axis=2), b("Concat", [past_v, v], axis=2)
    if not _fits(q, k, v):
        return None
    assert q.shape is not None and k.shape is not None
    bias = mask
    if mask is not None:
        if mask.shape is None or not mask.shape or mask.shape[-1] != k.shape[2]:
            return None
        if mask.dtype == "bool":
            bias = b("Where", [mask, b.const(0, q.dtype), b.const(-np.inf, q.dtype)])
    more: dict[str, Any] = {}
    if attrs.get("is_causal", 0):
        more["causal_offset"] = 0 if past_k is None or past_k.shape is None else past_k.shape[2]
    if attrs.get("softcap", 0.0):
        more["softcap"] = float(attrs["softcap"])
    scale = float(attrs.get("scale") or 1 / sqrt(q.shape[3]))
    y = attention_node(b, [q, k, v] if bias is None else [q, k, v, bias], scale=scale, empty="zero", **more)
    if rank == 3:
        y = b.reshape(b("Transpose", [y], perm=[0, 2, 1, 3]), node.output.shape or ())
    # the caches are outputs of their own, whoever reads them
    return [y, k, v][: len(node.outputs)]


def _heads(b: Builder, x: Value, heads: int) -> Value:
    """[B, S, heads * D] → [B, heads, S, D]"""
    assert x.shape is not None
    batch, length, wide = x.shape
    return b("Transpose", [b.reshape(x, (batch, length, heads, wide // heads))], perm=[0, 2, 1, 3])


_RULES: dict[str, list[Rule]] = {"MatMul": [_attention], "Attention": [_operator]}


def recognise_attention(graph: Graph) -> Graph:
    """MatMul(Softmax(Add(Mul(MatMul(q, kᵀ), scale), bias)), v) → ScaledDotProductAttention(q, k, v, bias)"""
    return apply(graph, _RULES)
