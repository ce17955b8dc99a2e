"""Where nodes ran: those that passes made part of others are with them, and only constants are folded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nnjit.runtime.local import LocalSession

RNG = np.random.default_rng(4)


def placed(
    nodes: Sequence[object], shapes: dict[str, tuple[int, ...]], held: dict[str, tuple[int, ...]]
) -> dict[str, dict[str, object]]:
    """By node's name, the record of a model that gives y."""
    weights = [numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32), n) for n, s in held.items()]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", inputs, [output], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    session = LocalSession(model.SerializeToString())
    session.run({n: RNG.standard_normal(s).astype(np.float32) for n, s in shapes.items()})
    return {row["node"]: row for row in session.placement()}


def node(op: str, inputs: str, output: str, **attrs: object) -> object:
    return helper.make_node(op, inputs.split(), [output], name=output, **attrs)


def test_a_scale_and_a_shift_are_where_their_convolution_is() -> None:
    rows = placed(
        [
            node("Conv", "x w", "c"),
            node("Mul", "c scale", "m"),
            node("Add", "m shift", "a"),
            node("Relu", "a", "y"),
        ],
        {"x": (1, 4, 6, 6)},
        {"w": (8, 4, 1, 1), "scale": (8, 1, 1), "shift": (8, 1, 1)},
    )
    steps = {row.get("step") for row in rows.values()}
    assert len(steps) == 1 and None not in steps, rows
    assert {row["backend"] for row in rows.values()} == {"wasm"}


def test_the_inner_nodes_of_an_attention_are_in_its_step() -> None:
    rows = placed(
        [
            node("Transpose", "k", "t", perm=[0, 1, 3, 2]),
            node("MatMul", "q t", "s"),
            node("Mul", "s scale", "scaled"),
            node("Softmax", "scaled", "p"),
            node("MatMul", "p v", "o"),
            node("Dropout", "o", "dropped"),
            node("Neg", "dropped", "y"),
        ],
        dict.fromkeys("qkv", (1, 2, 16, 8)),
        {"scale": (1,)},
    )
    attention = rows["o"]
    assert "attention" in str(attention["kernel"])
    for name in ("t", "s", "scaled", "p"):
        assert rows[name].get("step") == attention["step"], rows[name]
    assert rows["dropped"].get("step") == rows["y"]["step"]


def test_what_needs_no_run_is_folded() -> None:
    rows = placed(
        [
            node("Shape", "x", "n"),
            node("Neg", "w", "v"),
            node("Reshape", "x n", "r"),
            node("Add", "r v", "y"),
        ],
        {"x": (3, 4)},
        {"w": (4,)},
    )
    assert rows["n"]["backend"] == rows["v"]["backend"] == "folded"
    assert rows["y"]["backend"] == "wasm" and rows["r"].get("step") == rows["y"]["step"]
