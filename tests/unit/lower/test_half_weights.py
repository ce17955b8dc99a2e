"""Products with constant weights of 16 bits: they stay so in memory, the arithmetic is in f32."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from nnjit.runtime.local import LocalSession


@pytest.mark.parametrize("rows", [1, 3, 13, 40])
@pytest.mark.parametrize("columns", [64, 61, 48])
def test_f16(rows: int, columns: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 512)).astype(np.float16)
    w = rng.normal(size=(512, columns)).astype(np.float16)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "half", [helper.make_tensor_value_info("x", 10, x.shape)],
        [helper.make_tensor_value_info("y", 10, None)], [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    local = LocalSession(model.SerializeToString())
    found = local.run({"x": x})["y"]
    wanted = (x.astype(np.float64) @ w.astype(np.float64)).astype(np.float16)
    # one rounding at the end: a neighbour of the nearest half at most
    np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=2e-3, atol=2e-3)
    # panels fill up their last tile of columns; in f32 it would be twice as much
    assert local.last is not None and local.last.stats["constantBytes"] < 1.3 * w.nbytes
