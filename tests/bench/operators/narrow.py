"""Operators on narrow numbers to measure: integers of 8 bits, weights of 4 bits, 8 bits and f16.

`narrow_ops` gives them in four forms. `qlinear …` is one layer by itself, bytes in and bytes out. `qlayer …` is the
same layer as it is inside a model: each library has its input made in whatever order of memory it likes, and the
output reduced to one number. `qdq …` and `dynamic …` are chains as quantisers leave them, `nbits …` and `f16 …`
products with weights that stay narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bench.operators.op import Op, build, normal, typed_op

Weights = dict[str, np.ndarray]
ConvRow = tuple[Any, ...]
of = helper.make_node

QINPUTS = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
QMATMULS = (
    (384, 768, 768),
    (384, 768, 3072),
    (384, 3072, 768),
    (128, 384, 1536),
    (127, 251, 509),
    (16, 1024, 1024),
    (1, 768, 3072),
)


def narrow_ops(convs: Sequence[ConvRow]) -> list[Op]:
    """All rows; `convs` are (title, size, channels in, out, window, stride, groups)."""
    layers = [qmatmul(*shape) for shape in QMATMULS] + [qconv(*layer) for layer in convs]
    made = [*layers, *(inside(layer) for layer in layers)]
    made += [qdq_conv(64, 56), qdq_conv(256, 14), qdq_matmul(384, 768, 3072), qdq_matmul(128, 384, 1536)]
    made += [dynamic(384, 768, 768), dynamic(128, 384, 1536), dynamic(1, 768, 3072)]
    made += [nbits(1, 2048, 2048), nbits(1, 2048, 8192), nbits(1, 2048, 2048, 8), nbits(64, 2048, 2048)]
    made += [nbits(64, 2048, 2048, 8)]
    return made + [half(1, 2048, 2048), half(16, 768, 3072), half(384, 768, 3072)]


def quantised(rng: np.random.Generator, terms: int, *weight: int, channels: int = 0) -> Weights:
    """Scales, zero points and i8 weights of a layer of u8 activations; a scale for each of `channels`, or one."""
    scale = 0.01 * (0.5 + rng.random(channels)) if channels else np.array(0.01)
    return {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(117, np.uint8),
        "w": rng.integers(-127, 128, weight).astype(np.int8),
        "ws": scale.astype(np.float32),
        "wz": np.zeros(channels or (), np.int8),
        # a sum of `terms` products of deviations 74 and 73: 5 deviations fill 255 steps
        "ys": np.array(0.02 * 0.01 * 74 * 73 * terms**0.5 / 50, np.float32),
        "yz": np.array(128, np.uint8),
    }


# ---- one layer ----


def qmatmul(m: int, k: int, n: int) -> Op:
    rng = np.random.default_rng(m * k + n)
    x, w = rng.integers(0, 256, (m, k)).astype(np.uint8), quantised(rng, k, k, n)
    model = build([of("QLinearMatMul", QINPUTS, ["y"], name="layer")], x, w)
    return Op(f"qlinear matmul {m}x{k}x{n}", "qmatmul", model, {"x": x}, w, 2.0 * m * k * n)


def qconv(title: str, size: int, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> Op:
    """A layer as quantisers leave it: u8 in and out, i8 weights with a scale for each channel, a bias."""
    rng = np.random.default_rng(size * cin + cout)
    x, inner = rng.integers(0, 256, (1, cin, size, size)).astype(np.uint8), cin // groups
    w = quantised(rng, inner * kernel * kernel, cout, inner, kernel, kernel, channels=cout)
    w["b"] = rng.integers(-5000, 5000, cout).astype(np.int32)
    pad, out = kernel // 2, (size + 2 * (kernel // 2) - kernel) // stride + 1
    attrs: dict[str, Any] = {"strides": [stride, stride], "pads": [pad] * 4, "group": groups}
    model = build([of("QLinearConv", [*QINPUTS, "b"], ["y"], name="layer", **attrs)], x, w)
    flops = 2.0 * out * out * cout * inner * kernel * kernel
    return Op(f"qlinear {title}", "qconv", model, {"x": x}, w, flops, attrs)


def inside(layer: Op) -> Op:
    """The layer between a Where that a fed truth decides, which makes its bytes, and the largest of its results."""
    model = onnx.load_from_string(layer.model)
    (node,) = model.graph.node
    node.input[0], node.output[0] = "a", "made"
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    image = layer.feeds["x"]
    weights |= {"image": image, "other": 255 - image}
    nodes = [of("Where", ["x", "image", "other"], ["a"]), node, of("ReduceMax", ["made"], ["y"], keepdims=0)]
    name = layer.name.replace("qlinear", "qlayer")
    op = typed_op(name, nodes, np.array([True]), weights, np.uint8, layer.flops, kind=layer.kind)
    return replace(op, attrs=layer.attrs)


# ---- chains ----


class Chain:
    """Nodes and weights of a chain in the making: each value between two layers is bytes, quantised and back."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: Weights = {}

    def add(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(of(op, list(inputs), [name], **attrs))
        return name

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def bytes(self, x: str, scale: float, zero: int) -> str:
        """`x` quantised to u8 and dequantised."""
        by = [self.const(scale), self.const(zero, np.uint8)]
        return self.add("DequantizeLinear", [self.add("QuantizeLinear", [x, *by]), *by])

    def weight(self, *shape: int, axis: int) -> str:
        """i8 weights, dequantised by a scale for each place along `axis`, that keep a signal as large as it is."""
        terms = int(np.prod(shape)) // shape[axis]
        q = self.const(self.rng.integers(-127, 128, shape), np.int8)
        scale = (0.75 + self.rng.random(shape[axis]) / 2) / 73 * (2 / terms) ** 0.5
        zero = self.const(np.zeros(shape[axis]), np.int8)
        return self.add("DequantizeLinear", [q, self.const(scale), zero], axis=axis)


def qdq_conv(channels: int, size: int) -> Op:
    """A residual block of two 3x3 convolutions: Conv, Relu, Conv, Add, Relu, each between bytes."""
    chain = Chain(np.random.default_rng(channels))
    image = chain.const(normal(chain.rng, 1, channels, size, size))
    x = chain.bytes(chain.add("Mul", [image, "x"]), 0.03, 128)
    window: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1] * 4}
    y = x
    for n in range(2):
        y = chain.add(
            "Conv",
            [y, chain.weight(channels, channels, 3, 3, axis=0), chain.const(np.zeros(channels))],
            **window,
        )
        y = chain.bytes(chain.add("Relu", [y]) if n == 0 else y, *((0.02, 0) if n == 0 else (0.03, 128)))
    y = chain.bytes(chain.add("Relu", [chain.add("Add", [x, y])]), 0.03, 0)
    flops = 2 * 2.0 * channels * channels * 9 * size * size
    return _finished(chain, y, f"qdq conv relu conv add {channels}x{size}x{size}", flops)


