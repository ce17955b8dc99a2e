"""Loops and scans with a known number of turns, and sequences of known elements, run on kernels alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.graph import unrolling
from nnjit.runtime.local import LocalSession
from tests.support.single import native

F, INT, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
make, info = helper.make_node, helper.make_tensor_value_info


def ran(
    nodes: list[Any], feeds: dict[str, Any], outputs: list[str], held: dict[str, Any] | None = None
) -> set[str]:
    """Runs both, compares every output; the operators that ran on the reference."""

    def described(name: str, array: Any) -> Any:
        return info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [described(n, a) for n, a in feeds.items()],
        [info(n, F, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (held or {}).items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    ).SerializeToString()
    session = LocalSession(model)
    found, wanted = session.run(feeds), native(model, feeds)
    for name in outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-6, err_msg=name)
    return {row["op"] for row in session.placement() if row["backend"] == "reference"}


def randn(*shape: int) -> Any:
    return np.random.default_rng(4).normal(0, 1, shape).astype(np.float32)


def row_body(extra: list[Any] | None = None) -> Any:
    """h' = tanh(h + x + outer), and its square."""
    nodes = [make("Add", ["h", "x"], ["s"]), make("Add", ["s", "outer"], ["t"]), make("Tanh", ["t"], ["h2"]),
             make("Mul", ["h2", "h2"], ["each"]), *(extra or [])]  # fmt: skip
    shape = [3]
    return helper.make_graph(
        nodes,
        "row",
        [info("h", F, shape), info("x", F, shape)],
        [info("h2", F, shape), info("each", F, shape)],
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("back", [0, 1])
@pytest.mark.parametrize("out", [0, 1, -1])
def test_scan_along_any_axis(axis: int, back: int, out: int) -> None:
    x = randn(5, 3) if axis == 0 else randn(3, 5)
    node = make("Scan", ["start", "xs"], ["last", "all"], body=row_body(), num_scan_inputs=1, scan_input_axes=[axis],
                scan_input_directions=[back], scan_output_axes=[out], scan_output_directions=[1 - back])  # fmt: skip
    feeds = {"start": randn(3), "xs": x, "outer": randn(3)}
    assert not ran([node], feeds, ["last", "all"])


def loop_body(
    turn: list[Any], carried: list[str], each: list[str], held: dict[str, Any] | None = None
) -> Any:
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in (held or {}).items()]
    return helper.make_graph(
        turn, "turn", [info("i", INT, []), info("c", B, []), *(info(n, F, None) for n in carried)],
        [info("go", B, []), *(info(f"{n}2", F, None) for n in carried), *(info(n, F, None) for n in each)], weights,
    )  # fmt: skip


@pytest.mark.parametrize("turns", [1, 4])
def test_loop_by_count(turns: int) -> None:
    """A shape that grows with each turn, an If on the number of the turn, a weight that all turns share."""
    yes = helper.make_graph([make("Neg", ["h"], ["yes"])], "yes", [], [info("yes", F, None)])
    no = helper.make_graph([make("Abs", ["h"], ["no"])], "no", [], [info("no", F, None)])
    turn = [
        make("Identity", ["c"], ["go"]),
        make("Equal", ["i", "two"], ["second"]),
        make("If", ["second"], ["h1"], then_branch=yes, else_branch=no),
        make("Add", ["h1", "outer"], ["h2"]),
        make("MatMul", ["h2", "w"], ["each"]),
        make("Unsqueeze", ["h2", "zero"], ["new"]),
        make("Concat", ["g", "new"], ["g2"], axis=0),
    ]
    body = loop_body(
        turn, ["h", "g"], ["each"], {"two": np.array(2), "zero": np.array([0]), "w": randn(3, 2)}
    )
    node = make("Loop", ["count", "", "h0", "g0"], ["last", "grown", "all"], body=body)
    feeds = {"h0": randn(3), "g0": randn(1, 3), "outer": randn(3)}
    assert not ran([node], feeds, ["last", "grown", "all"], {"count": np.array(turns)})


def test_loop_while_a_counter_is_small() -> None:
    turn = [
        make("Add", ["n", "one"], ["n2"]),
        make("Less", ["n2", "end"], ["go"]),
        make("Sin", ["h"], ["h2"]),
    ]
    body = loop_body(turn, ["n", "h"], [], {"one": np.float32(1), "end": np.float32(5)})
    node = make("Loop", ["", "on", "n0", "h0"], ["n_last", "last"], body=body)
    assert not ran([node], {"h0": randn(4)}, ["last", "n_last"], {"on": np.array(True), "n0": np.float32(0)})


