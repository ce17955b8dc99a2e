"""Recognises scaled dot product attention that exporters wrote out: one node for five to fifteen.

nnjit.ScaledDotProductAttention(q[B,H,M,D], k[B,G,N,D], v[B,G,N,E], bias?) -> y[B,H,M,E]

    y = softmax over n of (cap(scale * sum over d of q k) + bias) times v

Head h of q goes with head h // (H / G) of k and v. Attributes:
  scale           float
  softcap         float, 0 for none: cap(s) = softcap * tanh(s / softcap)
  causal_offset   int, absent for none: a score with n > m + causal_offset is -inf
  empty           "nan" or "zero": what a row is whose scores are all -inf
  replace         float, absent for none: where bias is this or less it is the score itself, whatever q and k hold there
`bias` broadcasts to [B,H,M,N] and is added in the scores' type. A causal mask that a model adds stays in `bias`,
exactly as it is; whoever lowers the node may ask `attention_masks.reach` which scores it leaves without weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any

import numpy as np

from ..dtypes import FLOATS
from ..ir import Graph, Node, Value
from .attention_masks import MASKED, surely_seen
from .rewrite import Builder, Rule, apply, made_by, only_use, scalar

OP, DOMAIN = "ScaledDotProductAttention", "nnjit"
LOWER_THAN_SCORES = -1e30
"""Added to a score, this or less leaves nothing of it."""


def attention_node(b: Builder, inputs: Sequence[Value | None], **attrs: Any) -> Value:
    """The output of a new attention node; inputs and attributes as the module says."""
    q, v = inputs[0], inputs[2]
    assert q is not None and v is not None and q.shape is not None and v.shape is not None
    out = Value(b.graph.fresh(b.like.output.name), q.dtype, (*q.shape[:3], v.shape[3]))
    node = Node(OP, inputs, [out], attrs, name=b.like.name, domain=DOMAIN, version=1)
    node.once = all(x.once for x in node.reads())
    b.nodes.append(node)
    return out


@dataclass(slots=True)
class Scores:
    """What lies between the product of q and k and the softmax, found from the softmax upwards."""

    scale: float = 1.0
    softcap: float = 0.0
    biases: list[tuple[Value, float]] = field(default_factory=list)
    """Added values and what each is multiplied with, the last one added first."""
    shape: tuple[int, ...] = ()
    """The scores' shape where the biases are added."""
    chosen: list[float] = field(default_factory=list)
    """What each Where puts in place of a score; such a bias is among the added ones."""
    hides: dict[Value, tuple[Node, int]] = field(default_factory=dict)
    """Which Where each of these biases is of, and which of its inputs the scores are."""

    def replace(self) -> float | None:
        """Up to which bias a score was not added to but replaced: it may be infinite or no number there."""
        if self.chosen and max(self.chosen) <= LOWER_THAN_SCORES:
            return LOWER_THAN_SCORES
        return self.chosen[0] / 2 if self.chosen and len(self.biases) == 1 else None


def _attention(b: Builder, node: Node) -> Value | None:
    """MatMul(Softmax(Add(Mul(MatMul(q, Transpose(k)), scale), bias)), v) → ScaledDotProductAttention(q, k, v, bias)"""
    p, v = node.inputs
    if p is None or v is None or v.shape is None or p.dtype not in FLOATS:
        return None
    empty, soft = _softmax(b.graph, p)
    if soft is None or soft.inputs[0] is None:
        return None
    s = Scores()
    product = _product(b, soft.inputs[0], s)
    if product is None:
        return None
    q, kt = product.inputs
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
    bias = _bias(b, s, (*q.shape[:3], k.shape[2]))
    if bias is None and s.biases:
        return None
    attrs: dict[str, Any] = {"scale": s.scale, "empty": empty}
    if s.softcap:
        attrs["softcap"] = s.softcap
    if (replace := s.replace()) is not None:
        attrs["replace"] = replace
    out = attention_node(b, [q, k, v, bias] if bias is not None else [q, k, v], **attrs)
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
    """What rows of -inf become, and the Softmax over the last axis behind casts and views. Nothing else reads it."""
    empty = "nan"
    while only_use(graph, p) or empty == "zero":
        n = p.producer
        if n is None or n.domain or p.shape is None:
            return empty, None
        x = n.inputs[0]
        if n.op == "Softmax":
            return empty, n if n.attrs.get("axis", -1) in (-1, len(p.shape) - 1) else None
        if n.op == "Where" and (guard := _not_a_number(graph, n)) is not None:
            soft = made_by(guard, "Softmax")
            last = soft is not None and soft.attrs.get("axis", -1) in (-1, len(p.shape) - 1)
            return "zero", soft if last else None
        if x is None or not (_is_float_cast(n) or _is_view(n)):
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


def _is_float_cast(n: Node) -> bool:
    """Between the float types: scores are computed in f32 whichever they are in."""
    x = n.inputs[0] if n.inputs else None
    return n.op == "Cast" and x is not None and x.dtype in ("f32", "f16", "bf16") and n.output.dtype in FLOATS


def _is_view(n: Node) -> bool:
    """A Reshape that keeps the last two axes: between [B*H, M, N] and [B, H, M, N]."""
    x, shape = n.inputs[0] if n.inputs else None, n.output.shape
    return n.op == "Reshape" and x is not None and bool(x.shape and shape and x.shape[-2:] == shape[-2:])


