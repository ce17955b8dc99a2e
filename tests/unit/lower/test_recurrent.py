"""LSTM, GRU and RNN against onnxruntime: directions, lengths, peepholes, clipping, activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.single import model_of, native, on_kernels

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CASES: list[tuple[str, dict[str, Any], set[str]]] = [
    ("LSTM", {}, {"B"}),
    ("LSTM", {"direction": "bidirectional"}, {"B", "sequence_lens", "initial_h", "initial_c"}),
    ("LSTM", {"direction": "reverse"}, {"B", "P", "sequence_lens"}),
    ("LSTM", {"input_forget": 1, "clip": 0.4}, {"B", "initial_c"}),
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
    arrays["sequence_lens"] = rng.integers(1, time + 1, batch).astype(np.int32)
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
