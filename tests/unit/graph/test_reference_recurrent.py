"""The reference's recurrent layers with sequences of their own lengths, against native onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from nnjit.frontend import BytesSource, load
from nnjit.runtime.host import WholeGraph

RNG = np.random.default_rng(2)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, WIDE, HIDDEN = 6, 4, 3, 5


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("started", [False, True])
def test_sequences_of_their_own_lengths(op: str, way: str, started: bool) -> None:
    ways = 2 if way == "bidirectional" else 1
    feeds: dict[str, Any] = {
        "x": RNG.normal(0, 1, (TIME, BATCH, WIDE)),
        "w": RNG.normal(0, 0.5, (ways, GATES[op] * HIDDEN, WIDE)),
        "r": RNG.normal(0, 0.5, (ways, GATES[op] * HIDDEN, HIDDEN)),
    }
    names = ["x", "w", "r", "", "lens"]
    if started:
        states = ["h0", "c0"] if op == "LSTM" else ["h0"]
        names += states
        feeds |= {s: RNG.normal(0, 1, (ways, BATCH, HIDDEN)) for s in states}
    feeds = {name: a.astype(np.float32) for name, a in feeds.items()} | {
        "lens": np.array([4, 6, 1, 4], np.int32)
    }
    results = ["y", "h", "c"] if op == "LSTM" else ["y", "h"]
    node = helper.make_node(op, names, results, direction=way, hidden_size=HIDDEN)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, TensorProto.INT32 if n == "lens" else 1, a.shape)
            for n, a in feeds.items()
        ],
        [helper.make_tensor_value_info(n, 1, None) for n in results],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    data = made.SerializeToString()
    want = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(results, feeds)
    model = load(BytesSource(data, "m.onnx"), {})
    found = WholeGraph(model.bind(shapes={n: a.shape for n, a in feeds.items()}, passes=[])).run(feeds)
    for name, value in zip(results, want, strict=True):
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
