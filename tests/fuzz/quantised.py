"""Quantised chains: nodes between DequantizeLinear and QuantizeLinear, integer products, weights of bytes."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests.fuzz.builder import Builder, Rejected, Value
from tests.fuzz.sums import window


def scale_zero(b: Builder, kind: str, x: Value, axis: int | None = None) -> tuple[Value, Value]:
    shape = () if axis is None else (x.shape[axis],)
    info = np.iinfo(kind)
    step = np.asarray(b.numbers.uniform(0.02, 0.06, shape), np.float32)
    middle = (info.max + info.min + 1) // 2
    symmetric = kind == "int8" and b.often(0.6)
    zero = (
        np.zeros(shape)
        if symmetric
        else np.clip(middle + b.numbers.integers(-9, 9, shape), info.min, info.max)
    )
    return b.leaf(step, True), b.leaf(np.asarray(zero, kind), True)


def refused(b: Builder, x: Value) -> bool:
    """What the reference quantises infinities and NaN to is its processor's; onnxruntime saturates."""
    return bool(b.doubted) and not np.isfinite(x.array).all()


def quantised(b: Builder, x: Value, kind: str = "") -> Value:
    """Quantised and back again, exact values only: others may lie at a tie."""
    if not x.exact or refused(b, x):
        raise Rejected
    kind = kind or b.one(["uint8", "int8"])
    step, zero = scale_zero(b, kind, x)
    (q,) = b.emit("QuantizeLinear", [x, step, zero], exact=True)
    return b.emit("DequantizeLinear", [q, step, zero], exact=True)[0]


def held(b: Builder, shape: tuple[int, ...], kind: str, axis: int | None) -> Value:
    """A constant of bytes, dequantised: per tensor or per channel."""
    info = np.iinfo(kind)
    q = b.leaf(b.numbers.integers(info.min, info.max + 1, shape).astype(kind), True)
    channel = axis if axis is not None and b.often(0.6) else None
    step, zero = scale_zero(b, kind, q, channel)
    attrs = {} if channel is None else {"axis": channel}
    return b.emit("DequantizeLinear", [q, step, zero], exact=True, **attrs)[0]


def rounded(b: Builder, y: Value) -> None:
    """Quantised at last; not where a value lies at a tie, from where rounding takes it to either side."""
    kind = b.one(["uint8", "int8"])
    step, zero = scale_zero(b, kind, y)
    array = y.array.astype(np.float64) / float(step.array)
    if refused(b, y) or np.abs(array - np.floor(array) - 0.5).min(initial=1) < 1e-3:
        raise Rejected
    b.emit("QuantizeLinear", [y, step, zero], exact=True)