def qdq_matmul(rows: int, width: int, hidden: int) -> Op:
    """Two products with a bias each and a Relu between them, as the feed-forward part of a transformer."""
    chain = Chain(np.random.default_rng(rows + width))
    image = chain.const(normal(chain.rng, rows, width))
    y = chain.bytes(chain.add("Mul", [image, "x"]), 0.03, 128)
    for n, (k, m) in enumerate(((width, hidden), (hidden, width))):
        y = chain.add("MatMul", [y, chain.weight(k, m, axis=1)])
        y = chain.add("Add", [y, chain.const(normal(chain.rng, m, scale=0.1))])
        y = chain.bytes(chain.add("Relu", [y]), 0.02, 0) if n == 0 else chain.bytes(y, 0.03, 128)
    return _finished(
        chain, y, f"qdq matmul relu matmul {rows}x{width}x{hidden}", 2 * 2.0 * rows * width * hidden
    )


def dynamic(m: int, k: int, n: int) -> Op:
    """DynamicQuantizeLinear, MatMulInteger, Cast, Mul: what onnxruntime's dynamic quantiser makes of a MatMul."""
    chain = Chain(np.random.default_rng(m + n))
    x = chain.add("Mul", [chain.const(normal(chain.rng, m, k)), "x"])
    chain.nodes.append(of("DynamicQuantizeLinear", [x], ["q", "qs", "qz"]))
    w = chain.const(chain.rng.integers(-127, 128, (k, n)), np.int8)
    total = chain.add("MatMulInteger", ["q", w, "qz", chain.const(0, np.int8)])
    scale = chain.add("Mul", ["qs", chain.const(0.01)])
    y = chain.add("Mul", [chain.add("Cast", [total], to=TensorProto.FLOAT), scale])
    return _finished(chain, y, f"dynamic matmul {m}x{k}x{n}", 2.0 * m * k * n)


def _finished(chain: Chain, y: str, name: str, flops: float) -> Op:
    nodes = [*chain.nodes, of("ReduceMax", [y], ["y"], keepdims=0)]
    return typed_op(name, nodes, np.ones((1,), np.float32), chain.weights, np.float32, flops)


# ---- weights that stay narrow ----


def nbits(m: int, k: int, n: int, bits: int = 4, block: int = 32) -> Op:
    """Weights of `bits` bits in blocks, as small language models have them; onnxruntime's own operator."""
    rng = np.random.default_rng(k + n)
    weights = {
        "b": rng.integers(0, 256, (n, k // block, block * bits // 8)).astype(np.uint8),
        "s": (rng.random(n * k // block) / k**0.5 / 8).astype(np.float32),
    }
    attrs: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": block}
    node = of("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **attrs)
    name = f"nbits {bits} bits {m}x{k}x{n}"
    op = typed_op(name, [node], normal(rng, m, k), weights, np.float32, 2.0 * m * k * n, kind="nbits")
    return replace(op, streamed=weights["b"].nbytes if m == 1 else 0)


def half(m: int, k: int, n: int) -> Op:
    """Weights of f16, computed with in f32."""
    rng = np.random.default_rng(k + n)
    weights = {"w": normal(rng, k, n, scale=k**-0.5).astype(np.float16)}
    nodes = [of("Cast", ["w"], ["v"], to=TensorProto.FLOAT), of("MatMul", ["x", "v"], ["y"])]
    op = typed_op(
        f"f16 weights {m}x{k}x{n}",
        nodes,
        normal(rng, m, k),
        weights,
        np.float32,
        2.0 * m * k * n,
        kind="half",
    )
    return replace(op, streamed=weights["w"].nbytes if m == 1 else 0)