def _product(b: Builder, x: Value, s: Scores) -> Node | None:
    """The MatMul that the scores `x` come from; fills `s`. Every value on the way is read once."""
    factor = 1.0
    while only_use(b.graph, x):
        n = x.producer
        if n is None or n.domain or x.shape is None:
            return None
        if n.op == "MatMul":
            s.scale *= factor
            return n
        if n.op == "Add":
            scores = _towards_product(n)
            if scores is None or s.softcap:
                return None
            at = next(i for i in (0, 1) if n.inputs[i] is scores)
            bias = n.inputs[1 - at]
            if bias is None or (s.shape and s.shape != x.shape):
                return None
            s.biases.append((bias, factor))
            s.shape, x = x.shape, scores
        elif n.op == "Where":
            masked = _where(b, n)
            if masked is None or s.softcap or factor != 1.0 or (s.shape and s.shape != x.shape):
                return None
            s.biases.append((masked[1], 1.0))
            s.hides[masked[1]] = n, masked[3]
            s.chosen.append(masked[2])
            s.shape, x = tuple(x.shape or ()), masked[0]
        elif n.op == "Mul" and (cap := _softcap(n)) is not None:
            if factor != 1.0 or s.softcap:
                return None
            x, s.softcap = cap
        elif n.op in ("Mul", "Div"):
            by = scalar(n.inputs[1])
            inner = n.inputs[0]
            if by is None and n.op == "Mul":
                by, inner = scalar(n.inputs[0]), n.inputs[1]
            if by is None or by == 0 or inner is None or inner.shape != x.shape:
                return None
            factor *= by if n.op == "Mul" else 1 / by
            x = inner
        elif (_is_float_cast(n) or _is_view(n)) and n.inputs[0] is not None:
            x = n.inputs[0]
        else:
            return None
    return None


def _towards_product(n: Node) -> Value | None:
    """The operand of an Add that has the Add's shape and comes from a product; the other is a bias."""
    for x in n.inputs:
        if x is None or x.shape != n.output.shape:
            continue
        y: Value | None = x
        for _ in range(8):
            m = None if y is None else y.producer
            if m is None or m.domain:
                break
            if m.op == "MatMul":
                return x
            if m.op not in ("Mul", "Div", "Add", "Cast", "Reshape", "Where", "Tanh"):
                break
            wide = [z for z in m.inputs if z is not None and z.size == n.output.size and z.const is None]
            y = wide[-1] if m.op == "Where" and wide else wide[0] if wide else None
    return None


def _where(b: Builder, n: Node) -> tuple[Value, Value, float, int] | None:
    """(scores, bias, low, which input the scores are) of Where(cond, scores, low) or Where(cond, low, scores): the same
    as adding low to what is masked, where low leaves nothing of any score, or each row is sure to have one that is not
    masked."""
    for at in (1, 2):
        scores, low = n.inputs[at], scalar(n.inputs[3 - at])
        if scores is None or low is None or low > MASKED or scores.shape != n.output.shape:
            continue
        if scores.dtype != "f32" and low != -np.inf:  # a sum in halves would be rounded
            continue
        zero = b.const(np.float32(0), scores.dtype)
        values = (zero, n.inputs[3 - at]) if at == 1 else (n.inputs[3 - at], zero)
        bias = b("Where", [n.inputs[0], *values])
        rows, keys = n.output.shape[-2:] if n.output.shape is not None else (0, 0)
        if low > LOWER_THAN_SCORES and not surely_seen(bias, rows, keys):
            continue
        return scores, bias, low, at
    return None


def _softcap(n: Node) -> tuple[Value, float] | None:
    """(x, c) of c * tanh(x / c)"""
    for at in (0, 1):
        c, bent = scalar(n.inputs[1 - at]), made_by(n.inputs[at], "Tanh")
        inner = made_by(bent.inputs[0], "Div", "Mul") if bent is not None else None
        by = scalar(inner.inputs[1]) if inner is not None else None
        if c is None or c <= 0 or by is None or inner is None or inner.inputs[0] is None or bent is None:
            continue
        if len(bent.output.users) != 1 or len(inner.output.users) != 1:
            continue
        if abs((by if inner.op == "Div" else 1 / by if by else 0.0) - c) <= 1e-6 * c:
            return inner.inputs[0], c
    return None


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


def _bias(b: Builder, s: Scores, shape: tuple[int, ...]) -> Value | None:
    """The sum of everything added, or None if something of it does not fit the scores."""
    total: Value | None = None
    for x, factor in reversed(s.biases):
        if x.shape is None or len(x.shape) > 4 or x.dtype not in FLOATS:
            return None
        if len(s.shape) != 4 and len(x.shape) > 2:  # a leading axis would be batch times heads
            return None
        if any(n not in (1, m) for n, m in zip(x.shape[::-1], shape[::-1], strict=False)):
            return None
        if factor != 1.0:
            x = b("Mul", [x, b.const(np.float32(factor), x.dtype)])
        if total is not None and total.dtype != x.dtype:
            return None
        if total is not None and x in s.hides:
            # what was added before is nothing there: two masks of the lowest number are no lower than one
            where, at = s.hides[x]
            total = b("Where", [total if i == at else v for i, v in enumerate(where.inputs)])
        else:
            total = x if total is None else b("Add", [total, x])
    return total


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
