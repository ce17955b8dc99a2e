"""Single operators to measure: each a tiny ONNX model, inputs, flops, and the same for TF.js and jax-js.

`OPS` maps a name such as `gemm 640x768x2304` to an Op. Weights are constants of the model, as they are in
use, so that a library may pack them; TF.js and jax-js get them as tensors made once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bench.layers import LAYERS, Layer

OPSET = 20


@dataclass(frozen=True)
class Op:
    """`kind` and `attrs` are what the peers without ONNX need; flops count a multiply-add as two. `streamed`: bytes of
    weights that are used once each, where reading them and not arithmetic bounds the time; 0 elsewhere."""

    name: str
    kind: str
    model: bytes
    feeds: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    flops: float
    attrs: dict[str, Any] = field(default_factory=dict)
    streamed: int = 0


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def build(nodes: list[onnx.NodeProto], x: np.ndarray, weights: dict[str, np.ndarray]) -> bytes:
    """A model of input x and output y of one type."""
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "op",
        [helper.make_tensor_value_info("x", dtype, list(x.shape))],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())


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
    """One convolution as it is inside a model."""
    rng = np.random.default_rng(of.channels * of.height + of.out)
    depth, (kh, kw) = of.channels // of.groups, of.window
    x = normal(rng, 1, of.channels, of.height, of.width)
    w = normal(rng, of.out, depth, kh, kw, scale=(depth * kh * kw) ** -0.5)
    attrs: dict[str, Any] = {"strides": [of.stride] * 2, "pads": list(of.pads), "group": of.groups,
                             "dilations": [of.dilation] * 2}  # fmt: skip
    sides = zip((of.height, of.width), of.window, of.pads[:2], of.pads[2:], strict=True)
    out = [(n + before + after - (k - 1) * of.dilation - 1) // of.stride + 1 for n, k, before, after in sides]
    flops = 2.0 * out[0] * out[1] * of.out * depth * kh * kw
    return inside(of.name, helper.make_node("Conv", ["a", "w"], ["b"], **attrs), x, {"w": w}, flops)


def inside(
    name: str, node: onnx.NodeProto, image: np.ndarray, weights: dict[str, np.ndarray], flops: float
) -> Op:
    """`node` (from `a` to `b`) as it is inside a model: its input is computed, a constant image times the fed
    scalar, and its output reduced to one number, so that no time goes into moving images in and out of a library."""
    nodes = [
        helper.make_node("Mul", ["image", "x"], ["a"]),
        node,
        helper.make_node("ReduceMax", ["b"], ["y"], keepdims=0),
    ]
    one = np.ones((1,), np.float32)
    return Op(name, "layer", build(nodes, one, {**weights, "image": image}), {"x": one}, {}, flops)


def memory_ops() -> list[Op]:
    """What memory bounds: pooling, reductions, transposes, resizing, joining; flops count each input once."""
    rng = np.random.default_rng(5)
    deep, wide, rows = normal(rng, 1, 64, 112, 112), normal(rng, 1, 1280, 7, 7), normal(rng, 64, 384, 96)
    two = {"scales": np.array([1, 1, 2, 2], np.float32)}
    axes = {axis: {"axes": np.array([axis], np.int64)} for axis in (1, 2)}
    norm = {"scale": normal(rng, 64), "bias": normal(rng, 64)}
    heads = normal(rng, 1, 384, 12, 64)
    of = helper.make_node
    table: list[tuple[str, onnx.NodeProto, np.ndarray, dict[str, np.ndarray]]] = [
        ("pool max 3x3 s2 64x112x112",
         of("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), deep, {}),
        ("pool average 2x2 s2 64x112x112",
         of("AveragePool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]), deep, {}),
        ("pool global 1280x7x7", of("GlobalAveragePool", ["a"], ["b"]), wide, {}),
        ("reduce mean 64x384x96 last", of("ReduceMean", ["a", "axes"], ["b"]), rows, axes[2]),
        ("reduce sum 64x384x96 middle", of("ReduceSum", ["a", "axes"], ["b"]), rows, axes[1]),
        ("transpose 64x384x96 021", of("Transpose", ["a"], ["b"], perm=[0, 2, 1]), rows, {}),
        ("transpose 384x12x64 0213", of("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]), heads, {}),
        ("resize nearest x2 64x112x112", of("Resize", ["a", "", "scales"], ["b"], mode="nearest"), deep, two),
        ("instance norm 64x112x112", of("InstanceNormalization", ["a", "scale", "bias"], ["b"]), deep, norm),
        ("concat 64x384x96 twice", of("Concat", ["a", "image"], ["b"], axis=1), rows, {}),
        ("softmax 64x384x96 last", of("Softmax", ["a"], ["b"], axis=2), rows, {}),
        ("cumsum 64x384x96 last", of("CumSum", ["a", "axis"], ["b"]), rows, {"axis": np.array(2, np.int64)}),
        ("hard swish 64x112x112", of("HardSwish", ["a"], ["b"]), deep, {}),
    ]  # fmt: skip
    return [inside(name, node, image, weights, float(image.size)) for name, node, image, weights in table]


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


def quantised(rng: np.random.Generator, terms: int, *weight: int, channels: int = 0) -> dict[str, np.ndarray]:
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


QINPUTS = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]


def qmatmul(m: int, k: int, n: int) -> Op:
    rng = np.random.default_rng(m * k + n)
    x, w = rng.integers(0, 256, (m, k)).astype(np.uint8), quantised(rng, k, k, n)
    model = build([helper.make_node("QLinearMatMul", QINPUTS, ["y"])], x, w)
    return Op(f"qlinear matmul {m}x{k}x{n}", "qmatmul", model, {"x": x}, w, 2.0 * m * k * n)


def qconv(title: str, size: int, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> Op:
    """A layer as quantisers leave it: u8 in and out, i8 weights with a scale for each channel, a bias."""
    rng = np.random.default_rng(size * cin + cout)
    x, inner = rng.integers(0, 256, (1, cin, size, size)).astype(np.uint8), cin // groups
    w = quantised(rng, inner * kernel * kernel, cout, inner, kernel, kernel, channels=cout)
    w["b"] = rng.integers(-5000, 5000, cout).astype(np.int32)
    pad, out = kernel // 2, (size + 2 * (kernel // 2) - kernel) // stride + 1
    attrs: dict[str, Any] = {"strides": [stride, stride], "pads": [pad] * 4, "group": groups}
    model = build([helper.make_node("QLinearConv", [*QINPUTS, "b"], ["y"], **attrs)], x, w)
    flops = 2.0 * out * out * cout * inner * kernel * kernel
    return Op(f"qlinear {title}", "qconv", model, {"x": x}, w, flops, attrs)


def nbits(m: int, k: int, n: int, bits: int = 4, block: int = 32) -> Op:
    """Weights of `bits` bits in blocks, as small language models have them; onnxruntime's own operator."""
    rng = np.random.default_rng(k + n)
    x = normal(rng, m, k)
    w = {
        "b": rng.integers(0, 256, (n, k // block, block * bits // 8)).astype(np.uint8),
        "s": (rng.random(n * k // block) / k**0.5 / 8).astype(np.float32),
    }
    attrs = {"K": k, "N": n, "bits": bits, "block_size": block}
    node = helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", **attrs)
    graph = helper.make_graph(
        [node],
        "op",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [m, n])],
        [numpy_helper.from_array(value, name) for name, value in w.items()],
    )
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    name = f"nbits {bits} bits {m}x{k}x{n}"
    return Op(name, "nbits", model.SerializeToString(), {"x": x}, w, 2.0 * m * k * n)


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


QMATMULS = (
    (384, 768, 768),
    (384, 768, 3072),
    (384, 3072, 768),
    (128, 384, 1536),
    (127, 251, 509),
    (16, 1024, 1024),
    (1, 768, 3072),
)


def all_ops() -> dict[str, Op]:
    ops = [gemm(*shape) for shape in GEMMS] + [conv(*layer) for layer in CONVS]
    ops += [qmatmul(*shape) for shape in QMATMULS] + [qconv(*layer) for layer in CONVS]
    ops += [nbits(1, 2048, 2048), nbits(1, 2048, 8192), nbits(1, 2048, 2048, 8), nbits(64, 2048, 2048)]
    ops += [layer(of) for of in LAYERS.values()] + memory_ops()
    ops += [
        softmax(4608, 384),
        softmax(1, 50257),
        layernorm(384, 768),
        layernorm(77, 1001),
        gelu_chain(384, 3072),
    ]
    return {op.name: op for op in ops}
