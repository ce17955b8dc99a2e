"""Where nodes ran: those that passes made part of others are with them, and only constants are folded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nnjit.runtime.local import LocalSession
from nnjit.runtime.placement import _stands

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
    assert rows["dropped"]["backend"] == "none"


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
    assert rows["y"]["backend"] == "wasm" and rows["r"]["backend"] == "none"


def test_what_the_run_has_nothing_to_do_for_is_not_folded() -> None:
    rows = placed(
        [
            node("Relu", "x", "a"),
            node("Identity", "a", "i"),  # a pass takes it out, and what is behind it is the output
            node("Exp", "x", "unused"),
            node("Identity", "i", "y"),
        ],
        {"x": (3, 4)},
        {},
    )
    assert rows["a"]["backend"] == "wasm"
    assert {n: rows[n]["backend"] for n in ("i", "unused", "y")} == dict.fromkeys(
        ("i", "unused", "y"), "none"
    )


def test_a_node_that_is_dropped_is_not_on_the_reference_that_reads_it() -> None:
    rows = placed(
        [node("Identity", "x", "i"), node("NonZero", "i", "n"), node("Cast", "n", "y", to=1)], {"x": (3,)}, {}
    )
    assert rows["n"]["backend"] == "reference" and rows["i"]["backend"] == "none"


def test_what_a_kernel_computes_where_it_reads_it_is_in_that_kernel() -> None:
    rows = placed(
        [node("Exp", "x", "e"), node("Add", "x e", "a"), node("GlobalAveragePool", "a", "y")],
        {"x": (2, 3, 4, 4)},
        {},
    )
    assert rows["y"]["backend"] == "wasm" and rows["a"].get("step") == rows["y"]["step"], rows


def test_a_node_that_repeats_another_is_where_that_one_is() -> None:
    rows = placed(
        [
            node("Softmax", "x", "first"),
            node("Softmax", "x", "again"),
            node("Transpose", "first", "t", perm=[1, 0]),
            node("MatMul", "again t", "y"),
        ],
        {"x": (4, 8)},
        {},
    )
    assert rows["again"].get("step") == rows["first"]["step"] != rows["y"]["step"]


def test_equal_nodes_of_a_definition_may_share_a_name() -> None:
    """One stands for another of its own name, or two for each other: a search for the first of them ends."""
    row = {"backend": "wasm"}
    assert _stands({"n": "n"}, "n", {"n": row}) == row
    assert _stands({"n": "m", "m": "n"}, "n", {"n": row, "m": row}) == row
    assert _stands({"b": "a", "c": "b"}, "c", {"a": row}) == row
