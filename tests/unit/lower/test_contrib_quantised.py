"""com.microsoft's operators on quantised tensors against native onnxruntime, and that kernels of bytes run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nnjit.runtime.local import LocalSession
from tests.support.contrib import Case, agree, codes, scale, zero_point
from tests.support.single import native, on_kernels

Rng = np.random.Generator
Array = Any


def bytes_of(rng: Rng) -> Any:
    return rng.choice(np.array([np.uint8, np.int8], dtype=object))


def weights_of(rng: Rng, dtype: Any) -> Any:
    """onnxruntime has products of signed bytes with signed ones only."""
    return np.int8 if dtype is np.int8 else bytes_of(rng)


def maybe(rng: Rng, value: Array) -> Array | None:
    return value if rng.random() < 0.8 else None


def shape(rng: Rng, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return tuple(int(rng.choice([1, 2, 3, 5, 8, 17])) for _ in range(rng.integers(least, most + 1)))


def binary(op: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        t, dims = bytes_of(rng), shape(rng)
        other = tuple(1 if rng.random() < 0.3 else d for d in dims)[int(rng.integers(len(dims))) :]
        triples: list[Array | None] = []
        for s in rng.permutation(np.array([dims, other], dtype=object)):
            triples += [codes(rng, t, *s), scale(rng), zero_point(rng, t)]  # onnxruntime wants each of them
        end = scale(rng) * (2 if op == "QLinearAdd" else 1)
        fed = (0, 3) if rng.random() < 0.5 else (0,)
        return Case(op, [*triples, end, zero_point(rng, t)], fed=fed, outputs=[t])

    return make


def unary(op: str) -> Callable[[Rng], Case]:
    def make(rng: Rng) -> Case:
        t = bytes_of(rng)
        attrs = {"alpha": float(rng.random())} if op == "QLinearLeakyRelu" and rng.random() < 0.7 else {}
        x = [codes(rng, t, *shape(rng)), scale(rng), maybe(rng, zero_point(rng, t)), scale(rng)]
        return Case(op, [*x, maybe(rng, zero_point(rng, t))], attrs, outputs=[t])

    return make


def softmax(rng: Rng) -> Case:
    t, dims = bytes_of(rng), (*shape(rng, 0, 2), 7, *shape(rng, 0, 1))
    axis, whole = [(-1, 13), (dims.index(7), 13), (dims.index(7), 11)][rng.integers(3)]
    attrs = {"axis": axis if dims[axis] > 1 else dims.index(7), "opset": whole}
    zero = np.array(np.iinfo(t).min, t)
    inputs = [codes(rng, t, *dims), scale(rng), zero_point(rng, t), np.float32(1 / 256), zero]
    return Case("QLinearSoftmax", inputs, attrs, outputs=[t])


def window(rng: Rng) -> dict[str, Any]:
    kernel = [int(rng.integers(1, 4)) for _ in range(2)]
    attrs: dict[str, Any] = {"kernel_shape": kernel}
    if rng.random() < 0.7:
        attrs["strides"] = [int(rng.integers(1, 3)) for _ in range(2)]
    if rng.random() < 0.6:
        attrs["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    return attrs


def average_pool(rng: Rng) -> Case:
    t, attrs = bytes_of(rng), window(rng) | {"count_include_pad": int(rng.integers(2))}
    if "pads" not in attrs and not attrs["count_include_pad"]:
        # with both, onnxruntime counts places beyond the padding, which ONNX has said since not to do
        attrs["ceil_mode"] = int(rng.integers(2))
    n, c, h, w = (int(v) for v in (rng.integers(1, 3), rng.choice([1, 3, 16]), *rng.integers(4, 12, 2)))
    last = int(rng.integers(2))
    dims = (n, h, w, c) if last else (n, c, h, w)
    inputs = [codes(rng, t, *dims), scale(rng), zero_point(rng, t), scale(rng), zero_point(rng, t)]
    return Case("QLinearAveragePool", inputs, attrs | {"channels_last": last}, outputs=[t])


def global_average_pool(rng: Rng) -> Case:
    t, last = bytes_of(rng), int(rng.integers(2))
    dims = tuple(int(rng.choice([1, 3, 7, 8, 16])) for _ in range(4))
    inputs = [codes(rng, t, *dims), scale(rng), zero_point(rng, t), scale(rng), zero_point(rng, t)]
    return Case("QLinearGlobalAveragePool", inputs, {"channels_last": last}, outputs=[t])


def concat(rng: Rng) -> Case:
    t, dims = bytes_of(rng), shape(rng, 2)
    axis, s, z = int(rng.integers(len(dims))), scale(rng), zero_point(rng, t)
    inputs: list[Array | None] = [s, z]
    fed = []
    for _ in range(int(rng.integers(1, 4))):
        own = list(dims)
        own[axis] = int(rng.integers(1, 6))
        fed.append(len(inputs))
        inputs += [codes(rng, t, *own), *((s, z) if rng.random() < 0.4 else (scale(rng), zero_point(rng, t)))]
    return Case("QLinearConcat", inputs, {"axis": axis}, fed=fed, outputs=[t])


def where(rng: Rng) -> Case:
    t, dims = bytes_of(rng), shape(rng)
    s, z = scale(rng), zero_point(rng, t)
    triples = [codes(rng, t, *dims), scale(rng), zero_point(rng, t), codes(rng, t, *dims[-1:]), s, z]
    return Case("QLinearWhere", [rng.random(dims) < 0.5, *triples, s, z], fed=(0, 1), outputs=[t])


def conv(rng: Rng) -> Case:
    t, last = bytes_of(rng), int(rng.integers(2))
    tw = weights_of(rng, t)
    groups = int(rng.choice([1, 1, 2]))
    cin, cout, size = (
        groups * int(rng.integers(1, 5)),
        groups * int(rng.integers(1, 9)),
        rng.integers(4, 9, 2),
    )
    attrs = window(rng) | {"group": groups, "channels_last": last}
    dims = (1, *size, cin) if last else (1, cin, *size)
    weights = codes(rng, tw, cout, cin // groups, *attrs["kernel_shape"])
    many = rng.random() < 0.5
    zw = np.zeros(cout, tw) if many else zero_point(rng, tw)
    inputs = [
        codes(rng, t, *dims), scale(rng), zero_point(rng, t), weights, scale(rng, *([cout] if many else [])), zw,
        np.float32(1.5), zero_point(rng, t), maybe(rng, rng.integers(-9000, 9000, cout).astype(np.int32)),
    ]  # fmt: skip
    return Case("QLinearConv", inputs, attrs, outputs=[t])


def gemm(rng: Rng) -> Case:
    t = bytes_of(rng)
    tw = weights_of(rng, t)
    m, k, n = (int(v) for v in rng.choice([1, 2, 5, 16, 33], 3))
    ta, tb = (int(v) for v in rng.integers(2, size=2))
    many = rng.random() < 0.5
    out = bool(rng.random() < 0.7)
    c = rng.integers(-9000, 9000, [(n,), (1, n), (m, n), (m, 1)][rng.integers(4)]).astype(np.int32)
    inputs = [
        codes(rng, t, *((k, m) if ta else (m, k))), scale(rng), zero_point(rng, t),
        codes(rng, tw, *((n, k) if tb else (k, n))), scale(rng, *([n] if many else [])),
        np.zeros(n, tw) if many else zero_point(rng, tw), maybe(rng, c),
        *([np.float32(1.5), zero_point(rng, t)] if out else []),
    ]  # fmt: skip
    attrs = {"transA": ta, "transB": tb, "alpha": float(rng.choice([1.0, 0.5]))}
    return Case("QGemm", inputs, attrs, outputs=[t if out else np.float32])


def dynamic_matmul(rng: Rng) -> Case:
    t = bytes_of(rng)
    k, n = (int(v) for v in rng.choice([1, 3, 16, 33], 2))
    many = rng.random() < 0.5
    dims = shape(rng, 1, 2)
    extra: list[Array | None] = [maybe(rng, codes(rng, t, n) if many else zero_point(rng, t))]
    extra.append(maybe(rng, rng.normal(size=n).astype(np.float32)))
    x = rng.normal(size=(*dims, k)).astype(np.float32)
    return Case("DynamicQuantizeMatMul", [x, codes(rng, t, k, n), scale(rng, *([n] if many else [])), *extra])


def matmul_to_float(rng: Rng) -> Case:
    t = bytes_of(rng)
    tw = weights_of(rng, t)
    k, n = (int(v) for v in rng.choice([1, 3, 16, 33], 2))
    many = rng.random() < 0.5
    inputs = [
        codes(rng, t, *shape(rng, 1, 2), k), codes(rng, tw, k, n), scale(rng), scale(rng, *([n] if many else [])),
        maybe(rng, zero_point(rng, t)), maybe(rng, codes(rng, tw, n) if many else zero_point(rng, tw)),
        maybe(rng, rng.normal(size=n).astype(np.float32)),
    ]  # fmt: skip
    return Case("MatMulIntegerToFloat", inputs)


def quantize(rng: Rng) -> Case:
    t = rng.choice(np.array([np.uint8, np.int8, np.int16, np.uint16], dtype=object))
    dims = shape(rng, 2, 3)
    axis = int(rng.integers(len(dims)))
    many = [dims[axis]] if rng.random() < 0.5 else []
    x = rng.normal(0, 3, dims).astype(np.float32)
    zero = rng.integers(0, 100, many).astype(t)
    return Case("QuantizeLinear", [x, scale(rng, *many), zero], {"axis": axis}, outputs=[t])


def dequantize(rng: Rng) -> Case:
    t = rng.choice(np.array([np.uint8, np.int8, np.int16, np.uint16], dtype=object))
    dims = shape(rng, 2, 3)
    axis = int(rng.integers(len(dims)))
    many = [dims[axis]] if rng.random() < 0.5 else []
    inputs = [codes(rng, t, *dims), scale(rng, *many), maybe(rng, rng.integers(0, 100, many).astype(t))]
    return Case("DequantizeLinear", inputs, {"axis": axis})


def lstm(rng: Rng) -> Case:
    t = bytes_of(rng)
    both = int(rng.integers(1, 3))
    hidden, width, batch, time = (int(v) for v in rng.choice([1, 3, 8], 4))

    def normal(*dims: int) -> Array:
        return rng.normal(0, 0.5, dims).astype(np.float32)

    columns = bool(rng.random() < 0.3)
    many = [both, 4 * hidden] if columns else [both]
    zero = np.full(many, 0 if columns else zero_point(rng, t), t)
    inputs = [
        normal(time, batch, width), codes(rng, t, both, width, 4 * hidden), codes(rng, t, both, hidden, 4 * hidden),
        maybe(rng, normal(both, 8 * hidden)), None, maybe(rng, normal(both, batch, hidden)),
        maybe(rng, normal(both, batch, hidden)), None, scale(rng, *many) / 10,
        zero, scale(rng, *many) / 10, zero,
    ]  # fmt: skip
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if both == 2 else "forward"}
    return Case("DynamicQuantizeLSTM", inputs, attrs, outputs=[np.float32] * 3)


def attention(rng: Rng) -> Case:
    t, tw = np.uint8, bytes_of(rng)  # of signed bytes onnxruntime has none
    heads, depth, rows, batch, wide = (
        int(rng.choice(c)) for c in ([1, 2, 4], [4, 8], [1, 3, 7], [1, 2], [8, 12])
    )
    columns, past = 3 * heads * depth, int(rng.choice([0, 5]))
    many = bool(rng.random() < 0.5)
    attrs = {"num_heads": heads, "unidirectional": int(rng.integers(2))}
    keys = rows + past
    mask = maybe(rng, rng.integers(1, keys + 1, batch).astype(np.int32))
    if mask is not None and rng.random() < 0.5:
        mask = (rng.random((batch, keys)) < 0.7).astype(np.int32)
        mask[:, 0] = 1
    before = rng.normal(size=(2, batch, heads, past, depth)).astype(np.float32) if past else None
    inputs = [
        codes(rng, t, batch, rows, wide), codes(rng, tw, wide, columns), rng.normal(size=columns).astype(np.float32),
        scale(rng), scale(rng, *([columns] if many else [])) / 20, mask, zero_point(rng, t),
        np.zeros(columns, tw) if many else zero_point(rng, tw), before,
    ]  # fmt: skip
    return Case("QAttention", inputs, attrs, outputs=[np.float32, np.float32 if past else None])


def embedding(rng: Rng) -> Case:
    t, wide, batch, rows = (
        bytes_of(rng),
        int(rng.choice([4, 12])),
        int(rng.integers(1, 3)),
        int(rng.integers(1, 7)),
    )
    kinds = bool(rng.random() < 0.7)
    tables: list[Array | None] = [codes(rng, t, 19, wide), codes(rng, t, 9, wide), codes(rng, t, 2, wide)]
    rest = [codes(rng, t, wide), codes(rng, t, wide)]
    ids = rng.integers(0, 19, (batch, rows)).astype(np.int32)
    segments = rng.integers(0, 2, (batch, rows)).astype(np.int32)
    mask = maybe(rng, (np.arange(rows) < rng.integers(1, rows + 1)).astype(np.int32)[None].repeat(batch, 0))
    scales: list[Array | None] = [scale(rng) for _ in range(5)]
    zeros: list[Array | None] = [zero_point(rng, t) for _ in range(5)]
    if not kinds:
        tables[2] = scales[2] = zeros[2] = None
    inputs = [ids, segments if kinds else None, *tables, *rest, mask, *scales, *zeros]
    return Case("QEmbedLayerNormalization", inputs, fed=(0, 1, 7), outputs=[np.float32, np.int32])


MAKERS: dict[str, Callable[[Rng], Case]] = {
    "QLinearAdd": binary("QLinearAdd"),
    "QLinearMul": binary("QLinearMul"),
    "QLinearSigmoid": unary("QLinearSigmoid"),
    "QLinearLeakyRelu": unary("QLinearLeakyRelu"),
    "QLinearSoftmax": softmax,
    "QLinearAveragePool": average_pool,
    "QLinearGlobalAveragePool": global_average_pool,
    "QLinearConcat": concat,
    "QLinearWhere": where,
    "QLinearConv": conv,
    "QGemm": gemm,
    "DynamicQuantizeMatMul": dynamic_matmul,
    "MatMulIntegerToFloat": matmul_to_float,
    "QuantizeLinear": quantize,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLSTM": lstm,
    "QAttention": attention,
    "QEmbedLayerNormalization": embedding,
}
SAMPLE = 2
"""Cases of each operator in CI."""


def check(op: str, seed: int) -> None:
    case = MAKERS[op](np.random.default_rng([seed, *op.encode()]))
    wanted, found = native(case.model(), case.feeds()), on_kernels(case.model(), case.feeds())
    # activations of an LSTM are not rounded to bytes here
    bounds = {"rtol": 0.05, "atol": 0.05} if op == "DynamicQuantizeLSTM" else {}
    for name, value in wanted.items():
        agree(found[name], value, **bounds)


@pytest.mark.parametrize("op", MAKERS)
def test_agrees_with_onnxruntime(op: str) -> None:
    for seed in range(SAMPLE):
        check(op, seed)


PRODUCTS = {
    "QAttention": "f32_matmulinteger", "QGemm": "8_matmulinteger", "DynamicQuantizeMatMul": "f32_matmulinteger",
    "MatMulIntegerToFloat": "f32_matmulinteger", "QLinearConv": "8_qlinearconv",
}  # fmt: skip


@pytest.mark.parametrize("op", PRODUCTS)
def test_products_are_of_integers(op: str) -> None:
    """One product, of bytes, and what follows it on each element in the same kernel."""
    rng = np.random.default_rng([1, *op.encode()])
    case = MAKERS[op](rng)
    session = LocalSession(case.model())
    session.run(case.feeds())
    assert session.last is not None
    steps = [step.name for step in session.last.steps]
    assert sum(s.endswith(PRODUCTS[op]) for s in steps) == 1, steps
    assert not any(s.endswith(("_matmul", "_conv")) for s in steps), steps
    if op == "QAttention":
        assert steps[-1] == "f32_attention"


def test_tables_of_bytes_are_looked_up_as_bytes() -> None:
    """No step widens a whole table: what a plan prepares at load and holds are bytes."""
    table = codes(np.random.default_rng(1), np.uint8, 5000, 16)
    ids = np.array([[3, 4999, 7]], np.int32)
    one = [table[:9], table[:2], table[0], table[1]]
    inputs = [ids, ids % 2, table, *one, None, *[np.float32(0.1)] * 5, *[np.uint8(128)] * 5]
    case = Case("QEmbedLayerNormalization", inputs, fed=(0, 1), outputs=[np.float32, np.int32])
    session = LocalSession(case.model())
    agree(session.run(case.feeds())["y0"], native(case.model(), case.feeds())["y0"])
    assert session.last is not None
    assert session.last.pages * 65536 < 4 * table.size
