"""Single operators to measure: each a tiny ONNX model, inputs, flops, and the same for TF.js and jax-js.

`OPS` maps a name such as `gemm 640x768x2304` to an Op. Weights are constants of the model, as they are in
use, so that a library may pack them; TF.js and jax-js get them as tensors made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.bench.operators.layers import LAYERS, Layer
from tests.bench.operators.moves import memory_ops
from tests.bench.operators.narrow import narrow_ops
from tests.bench.operators.op import Op, build, normal


def gemm(m: int, k: int, n: int) -> Op:
    rng = np.random.default_rng(m * k + n)
    x, w = normal(rng, m, k), normal(rng, k, n, scale=k**-0.5)
    model = build([helper.make_node("MatMul", ["x", "w"], ["y"])], x, {"w": w})
    streamed = w.nbytes if m == 1 else 0
    return Op(f"gemm {m}x{k}x{n}", "matmul", model, {"x": x}, {"w": w}, 2.0 * m * k * n, streamed=streamed)


def conv(title: str, size: int, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> Op:
    rng = np.random.default_rng(size * cin + cout)
    x = normal(rng, 1, cin, size, size)
    w = normal(rng, cout, cin // groups, kernel, kernel, scale=(cin // groups * kernel * kernel) ** -0.5)
    pad, out = kernel // 2, (size + 2 * (kernel // 2) - kernel) // stride + 1
    attrs: dict[str, Any] = {"strides": [stride, stride], "pads": [pad] * 4, "group": groups}
    model = build([helper.make_node("Conv", ["x", "w"], ["y"], **attrs)], x, {"w": w})
    flops = 2.0 * out * out * cout * cin // groups * kernel * kernel
    return Op(f"conv {title}", "conv", model, {"x": x}, {"w": w}, flops, attrs)


def layer(of: Layer) -> Op:
    """One convolution as it is inside a model: each library has its input computed (a number for each channel and one
    for each place, added up) in whatever order of memory it likes, and the output reduced to one number."""
    rng = np.random.default_rng(of.channels * of.height + of.out)
    depth, (kh, kw) = of.channels // of.groups, of.window
    w = normal(rng, of.out, depth, kh, kw, scale=(depth * kh * kw) ** -0.5)
    attrs: dict[str, Any] = {"strides": [of.stride] * 2, "pads": list(of.pads), "group": of.groups,
                             "dilations": [of.dilation] * 2}  # fmt: skip
    sides = zip((of.height, of.width), of.window, of.pads[:2], of.pads[2:], strict=True)
    out = [(n + before + after - (k - 1) * of.dilation - 1) // of.stride + 1 for n, k, before, after in sides]
    flops = 2.0 * out[0] * out[1] * of.out * depth * kh * kw
    nodes = [
        helper.make_node("Mul", ["channel", "x"], ["c"]),
        helper.make_node("Add", ["c", "plane"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"], name="layer", **attrs),
        helper.make_node("ReduceMax", ["b"], ["y"], keepdims=0),
    ]
    one = np.ones((1,), np.float32)
    parts = {
        "channel": normal(rng, 1, of.channels, 1, 1),
        "plane": normal(rng, 1, 1, of.height, of.width),
        "w": w,
    }
    return Op(of.name, "layer", build(nodes, one, parts), {"x": one}, {}, flops, attrs)


def softmax(rows: int, columns: int) -> Op:
    x = normal(np.random.default_rng(rows), rows, columns)
    model = build([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], x, {})
    return Op(f"softmax {rows}x{columns}", "softmax", model, {"x": x}, {}, 5.0 * rows * columns)


def layernorm(rows: int, columns: int) -> Op:
    rng = np.random.default_rng(rows)
    x, w = normal(rng, rows, columns), {"scale": normal(rng, columns), "bias": normal(rng, columns)}
    node = helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["y"], epsilon=1e-5)
    return Op(
        f"layernorm {rows}x{columns}", "layernorm", build([node], x, w), {"x": x}, w, 8.0 * rows * columns
    )


def gelu_chain(rows: int, columns: int) -> Op:
    """bias, gelu as exporters write it out (x/2 * (1 + erf(x/sqrt 2))), residual: can be one loop."""
    rng = np.random.default_rng(rows)
    x = normal(rng, rows, columns)
    w = {
        "bias": normal(rng, columns),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    steps = [
        helper.make_node("Add", ["x", "bias"], ["a"]),
        helper.make_node("Div", ["a", "root"], ["b"]),
        helper.make_node("Erf", ["b"], ["c"]),
        helper.make_node("Add", ["c", "one"], ["d"]),
        helper.make_node("Mul", ["a", "d"], ["e"]),
        helper.make_node("Mul", ["e", "half"], ["f"]),
        helper.make_node("Add", ["f", "x"], ["y"]),
    ]
    return Op(f"gelu {rows}x{columns}", "gelu", build(steps, x, w), {"x": x}, w, 30.0 * rows * columns)


GEMMS = (
    # of the paper: layers of transformers
    (128, 768, 3072),
    (640, 768, 2304),
    (640, 3072, 768),
    (384, 768, 768),
    (384, 768, 3072),
    (384, 3072, 768),
    # odd ones: primes, tall, flat, few rows, short and long sums
    (127, 251, 509),
    (33, 100, 47),
    (1000, 64, 1000),
    (1000, 17, 31),
    (16, 1024, 1024),
    (17, 768, 768),
    (2048, 32, 2048),
    (64, 4096, 64),
    (333, 777, 111),
    (5, 768, 768),
    (1, 768, 3072),
    (1, 4096, 4096),
)

CONVS = (
    ("resnet stem 7x7/2 3-64 @224", 224, 3, 64, 7, 2),
    ("resnet 1x1 64-256 @56", 56, 64, 256, 1),
    ("resnet 3x3 64-64 @56", 56, 64, 64, 3),
    ("resnet 3x3/2 128-128 @56", 56, 128, 128, 3, 2),
    ("resnet 3x3 256-256 @14", 14, 256, 256, 3),
    ("resnet 1x1 1024-2048/2 @14", 14, 1024, 2048, 1, 2),
    ("resnet 3x3 512-512 @7", 7, 512, 512, 3),
    ("mobilenet stem 3x3/2 3-32 @224", 224, 3, 32, 3, 2),
    ("mobilenet depthwise 3x3 144 @56", 56, 144, 144, 3, 1, 144),
    ("mobilenet depthwise 3x3/2 144 @56", 56, 144, 144, 3, 2, 144),
    ("mobilenet 1x1 144-24 @56", 56, 144, 24, 1),
    ("mobilenet 1x1 320-1280 @7", 7, 320, 1280, 1),
)


def all_ops() -> dict[str, Op]:
    ops = [gemm(*shape) for shape in GEMMS] + [conv(*layer) for layer in CONVS]
    ops += [layer(of) for of in LAYERS.values()] + memory_ops() + narrow_ops(CONVS)
    ops += [
        softmax(4608, 384),
        softmax(1, 50257),
        softmax(1, 262144),
        softmax(3, 262144),
        layernorm(384, 768),
        layernorm(1, 4096),
        layernorm(1, 1 << 20),
        layernorm(77, 1001),
        gelu_chain(384, 3072),
    ]
    return {op.name: op for op in ops}
