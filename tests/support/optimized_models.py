"""A small network as onnxruntime's quantiser and optimizer leave it: QOperator format, fused at each level."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from tests.support.contrib import MICROSOFT

X = np.random.default_rng(4).normal(size=(1, 3, 16, 16)).astype(np.float32)


def network() -> onnx.ModelProto:
    """Strided, pointwise and depthwise convolutions, gates, a residual, pools, Concat, Resize, Gemm, Softmax."""
    n, rng = helper.make_node, np.random.default_rng(3)
    weights: dict[str, Any] = {"sizes": np.array([1, 1, 2, 2], np.float32)}

    def w(name: str, *shape: int) -> str:
        weights[name] = rng.normal(0, 0.3, shape).astype(np.float32)
        return name

    nodes = [
        n("Conv", ["x", w("w0", 8, 3, 3, 3), w("b0", 8)], ["a"], pads=[1] * 4, strides=[2, 2]),
        n("Relu", ["a"], ["b"]),
        n("Conv", ["b", w("w1", 8, 8, 1, 1), w("b1", 8)], ["c"]),
        n("LeakyRelu", ["c"], ["d"], alpha=0.1),
        n("Conv", ["d", w("w2", 8, 1, 3, 3), w("b2", 8)], ["e"], pads=[1] * 4, group=8),
        n("Sigmoid", ["e"], ["f"]),
        n("Mul", ["e", "f"], ["g"]),
        n("Add", ["g", "b"], ["h"]),
        n("MaxPool", ["h"], ["i"], kernel_shape=[2, 2], strides=[2, 2]),
        n("AveragePool", ["h"], ["j"], kernel_shape=[2, 2], strides=[2, 2]),
        n("Concat", ["i", "j"], ["k"], axis=1),
        n("Resize", ["k", "", "sizes"], ["l"], mode="nearest"),
        n("GlobalAveragePool", ["l"], ["m"]),
        n("Flatten", ["m"], ["n"]),
        n("Gemm", ["n", w("w3", 10, 16), w("b3", 10)], ["o"], transB=1),
        n("MatMul", ["o", w("w4", 10, 10)], ["p"]),
        n("Softmax", ["p"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("x", 1, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(a, name) for name, a in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.feeds = iter([{"x": rng.normal(size=X.shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self.feeds, None)


def quantised(source: Path, activations: Any, weights: Any, per_channel: bool) -> bytes:
    path = source.with_name("static.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            source, path, Reader(), quant_format=QuantFormat.QOperator, activation_type=activations,
            weight_type=weights, per_channel=per_channel,
        )  # fmt: skip
    return path.read_bytes()


def optimized(source: Path, level: Any) -> bytes:
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 4, level
    options.optimized_model_filepath = str(source.with_name("optimized.onnx"))
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return Path(options.optimized_model_filepath).read_bytes()


def contrib(model: bytes) -> set[str]:
    return {n.op_type for n in onnx.load_from_string(model).graph.node if n.domain == MICROSOFT}
