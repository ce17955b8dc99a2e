"""Memory orders are decided over the graph: no step converts where they agree, and none where a reader can stride."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.lower.build import lower
from nnjit.lower.lowered import Kernel, Lowered
from tests.support.single import native, on_kernels

RNG = np.random.default_rng(5)
MOVES = ("copy", "pad", "rows", "transpose")
"""In the names of kernels that compute nothing."""


def model(nodes: list[Any], shape: list[int], weights: dict[str, Any]) -> bytes:
    graph = helper.make_graph(
        nodes, "orders", [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(w, n) for n, w in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data: bytes = made.SerializeToString()
    return data


def lowered(data: bytes, shape: list[int]) -> Lowered:
    return lower(load(BytesSource(data, "m"), {}).bind(shapes={"x": tuple(shape)}), Target())


def moves(low: Lowered) -> list[str]:
    """Names of the steps of a run that only move elements."""
    kernels = [s for s in low.steps if isinstance(s, Kernel) and not s.once]
    return [k.spec.name for k in kernels if any(m in k.spec.name.split("_") for m in MOVES)]


def orders(low: Lowered) -> dict[str, str]:
    """Of each value of four dimensions in memory which one is innermost: c or x."""
    found = {}
    for value, place in low.tensors.places.items():
        if value.shape is not None and len(value.shape) == 4 and not place.buffer.constant:
            found[value.name] = "c" if place.layout.strides[1] < place.layout.strides[3] else "x"
    return found


def weight(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))


BLOCK = [
    helper.make_node("Conv", ["x", "w0"], ["a0"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    helper.make_node("Relu", ["a0"], ["a"]),
    helper.make_node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
    helper.make_node("Conv", ["p", "w1"], ["b0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16),
    helper.make_node("HardSwish", ["b0"], ["b"]),
    helper.make_node("Conv", ["b", "w2"], ["c"]),
    helper.make_node("GlobalAveragePool", ["c"], ["g"]),
    helper.make_node("Conv", ["g", "w3"], ["s0"]),
    helper.make_node("HardSigmoid", ["s0"], ["s"]),
    helper.make_node("Mul", ["c", "s"], ["d"]),
    helper.make_node("Resize", ["d", "", "", "sizes"], ["r"], mode="nearest"),
    helper.make_node("Concat", ["a", "r"], ["j"], axis=1),
    helper.make_node("Conv", ["j", "w4"], ["e"], kernel_shape=[1, 1], strides=[2, 2]),
    helper.make_node("AveragePool", ["e"], ["f"], kernel_shape=[2, 2]),
]
WEIGHTS = {
    "w0": weight(16, 3, 3, 3), "w1": weight(16, 1, 3, 3), "w2": weight(24, 16, 1, 1), "w3": weight(24, 24, 1, 1),
    "w4": weight(16, 40, 1, 1), "sizes": np.array([1, 24, 16, 16], np.int64),
}  # fmt: skip
SHAPE = [1, 3, 32, 32]


def test_one_order_from_the_first_convolution_on() -> None:
    """Convolutions, pools, gates, a resize and a join: everything between is channels last, and what moves is the
    border of the fed image and the part of the join that pools and convolutions read as well."""
    data = model([*BLOCK, helper.make_node("GlobalMaxPool", ["f"], ["y"])], SHAPE, WEIGHTS)
    low = lowered(data, SHAPE)
    kinds = {n: o for n, o in orders(low).items() if n in {"a", "p", "b", "c", "d", "r", "j", "e", "f"}}
    assert set(kinds.values()) == {"c"}, kinds
    assert moves(low) == ["f32_pad", "f32_copy"]
    feeds = {"x": RNG.standard_normal(SHAPE, np.float32)}
    np.testing.assert_allclose(on_kernels(data, feeds)["y"], native(data, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_orders_meet_in_a_read() -> None:
    """Rows of pixels for a product (as a recogniser's neck has them): reshaped and transposed without a copy."""
    nodes = [
        *BLOCK,
        helper.make_node("Reshape", ["f", "flat"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w5"], ["y"]),
    ]
    weights = {**WEIGHTS, "flat": np.array([1, 16, 49], np.int64), "w5": weight(16, 8)}
    data = model(nodes, SHAPE, weights)
    assert moves(lowered(data, SHAPE)) == ["f32_pad", "f32_copy"]
    feeds = {"x": RNG.standard_normal(SHAPE, np.float32)}
    np.testing.assert_allclose(on_kernels(data, feeds)["y"], native(data, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_an_output_of_the_graph_is_written_as_onnx_has_it() -> None:
    """No channels-last result that a copy turns round: the kernel stores where the output wants it."""
    data = model([*BLOCK[:-1], helper.make_node("Relu", ["e"], ["y"])], SHAPE, WEIGHTS)
    low = lowered(data, SHAPE)
    assert moves(low) == ["f32_pad", "f32_copy"]
    assert orders(low)["y"] == "x"
