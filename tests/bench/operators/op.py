"""One operator to measure: the model around it, what is fed, how much arithmetic it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

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


def typed_op(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    x: np.ndarray,
    weights: dict[str, np.ndarray],
    out: Any,
    flops: float,
    kind: str = "chain",
) -> Op:
    """An Op of input x and output y of another type, in opset 20 and onnxruntime's own."""
    types = (helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (x.dtype, out))
    graph = helper.make_graph(
        nodes, "op",
        [helper.make_tensor_value_info("x", next(types), list(x.shape))],
        [helper.make_tensor_value_info("y", next(types), None)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return Op(name, kind, inferred.SerializeToString(), {"x": x}, {}, flops)


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


def traffic(op: Op) -> tuple[int, int]:
    """Bytes read and written at least: the model's constants and feeds, once, and the operator's output, written and
    read again; a reduction's output is next to nothing. What a library computes on the way it may do without memory."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(op.model), data_prop=True)
    read = sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    read += sum(x.nbytes for x in op.feeds.values())
    types = {v.name: v.type.tensor_type for v in model.graph.value_info}
    made = types.get("b") or types["a"]  # GroupNormalization has no shape of its own there
    size = int(np.prod([d.dim_value for d in made.shape.dim]))
    written = size * np.dtype(onnx.helper.tensor_dtype_to_np_dtype(made.elem_type)).itemsize
    return read + written, written
