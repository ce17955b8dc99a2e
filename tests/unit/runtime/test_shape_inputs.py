"""Which inputs have to be known by value before a plan can be made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.frontend import BytesSource, load
from nnjit.runtime.shape_inputs import find

F, INT = TensorProto.FLOAT, TensorProto.INT64


def graph(nodes: list[Any], inputs: dict[str, Any], output: str, **weights: np.ndarray) -> Any:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, kind, dims) for n, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(output, F, None)],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return load(BytesSource(proto.SerializeToString())).bind()


NODE = helper.make_node
CASES = {
    "reshape": ([NODE("Reshape", ["x", "s"], ["y"])], {"x": (F, [6]), "s": (INT, [2])}, ["s"]),
    "slice": (
        [NODE("Slice", ["x", "s", "e"], ["y"])],
        {"x": (F, [6]), "s": (INT, [1]), "e": (INT, [1])},
        ["s", "e"],
    ),
    "through arithmetic": (
        [NODE("Add", ["a", "b"], ["s"]), NODE("Reshape", ["x", "s"], ["y"])],
        {"x": (F, [6]), "a": (INT, [2]), "b": (INT, [2])},
        ["a", "b"],
    ),
    "a scale": (
        [NODE("Resize", ["x", "", "scales"], ["y"])],
        {"x": (F, [1, 1, 4, 4]), "scales": (F, [4])},
        ["scales"],
    ),
    "no shape at all": ([NODE("Add", ["x", "s"], ["y"])], {"x": (F, [2]), "s": (F, [2])}, []),
    "indices are data": ([NODE("Gather", ["x", "s"], ["y"])], {"x": (F, [6]), "s": (INT, [2])}, []),
    "too large to be a shape": (
        [NODE("ReduceSum", ["s"], ["n"], keepdims=1), NODE("Expand", ["x", "n"], ["y"])],
        {"x": (F, [1]), "s": (INT, [1000])},
        [],
    ),
    "only a run can tell": (
        [NODE("NonZero", ["x"], ["n"]), NODE("Shape", ["n"], ["s"]), NODE("ConstantOfShape", ["s"], ["y"])],
        {"x": (F, [6])},
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_find(name: str) -> None:
    nodes, inputs, expected = CASES[name]
    assert find(graph(nodes, inputs, "y")) == expected


def test_constants_need_no_value() -> None:
    nodes = [NODE("Reshape", ["x", "s"], ["y"])]
    assert find(graph(nodes, {"x": (F, [6])}, "y", s=np.int64([2, 3]))) == []
