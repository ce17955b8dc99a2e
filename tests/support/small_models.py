"""Small models with odd sizes, whose nodes go through most kernel families: (bytes, feeds) of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

RNG = np.random.default_rng(5)


def model_of(nodes: list[Any], feeds: dict[str, Any], weights: dict[str, Any], outputs: list[str]) -> bytes:
    def info(name: str, a: Any) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)

    graph = helper.make_graph(
        nodes,
        "small",
        [info(n, a) for n, a in feeds.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


def normal(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def vision() -> tuple[bytes, dict[str, Any]]:
    """3x3 strided and padded, depthwise, 1x1, pooling, a classifier: odd sizes throughout."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w0", "b0"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["a"], ["b"]),
        n("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1], group=10),
        n("HardSwish", ["c"], ["d"]),
        n("Conv", ["d", "w2", "b2"], ["e"]),
        n("Add", ["e", "b"], ["f"]),
        n("MaxPool", ["f"], ["g"], kernel_shape=[2, 2], strides=[2, 2]),
        n("GlobalAveragePool", ["g"], ["h"]),
        n("Flatten", ["h"], ["i"]),
        n("Gemm", ["i", "w3", "b3"], ["j"], transB=1),
        n("Softmax", ["j"], ["y"]),
    ]
    weights = {
        "w0": normal(10, 3, 3, 3), "b0": normal(10), "w1": normal(10, 1, 3, 3), "w2": normal(10, 10, 1, 1),
        "b2": normal(10), "w3": normal(7, 10), "b3": normal(7),
    }  # fmt: skip
    feeds = {"x": normal(2, 3, 11, 9)}
    return model_of(nodes, feeds, weights, ["y"]), feeds


def language() -> tuple[bytes, dict[str, Any]]:
    """Embedding rows by i64 ids, layer norm, attention scores, gelu, a residual."""
    n = helper.make_node
    nodes = [
        n("Gather", ["table", "ids"], ["x"]),
        n("LayerNormalization", ["x", "scale", "shift"], ["a"]),
        n("MatMul", ["a", "wq"], ["q"]),
        n("MatMul", ["a", "wk"], ["k"]),
        n("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        n("MatMul", ["q", "kt"], ["s"]),
        n("Mul", ["s", "root"], ["t"]),
        n("Softmax", ["t"], ["p"]),
        n("MatMul", ["p", "a"], ["c"]),
        n("MatMul", ["c", "w1"], ["d"]),
        n("Add", ["d", "b1"], ["e"]),
        n("Gelu", ["e"], ["f"]),
        n("MatMul", ["f", "w2"], ["g"]),
        n("Add", ["g", "x"], ["y"]),
    ]
    weights = {
        "table": normal(23, 12), "scale": normal(12), "shift": normal(12), "wq": normal(12, 12), "wk": normal(12, 12),
        "root": np.array(12**-0.5, np.float32), "w1": normal(12, 29), "b1": normal(29), "w2": normal(29, 12),
    }  # fmt: skip
    feeds = {"ids": RNG.integers(0, 23, (2, 7))}
    return model_of(nodes, feeds, weights, ["y"]), feeds


def _attention() -> list[onnx.NodeProto]:
    """y from q, k, v of [1, heads, rows, width] and a constant scale."""
    n = helper.make_node
    return [
        n("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2]),
        n("MatMul", ["q", "t"], ["s"]),
        n("Mul", ["s", "scale"], ["m"]),
        n("Softmax", ["m"], ["p"], axis=-1),
        n("MatMul", ["p", "v"], ["o"]),
        n("Transpose", ["o"], ["seen"], perm=[0, 2, 1, 3]),
        n("Relu", ["seen"], ["y"]),
    ]


def several_forms() -> tuple[bytes, dict[str, Any]]:
    """Nodes that can be lowered in several ways: three convolutions of 3x3, two of them alike, and attention; a product
    with a costly epilogue, a sum of what is computed where it is read, a convolution that a product reads."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w0", "b0"], ["a"], pads=[1, 1, 1, 1]),
        n("Relu", ["a"], ["b"]),
        n("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1]),
        n("Sigmoid", ["c"], ["d"]),
        n("Conv", ["d", "w2"], ["e"], pads=[1, 1, 1, 1]),
        n("Add", ["e", "b"], ["image"]),
        *_attention(),
        n("MatMul", ["rows", "w3"], ["r"]),
        n("Gelu", ["r"], ["g"]),
        n("MatMul", ["g", "w4"], ["z"]),
        n("Exp", ["rows"], ["f"]),
        n("ReduceMean", ["f", "last"], ["sums"]),
        n("Conv", ["x", "w5"], ["h"], strides=[2, 2]),
        n("Reshape", ["h", "flat"], ["i"]),
        n("MatMul", ["i", "w6"], ["classes"]),
    ]
    weights = {
        "w0": normal(24, 16, 3, 3), "b0": normal(24), "w1": normal(24, 24, 3, 3) / 8, "w2": normal(24, 24, 3, 3) / 8,
        "scale": np.float32([0.25]), "w3": normal(32, 48), "w4": normal(48, 24), "last": np.int64([-1]),
        "w5": normal(12, 16, 1, 1), "flat": np.int64([1, -1]), "w6": normal(1320, 7) / 8,
    }  # fmt: skip
    feeds = {
        "x": normal(1, 16, 22, 19),
        **{name: normal(1, 3, 21, 16) for name in "qkv"},
        "rows": normal(37, 32),
    }
    return model_of(nodes, feeds, weights, ["image", "y", "z", "sums", "classes"]), feeds


def several_gpu_forms() -> tuple[bytes, dict[str, Any]]:
    """Nodes that a GPU's plan can have in several ways: attention, a long sum of few outputs, a product with a costly
    epilogue, a sum of what is computed where it is read, a convolution that a product reads."""
    n = helper.make_node
    nodes = [
        *_attention(),
        n("MatMul", ["rows", "w0"], ["r"]),
        n("Relu", ["r"], ["g"]),
        n("MatMul", ["g", "w1"], ["h"]),
        n("Gelu", ["h"], ["z"]),
        n("Exp", ["rows"], ["f"]),
        n("ReduceMean", ["f", "last"], ["sums"]),
        n("Conv", ["x", "w2"], ["c"], strides=[2, 2]),
        n("Reshape", ["c", "flat"], ["i"]),
        n("MatMul", ["i", "w3"], ["classes"]),
    ]
    weights = {
        "scale": np.float32([0.25]), "w0": normal(512, 8) / 16, "w1": normal(8, 40), "last": np.int64([-1]),
        "w2": normal(12, 16, 1, 1), "flat": np.int64([1, -1]), "w3": normal(144, 7) / 8,
    }  # fmt: skip
    feeds = {
        **{name: normal(1, 2, 9, 8) for name in "qkv"},
        "rows": normal(9, 512),
        "x": normal(1, 16, 7, 5),
    }
    return model_of(nodes, feeds, weights, ["y", "z", "sums", "classes"]), feeds


GPU_FORMS = {
    ("ScaledDotProductAttention", "split instead of fused"),
    ("MatMul", "parts instead of whole"),
    ("MatMul+Gelu", "apart instead of fused"),
    ("ReduceMean+Exp", "apart instead of fused"),
    ("Conv+Reshape+MatMul", "rows instead of channels"),
}
"""Operators, and the ways of them that a small device is asked to try."""