def quantised_chain(b: Builder) -> None:
    way = b.chance.randrange(4)
    if way == 0:
        x = quantised(b, b.fresh("float32", (b.one([1, 3, 9]), b.one([1, 4, 7, 16, 33]))))
        w = held(b, (x.shape[1], b.one([1, 5, 8, 17])), b.one(["int8", "uint8"]), 1)
        (y,) = b.emit("MatMul", [x, w])
        if b.often(0.5):
            (y,) = b.emit("Add", [y, b.fresh("float32", (y.shape[-1],))])
    elif way == 1:
        c = b.one([1, 3, 4, 8])
        x = quantised(b, b.fresh("float32", (b.one([1, 2]), c, b.one([3, 5, 8]), b.one([4, 7]))))
        group = b.one([1, c])
        out = group * b.one([1, 2, 3])
        w = held(b, (out, c // group, *b.one([(1, 1), (3, 3), (2, 3)])), b.one(["int8", "int8", "uint8"]), 0)
        attrs = window(b, x, list(w.shape[2:]))
        (y,) = b.emit(
            "Conv", [x, w, *([b.fresh("float32", (out,))] if b.often(0.5) else [])], group=group, **attrs
        )
    elif way == 2:
        shape = b.some_shape(1, 4)
        first = quantised(b, b.fresh("float32", shape))
        second = quantised(b, b.fresh("float32", b.spread(shape)))
        (y,) = b.emit(b.one(["Add", "Mul", "Sub"]), [first, second])
    else:
        integer_product(b)
        return
    if b.often(0.4):
        (y,) = b.emit("Relu", [y])
    rounded(b, y)


def integer_product(b: Builder) -> None:
    """MatMulInteger, ConvInteger and the QLinear operators, zero points of every kind."""
    kinds = [b.one(["uint8", "int8"]), b.one(["uint8", "int8"])]
    m, k, n = b.one([1, 3, 9]), b.one([1, 3, 4, 16, 33]), b.one([1, 5, 8, 17])
    way = b.chance.randrange(3)
    if way == 0:
        batch = b.one([(), (2,), (1, 3)])
        x, w = b.fresh(kinds[0], (*batch, m, k)), b.leaf(b.numbers_of(kinds[1], (k, n)), b.often(0.7))
        zeros: list[Value | None] = []
        if b.often(0.7):
            zeros.append(b.leaf(b.numbers_of(kinds[0], ()), b.often(0.7)))
            if b.often(0.6):
                zeros.append(b.leaf(b.numbers_of(kinds[1], (n,) if b.often(0.4) else ()), True))
        b.emit("MatMulInteger", [x, w, *zeros], exact=True)
    elif way == 1:
        c = b.one([1, 3, 4, 8])
        x = b.fresh(kinds[0], (1, c, b.one([3, 5]), b.one([4, 7])))
        w = b.leaf(b.numbers_of(kinds[1], (b.one([2, 5]), c, *b.one([(1, 1), (3, 3)]))), True)
        zeros = [b.leaf(b.numbers_of(kinds[0], ()), True)] if b.often(0.6) else []
        b.emit("ConvInteger", [x, w, *zeros], exact=True, **window(b, x, list(w.shape[2:])))
    else:
        block = b.one([16, 32])
        bits, size = b.one([4, 8]), b.one([block, 2 * block, 2 * block - 5])
        blocks = -(-size // block)
        x = b.finite(b.fresh("float32", (b.one([1, 2, 9]), size)))  # weights of 0
        packed = b.leaf(b.numbers_of("uint8", (n, blocks, block * bits // 8)), True)
        steps = b.leaf(b.numbers_of("float32", (n, blocks), 0.01, 0.05), True)
        extra: list[Value | None] = []
        if b.often(0.5):
            extra.append(b.leaf(b.numbers_of("uint8", (n, -(-blocks * bits // 8))), True))
        add_weights(b, x, packed, steps, extra, n, bits, block)


def add_weights(
    b: Builder,
    x: Value,
    packed: Value,
    steps: Value,
    extra: list[Value | None],
    n: int,
    bits: int,
    block: int,
) -> None:
    """com.microsoft's MatMulNBits, which onnx.reference does not know: its value is put together here."""
    q, blocks = packed.array, packed.shape[1]
    codes = q if bits == 8 else np.stack([q & 15, q >> 4], -1).reshape(n, blocks, block)
    zeros = np.full((n, blocks), 1 << (bits - 1))
    if extra and extra[0] is not None:
        z = extra[0].array
        zeros = z if bits == 8 else np.stack([z & 15, z >> 4], -1).reshape(n, -1)[:, :blocks]
    wide = (codes.astype(np.float64) - zeros[..., None]) * steps.array[..., None]
    k = x.shape[1]
    y = (x.array.astype(np.float64) @ wide.reshape(n, -1)[:, :k].T).astype(np.float32)
    name = f"t{len(b.values)}"
    inputs = [x, packed, steps, *extra]
    b.nodes.append(
        helper.make_node(
            "MatMulNBits", ["" if v is None else v.name for v in inputs], [name], domain="com.microsoft",
            K=k, N=n, bits=bits, block_size=block,
        )
    )  # fmt: skip
    b.values[name] = Value(name, y, b.shaken(y), False)


def dynamic(b: Builder) -> None:
    x = b.of("float32", low=1, high=3, exact=True)
    if not x.array.size:
        raise Rejected
    b.emit("DynamicQuantizeLinear", [b.finite(x)], 3)  # a GPU divides to 2.5 ulp


QUANTISED = {quantised_chain: 4, dynamic: 1, integer_product: 2}
