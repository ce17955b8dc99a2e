"""Attention with random masks, biases, groups and pasts: as exporters write it out, and ONNX's own operator."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.fuzz.builder import Builder, Rejected, Value

LOW = -3.4028235e38


def attention(b: Builder) -> None:
    """softmax(q k' * scale + mask) v with heads split off, keys shared by groups, masks of every shape."""
    dtype = b.one(["float32", "float32", "float16"])
    batch, heads, group = b.one([1, 2]), b.one([1, 2, 3]), b.one([1, 1, 2])
    rows, keys = b.one([1, 3, 4, 5, 9, 17]), b.one([1, 3, 4, 7, 12, 17])
    depth, width = b.one([1, 4, 5, 8, 16]), b.one([1, 4, 6, 8])
    q = head_split(b, dtype, batch, heads * group, rows, depth)
    k = head_split(b, dtype, batch, heads, keys, depth)
    v = head_split(b, dtype, batch, heads, keys, width)
    if b.often(0.25):  # past keys and values before the new ones
        past = b.one([1, 4, 9])
        (k,) = b.emit("Concat", [b.fresh(dtype, (batch, heads, past, depth)), k], exact=True, axis=2)
        (v,) = b.emit("Concat", [b.fresh(dtype, (batch, heads, past, width)), v], exact=True, axis=2)
        keys += past
    if group > 1:
        k, v = repeated(b, k, group), repeated(b, v, group)
    scale = b.constant(depth**-0.5, dtype)
    how = b.chance.randrange(4)
    if how == 1:
        (q,) = b.emit("Mul", [q, scale])
    (kt,) = b.emit("Transpose", [k], exact=True, perm=[0, 1, 3, 2])
    if how == 2:
        (kt,) = b.emit("Mul", [kt, scale])
    (s,) = b.emit("MatMul", [q, kt])
    if how == 0:
        (s,) = b.emit("Mul", [s, scale] if b.often(0.5) else [scale, s])
    elif how == 3:
        (s,) = b.emit("Div", [s, b.constant(depth**0.5, dtype)])
    s = masked(b, s, batch, heads * group, rows, keys, dtype)
    (p,) = b.emit("Softmax", [s], axis=b.one([-1, 3]))
    if b.often(0.1):
        (p,) = b.emit("Cast", [p], exact=True, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    (o,) = b.emit("MatMul", [p, v])
    if b.often(0.8):
        (o,) = b.emit("Transpose", [o], exact=True, perm=[0, 2, 1, 3])
        (o,) = b.emit("Reshape", [o, b.ints(0, 0, -1)], exact=True)
        if b.often(0.4):
            b.emit("MatMul", [o, b.weights(dtype, (o.shape[-1], b.size() or 3))])


def head_split(b: Builder, dtype: str, batch: int, heads: int, rows: int, depth: int) -> Value:
    if b.often(0.3):
        return b.fresh(dtype, (batch, heads, rows, depth))
    x = b.fresh(dtype, (batch, rows, heads * depth))
    if b.often(0.4):
        (x,) = b.emit("MatMul", [x, b.weights(dtype, (heads * depth, heads * depth))])
        (x,) = b.emit("Add", [x, b.fresh(dtype, (heads * depth,))])
    (x,) = b.emit("Reshape", [x, b.ints(batch if b.often(0.5) else 0, -1, heads, depth)], exact=True)
    return b.emit("Transpose", [x], exact=True, perm=[0, 2, 1, 3])[0]


def repeated(b: Builder, x: Value, group: int) -> Value:
    n, heads, rows, depth = x.shape
    (x,) = b.emit("Unsqueeze", [x, b.ints(2)], exact=True)
    (x,) = b.emit("Expand", [x, b.ints(n, heads, group, rows, depth)], exact=True)
    return b.emit("Reshape", [x, b.ints(n, heads * group, rows, depth)], exact=True)[0]


def masked(b: Builder, s: Value, batch: int, heads: int, rows: int, keys: int, dtype: str) -> Value:
    low = {"float16": -65504.0}.get(dtype, LOW)
    fed = (
        False if b.extremes else None
    )  # keys that a constant hides may not be read, infinite or not (docs/numbers.md)
    way = b.chance.randrange(6)
    if way == 0:
        return s
    shape = (b.one([1, batch]), b.one([1, heads]), b.one([1, rows]), keys)
    shape = shape[b.one([0, 0, 0, 2, 3]) :]
    if way == 1:  # any numbers
        return b.emit("Add", [s, b.fresh(dtype, shape)])[0]
    if way == 2 and keys >= rows:  # a triangle, constant, with finite or infinite numbers
        square = np.where(np.tri(rows, keys, keys - rows, dtype=bool), 0, b.one([low, -1e4, -np.inf])).astype(
            dtype
        )
        where = square if b.often(0.5) else square[None, None]
        return b.emit("Add", [s, b.leaf(where, not b.extremes)])[0]
    if way == 3:  # lengths
        kept = np.arange(keys) < b.numbers.integers(1, keys + 1, (batch, 1, 1, 1))
        return b.emit("Add", [s, b.leaf(np.where(kept, 0, low).astype(dtype), fed)])[0]
    if way == 4:  # bools, chosen
        bools = b.numbers.random(shape) < 0.7
        bools[..., 0] = True
        pair = [s, b.constant(low if b.often(0.5) else -1e4, dtype)]
        if b.often(0.5):
            return b.emit("Where", [b.leaf(bools, fed), *pair])[0]
        return b.emit("Where", [b.leaf(~bools, fed), *pair[::-1]])[0]
    if way == 5 and len(shape) == 4:  # 1 and 0 of integers, as BERT does
        numbers = (b.numbers.random((batch, 1, 1, keys)) < 0.7).astype(np.int64)
        numbers[..., 0] = 1
        (f,) = b.emit(
            "Cast", [b.leaf(numbers, fed)], exact=True, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )
        (f,) = b.emit("Sub", [b.constant(1, dtype), f], exact=True)
        (f,) = b.emit("Mul", [f, b.constant(-1e4, dtype)], exact=True)
        return b.emit("Add", [s, f])[0]
    return s


def attention_op(b: Builder) -> None:
    """ONNX's own operator: groups of heads, past, causal or not, a cap of the scores, 3 or 4 dimensions."""
    if b.opset < 23:
        raise Rejected
    dtype = b.one(["float32", "float32", "float16"])
    batch, heads, group = b.one([1, 2]), b.one([1, 2]), b.one([1, 1, 2, 3])
    rows, keys, depth, width = b.one([1, 3, 5, 9]), b.one([3, 5, 9, 12]), b.one([4, 5, 8]), b.one([4, 6])
    attrs: dict[str, object] = {}
    if b.often(0.4):
        shapes = [
            (batch, rows, heads * group * depth),
            (batch, keys, heads * depth),
            (batch, keys, heads * width),
        ]
        attrs = {"q_num_heads": heads * group, "kv_num_heads": heads}
    else:
        shapes = [
            (batch, heads * group, rows, depth),
            (batch, heads, keys, depth),
            (batch, heads, keys, width),
        ]
    inputs: list[Value | None] = [b.fresh(dtype, s) for s in shapes]
    past = b.one([2, 4]) if b.often(0.3) else 0
    total = keys + past
    if b.often(0.4):
        mask = b.one(
            [(rows, total), (1, 1, rows, total), (batch, 1, rows, total), (batch, heads * group, rows, total)]
        )
        if b.often(0.5):
            bools = b.numbers.random(mask) < 0.7
            bools[..., 0] = True
            inputs.append(b.leaf(bools))
        else:
            inputs.append(b.fresh(dtype, mask))
    if past:
        inputs += [None] * (4 - len(inputs))
        inputs += [b.fresh(dtype, (batch, heads, past, depth)), b.fresh(dtype, (batch, heads, past, width))]
    if b.often(0.4) and not b.extremes:  # keys that no row sees may not be read (docs/numbers.md)
        attrs["is_causal"] = 1
    if b.often(0.3):
        attrs["softcap"] = 2.0
    if b.often(0.3):
        attrs["scale"] = 0.3
    b.emit("Attention", inputs, 3 if past else 1, **attrs)


ATTENTION = {attention: 3, attention_op: 2}