def test_loop_that_data_ends_stays() -> None:
    turn = [make("Mul", ["h", "half"], ["h2"]), make("ReduceMax", ["h2"], ["top"], keepdims=0),
            make("Greater", ["top", "small"], ["go"])]  # fmt: skip
    body = loop_body(turn, ["h"], [], {"half": np.float32(0.5), "small": np.float32(0.1)})
    node = make("Loop", ["", "on", "h0"], ["last"], body=body)
    assert ran([node], {"h0": np.abs(randn(4))}, ["last"], {"on": np.array(True)}) == {"Loop"}


def test_many_turns_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolling, "TURNS", 4)
    node = make("Scan", ["start", "xs"], ["last", "all"], body=row_body(), num_scan_inputs=1)
    feeds = {"start": randn(3), "xs": randn(5, 3), "outer": randn(3)}
    assert ran([node], feeds, ["last", "all"]) == {"Scan"}


def test_no_turn_at_all_stays() -> None:
    turn = [make("Identity", ["c"], ["go"]), make("Relu", ["h"], ["h2"]), make("Neg", ["h"], ["each"])]
    node = make("Loop", ["count", "", "h0"], ["last", "all"], body=loop_body(turn, ["h"], ["each"]))
    assert ran([node], {"h0": randn(3)}, ["last"], {"count": np.array(0)}) == {"Loop"}


def test_loop_in_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn 0 of the outer one has no turn of the inner one. What both make together is bounded."""
    inner = helper.make_graph(
        [make("Identity", ["c2"], ["go2"]), make("Add", ["g", "h"], ["g2"])], "inner",
        [info("j", INT, []), info("c2", B, []), info("g", F, None)], [info("go2", B, []), info("g2", F, None)],
    )  # fmt: skip
    turn = [make("Identity", ["c"], ["go"]), make("Loop", ["i", "", "h"], ["s"], body=inner),
            make("Tanh", ["s"], ["h2"])]  # fmt: skip
    node = make("Loop", ["count", "", "h0"], ["last"], body=loop_body(turn, ["h"], []))
    assert not ran([node], {"h0": randn(4)}, ["last"], {"count": np.array(4)})
    monkeypatch.setattr(unrolling, "NODES", 12)
    monkeypatch.setattr(unrolling, "GROWN", 1)
    assert ran([node], {"h0": randn(4)}, ["last"], {"count": np.array(4)}) == {"Loop"}


@pytest.mark.parametrize(
    ("split", "keep"), [(None, 0), (None, 1), (np.array(2), 1), (np.array([1, 3, 1]), 1)]
)
def test_pieces_of_a_tensor(split: Any, keep: int) -> None:
    inputs = ["x"] if split is None else ["x", "split"]
    nodes = [
        make("SplitToSequence", inputs, ["parts"], axis=1, keepdims=keep),
        make("SequenceLength", ["parts"], ["many"]),
        make("SequenceAt", ["parts", "last"], ["a"]),
        make("Relu", ["a"], ["y"]),
        make("Cast", ["many"], ["count"], to=F),
    ]
    held = {"last": np.array(-1), **({} if split is None else {"split": split})}
    assert not ran(nodes, {"x": randn(3, 5)}, ["y", "count"], held)


def test_a_list_that_a_loop_fills() -> None:
    nodes = [
        make("SequenceEmpty", [], ["none"]),
        make("SequenceConstruct", ["x", "y"], ["two"]),
        make("SequenceInsert", ["two", "z", "first"], ["three"]),
        make("SequenceErase", ["three", "first_left"], ["rest"]),
        make("ConcatFromSequence", ["three"], ["wide"], axis=1),
        make("ConcatFromSequence", ["rest"], ["stacked"], axis=0, new_axis=1),
    ]
    turn = [
        make("Identity", ["c"], ["go"]),
        make("Mul", ["h", "x"], ["h2"]),
        make("SequenceInsert", ["l", "h2"], ["l2"]),
    ]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, None))
    body = helper.make_graph(
        turn, "turn", [info("i", INT, []), info("c", B, []), info("h", F, None), helper.make_value_info("l", kind)],
        [info("go", B, []), info("h2", F, None), helper.make_value_info("l2", kind)],
    )  # fmt: skip
    nodes += [make("Loop", ["count", "", "y", "none"], ["last", "list"], body=body),
              make("ConcatFromSequence", ["list"], ["all"], axis=0)]  # fmt: skip
    feeds = {n: randn(2, 3) for n in "xyz"}
    held = {"first": np.array(0), "first_left": np.array(1), "count": np.array(3)}
    assert not ran(nodes, feeds, ["wide", "stacked", "last", "all"], held)


def test_a_place_that_is_fed_stays() -> None:
    nodes = [make("SequenceConstruct", ["x", "y"], ["two"]), make("SequenceAt", ["two", "at"], ["a"]),
             make("Relu", ["a"], ["z"])]  # fmt: skip
    feeds = {"x": randn(2, 3), "y": -randn(2, 3), "at": np.array(1)}
    assert "SequenceAt" in ran(nodes, feeds, ["z"])
