"""LSTM, GRU and RNN with room on kernels: as many time steps count as the request has, in either direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.runtime.local import LocalSession
from tests.fuzz.families import FAMILIES
from tests.support.rooms import groups, longer
from tests.unit.graph.test_room import built, room_of

RNG = np.random.default_rng(5)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def normal(*shape: int) -> Any:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def model(op: str, way: str, states: bool, layout: int = 0) -> bytes:
    """What is infinite beyond n comes in; the last states come out too, or not."""
    ways, hidden, wide = (2 if way == "bidirectional" else 1), 5, 4
    weights = {"w": normal(ways, GATES[op] * hidden, wide), "r": normal(ways, GATES[op] * hidden, hidden),
               "b": normal(ways, 2 * GATES[op] * hidden)}  # fmt: skip
    results = ["y", *([] if not states else ["h", "c"] if op == "LSTM" else ["h"])]
    nodes = [
        helper.make_node("Reciprocal", ["x"], ["a"]),
        helper.make_node(op, ["a", "w", "r", "b"], results, direction=way, hidden_size=hidden, layout=layout),
    ]
    dims: list[Any] = ["b", "n", wide] if layout else ["n", "b", wide]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(made.SerializeToString())


def feeds(batch: int, n: int, layout: int) -> dict[str, Any]:
    x = np.abs(normal(n, batch, 4)) + np.float32(0.5)
    return {"x": np.swapaxes(x, 0, 1).copy() if layout else x}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("way", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_time_that_grows(op: str, way: str, layout: int) -> None:
    for states in (False, True):
        data = model(op, way, states, layout)
        exact, roomy = LocalSession(data), LocalSession(data, room=True)
        for n in (4, 6, 1, 7):
            given = feeds(2, n, layout)
            found = roomy.run(given)
            for name, value in exact.run(given).items():
                np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=f"{name} at {n}")
        assert len(roomy.plans) == 2 and roomy.last is not None and not roomy.last.host_calls


def test_a_transducer_of_any_number_of_words_and_frames() -> None:
    net = FAMILIES["transducer"]()
    data, axes = net.model().SerializeToString(), groups(net.dims)
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    for words, frames in ((0, 0), (2, 5), (-1, 3), (3, 1), (0, -2)):
        given = longer(longer(net.feeds, axes["u"], words), axes["t"], frames)
        found = roomy.run(given)
        for name, value in exact.run(given).items():
            np.testing.assert_allclose(
                found[name], value, rtol=1e-5, atol=1e-5, err_msg=f"{name}, {words}, {frames}"
            )
    assert len(roomy.plans) == 2


def test_time_steps_are_counted_as_the_products_they_are() -> None:
    """A capacity may not be far where each step costs as much as here."""
    wide = 512
    made = helper.make_node("LSTM", ["x", "w", "r"], ["y", "h"], hidden_size=wide)
    weights = {"w": np.zeros((1, 4 * wide, wide), np.float32), "r": np.zeros((1, 4 * wide, wide), np.float32)}
    room = room_of(
        built([made], {"x": normal(4, 1, wide)}, weights, ["y"]), lambda n: {"x": normal(n, 1, wide)}, 4, 16
    )
    assert room.work.exact((8,)) - room.work.exact((7,)) >= 8 * wide * wide


def test_time_and_batch_grow() -> None:
    data = model("LSTM", "bidirectional", True)
    exact, roomy = LocalSession(data), LocalSession(data, room=True)
    for batch, n in ((1, 4), (2, 6), (1, 5), (2, 3)):
        given = feeds(batch, n, 0)
        found = roomy.run(given)
        for name, value in exact.run(given).items():
            np.testing.assert_allclose(
                found[name], value, rtol=1e-5, atol=1e-6, err_msg=f"{name} at {batch}, {n}"
            )
    assert len(roomy.plans) == 2
