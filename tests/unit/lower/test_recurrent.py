"""LSTM, GRU and RNN against onnxruntime: directions, lengths, peepholes, clipping, activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_compile import compile_gpu
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.local import LocalSession
from nnjit.runtime.plan import Plan
from tests.support.single import model_of, native, on_kernels

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CASES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("LSTM", {}, {"B"}),
    ("LSTM", {"direction": "bidirectional"}, {"B", "sequence_lens", "initial_h", "initial_c"}),
    ("LSTM", {"direction": "reverse"}, {"B", "P", "sequence_lens"}),
    ("LSTM", {"input_forget": 1, "clip": 0.4}, {"B", "initial_c"}),
    ("LSTM", {"clip": 0.3}, {"B", "P", "initial_c"}),  # what the peepholes add is clipped too
    ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"]}, {"B"}),
    ("GRU", {}, {"B", "initial_h"}),
    ("GRU", {"linear_before_reset": 1}, {"B", "sequence_lens"}),
    ("GRU", {"linear_before_reset": 1, "direction": "bidirectional", "clip": 0.3}, {"B"}),
    ("GRU", {"direction": "reverse"}, {"sequence_lens"}),
    ("RNN", {"direction": "bidirectional"}, {"B", "initial_h", "sequence_lens"}),
    ("RNN", {"activations": ["Relu"]}, set()),
]


@pytest.mark.parametrize(("time", "batch", "size", "hidden"), [(5, 3, 7, 6), (1, 1, 4, 8), (4, 13, 3, 5)])
@pytest.mark.parametrize(("op", "attrs", "given"), CASES)
def test_against_onnxruntime(
    op: str, attrs: dict[str, Any], given: set[str], time: int, batch: int, size: int, hidden: int
) -> None:
    rng = np.random.default_rng(7)
    ways, gates = 2 if attrs.get("direction") == "bidirectional" else 1, GATES[op]
    shapes = {
        "X": (time, batch, size), "W": (ways, gates * hidden, size), "R": (ways, gates * hidden, hidden),
        "B": (ways, 2 * gates * hidden), "sequence_lens": (batch,), "initial_h": (ways, batch, hidden),
        "initial_c": (ways, batch, hidden), "P": (ways, 3 * hidden),
    }  # fmt: skip
    order = list(shapes)[: 8 if op == "LSTM" else 6]
    arrays = {n: rng.normal(0, 0.5, shapes[n]).astype(np.float32) for n in order}
    # a sequence of no steps leaves zeros behind, whatever its first states: ONNX does not say, onnxruntime does so
    arrays["sequence_lens"] = rng.integers(0, time + 1, batch).astype(np.int32)
    present = {"X", "W", "R", *given}
    if "activations" in attrs and ways == 2:
        attrs = {**attrs, "activations": attrs["activations"] * 2}
    feeds = {n: arrays[n] for n in order if n in present and n not in ("W", "R", "B", "P")}
    constants = {n: arrays[n] for n in ("W", "R", "B", "P") if n in present}
    names = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    model = model_of(
        op, feeds, [(n, np.float32) for n in names], {"hidden_size": hidden, **attrs}, constants,
        [n if n in present else "" for n in order],
    )  # fmt: skip
    got, expected = on_kernels(model, feeds), native(model, feeds)
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_layout_with_the_batch_first(op: str) -> None:
    """layout 1 is layout 0 with time and batch exchanged (onnxruntime has no layout 1)."""
    rng = np.random.default_rng(8)
    x = rng.normal(0, 1, (3, 4, 5)).astype(np.float32)
    h = rng.normal(0, 1, (3, 1, 6)).astype(np.float32)
    weights = {
        "W": rng.normal(0, 0.5, (1, GATES[op] * 6, 5)).astype(np.float32),
        "R": rng.normal(0, 0.5, (1, GATES[op] * 6, 6)).astype(np.float32),
    }
    order, outputs = ["X", "W", "R", "", "", "initial_h"], [("Y", np.float32), ("Y_h", np.float32)]
    feeds = {"X": x, "initial_h": h}
    got = on_kernels(model_of(op, feeds, outputs, {"hidden_size": 6, "layout": 1}, weights, order), feeds)
    turned = {"X": x.swapaxes(0, 1).copy(), "initial_h": h.swapaxes(0, 1).copy()}
    expected = native(model_of(op, turned, outputs, {"hidden_size": 6}, weights, order), turned)
    np.testing.assert_allclose(got["Y"], expected["Y"].transpose(2, 0, 1, 3), rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(got["Y_h"], expected["Y_h"].swapaxes(0, 1), rtol=1e-4, atol=2e-6)


def stacked(time: int, constant: bool = False) -> tuple[bytes, dict[str, Any]]:
    """LSTM (both ways), GRU and RNN one behind the other, so that loops share the arena; `constant`: done at load."""
    rng = np.random.default_rng(9)
    width, nodes, weights = 5, [], {}
    for n, (op, hidden) in enumerate((("LSTM", 6), ("GRU", 4), ("RNN", 7))):
        ways = 2 if op == "LSTM" else 1
        for name, shape in (
            ("w", (ways, GATES[op] * hidden, width)),
            ("r", (ways, GATES[op] * hidden, hidden)),
        ):
            weights[f"{name}{n}"] = rng.normal(0, 0.4, shape).astype(np.float32)
        way = "bidirectional" if ways == 2 else "reverse"
        source = "x" if n == 0 else f"m{n - 1}"
        nodes.append(
            helper.make_node(op, [source, f"w{n}", f"r{n}"], [f"y{n}"], hidden_size=hidden, direction=way)
        )
        nodes.append(helper.make_node("Transpose", [f"y{n}"], [f"t{n}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{n}", f"s{n}"], [f"m{n}"]))
        width = ways * hidden
        weights[f"s{n}"] = np.array([0, 0, width], np.int64)
    nodes.append(helper.make_node("Add", ["m2", "z"], ["y"]))
    feeds = {"z": rng.normal(0, 1, (7,)).astype(np.float32)}
    x = rng.normal(0, 1, (time, 3, 5)).astype(np.float32)
    (weights if constant else feeds)["x"] = x
    inputs = [helper.make_tensor_value_info(n, 1, list(v.shape)) for n, v in feeds.items()]
    outputs = [helper.make_tensor_value_info("y", 1, None)]
    given = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return model.SerializeToString(), feeds


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("time", [2, 7, 120])
def test_loops_behind_one_another(time: int, constant: bool) -> None:
    model, feeds = stacked(time, constant)
    got, expected = on_kernels(model, feeds), native(model, feeds)
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-3, atol=1e-4)


def test_a_long_sequence_is_no_larger_plan() -> None:
    short, long = (plan_of(time) for time in (3, 900))
    assert len(short.steps) == len(long.steps)
    assert len(long.module) < 1.1 * len(short.module)  # tails differ, and numbers are longer
    turning = [s for s in long.steps if s.loop]
    assert {s.times for s in turning} == {900} and len({s.loop for s in turning}) == 4


def plan_of(time: int) -> Plan:
    model, feeds = stacked(time)
    session = LocalSession(model)
    session.run(feeds)
    assert session.last is not None
    return session.last


def test_a_gpu_plan_has_each_turn_written_out() -> None:
    model, feeds = stacked(4)
    loaded = load(BytesSource(model, "m.onnx"), {})
    graph = loaded.bind({n: v.shape for n, v in feeds.items()})
    plan = compile_gpu(graph, WgslTarget(), GpuMemory())
    names = [s.name for s in plan.steps]
    assert sum("lstm_gates" in n for n in names) == 2 * 4 and sum("rnn_gates" in n for n in names) == 4
