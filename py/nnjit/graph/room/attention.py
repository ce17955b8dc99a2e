"""ONNX's Attention with room: keys that grow are masked beyond n, a past is put before them, causal rows are told where
they are."""

from __future__ import annotations

from dataclasses import replace

from ..ir import Node, Value
from .extent import Axes, Extent, Growth
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, rule
from .moves import joined
from .sums import only, unknown

_MINUS = float("-inf")


@rule("Attention")
def attention(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    q, k, v = only(inputs, 3)
    mask, past_k, past_v, lengths = (inputs[i] if i < len(inputs) else None for i in range(3, 7))
    if lengths is not None or len(node.outputs) > 3:
        raise NoRoom("it is told the lengths of keys, or gives its scores")
    attrs = dict(node.attrs)
    flat = q.rank == 3
    if flat:
        heads, groups = attrs.pop("q_num_heads"), attrs.pop("kv_num_heads")
        q, k, v = _heads(w, q, heads), _heads(w, k, groups), _heads(w, v, groups)
    if any(axis not in (0, 2) for x in (q, k, v) for axis in x.axes):
        raise NoRoom("its heads grow")
    before = Length(0)
    if past_k is not None and past_v is not None:
        before = past_k.dim(2)
        k, v = (joined(w, [old, new], 2) for old, new in ((past_k, k), (past_v, v)))
    rows, keys = q.dim(2), k.dim(2)
    causal = bool(attrs.get("is_causal", 0))
    bias = _bias(w, mask, q.dtype)
    if mask is not None and any(have not in (want, Length(1)) for have, want in
                                zip(mask.dims()[::-1], (keys, rows), strict=False)):  # fmt: skip
        raise NoRoom("its mask is of another length")
    if keys.terms:
        v, k = w.clean(v, 2, 0.0), w.clean(k, 2, 0.0)
        if causal and before != Length(0):
            attrs.pop("is_causal")
            bias = _add(w, bias, _causal(w, rows, keys, before, q.dtype))
        elif not (causal and rows == keys):  # there no row that counts sees a key that does not
            zero = w.b.const(0, q.dtype)
            inside = w.inside(keys, 4, 3)
            hidden = w.b("Where", [inside, zero, w.b.const(_MINUS, q.dtype)])
            hidden = w.b.reshape(hidden, (1, 1, 1, w.cap(keys)))
            bias = _add(w, bias, Extent(hidden, {3: Growth(keys, _MINUS)}))
    elif rows.terms and causal and before != Length(0):
        attrs.pop("is_causal")
        bias = _add(w, bias, _causal(w, rows, keys, before, q.dtype))
    given = [w.data(x) for x in (q, k, v)]
    y = w.b("Attention", [*given, None if bias is None else bias.tensor], **attrs)
    axes: Axes = {axis: Growth(g.length) for axis, g in q.axes.items()}
    out = w.checked(Extent(y, axes))
    if flat:
        turned = w.b("Transpose", [y], perm=[0, 2, 1, 3])
        shape = (w.cap(q.dim(0)), w.cap(rows), q.shape[1] * v.shape[3])
        out = w.checked(Extent(w.b.reshape(turned, shape), {{2: 1}.get(i, i): g for i, g in axes.items()}))
    return [out, replace(k), replace(v)][: len(node.outputs)]


def _heads(w: Maker, x: Extent, heads: int) -> Extent:
    """[B, S, H * D] -> [B, H, S, D]"""
    batch, length, wide = x.shape
    cut = w.b.reshape(w.data(x), (batch, length, heads, wide // heads))
    return Extent(
        w.b("Transpose", [cut], perm=[0, 2, 1, 3]), {2 if i == 1 else i: g for i, g in x.axes.items()}
    )


def _bias(w: Maker, mask: Extent | None, dtype: str) -> Extent | None:
    """A mask as what is added, of four axes."""
    if mask is None:
        return None
    value: Value = w.data(mask)
    if value.dtype == "bool":
        value = w.b("Where", [value, w.b.const(0, dtype), w.b.const(_MINUS, dtype)])
    more = 4 - mask.rank
    value = w.b.reshape(value, (1,) * more + mask.shape)
    return Extent(value, {i + more: g for i, g in unknown(mask.axes).items()})


def _causal(w: Maker, rows: Length, keys: Length, before: Length, dtype: str) -> Extent:
    """Row m sees keys up to m + before; no row that counts sees one beyond n."""
    last = w.b("Add", [w.places(w.cap(rows), 4, 2), w.number(before, "i32")])
    seen = w.b("LessOrEqual", [w.places(w.cap(keys), 4, 3), last])
    value = w.b("Where", [seen, w.b.const(0, dtype), w.b.const(_MINUS, dtype)])
    return Extent(value, {i: Growth(d) for i, d in ((2, rows), (3, keys)) if d.terms})


def _add(w: Maker, a: Extent | None, b: Extent) -> Extent:
    """The sum of two biases: -inf where one is, whatever the other holds beyond n."""
    if a is None:
        return b
    hidden = w.b("Equal", [b.tensor, w.b.const(_MINUS, b.dtype)])
    value = w.b("Where", [hidden, w.b.const(_MINUS, b.dtype), w.data(a)])
    return Extent(value, {**a.axes, **b.axes})
