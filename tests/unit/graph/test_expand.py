"""Function operators fall apart into what ONNX defines them by, and give the same."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.frontend.expand import definition, expand
from nnjit.graph import schemas
from nnjit.graph.ir import Node
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import bound, ops, randn

X = randn(2, 3, 8)
CASES = {
    "y = Celu<alpha = 0.5>(x)": 28,
    "y = Gelu(x)": 21,
    'y = Gelu<approximate = "tanh">(x)': 21,
    "y = Mish(x)": 21,
    "y = HardSwish(x)": 21,
    "y = Softplus(x)": 21,
    "y = Selu(x)": 21,
    "y = ThresholdedRelu<alpha = 0.3>(x)": 21,
    "y = Shrink<lambd = 0.2, bias = 0.1>(x)": 21,
    "y = LogSoftmax<axis = 1>(x)": 21,
    "y = ReduceLogSumExp(x)": 21,
    "y = MeanVarianceNormalization<axes = [0, 2]>(x)": 21,
    "y = RMSNormalization(x, g)": 23,
    "y = LayerNormalization(x, g, g)": 21,
    # a pass takes it up unless its scores are read as well
    "z, k, v, s = Attention<q_num_heads = 2, kv_num_heads = 2>(x, x, x) t = ReduceSum(s) y = Add(z, t)": 23,
    "y = Swish<alpha = 0.5>(x)": 24,
}


@pytest.mark.parametrize("body", CASES)
def test_expansion_gives_the_same(body: str) -> None:
    text = f"g (float[2,3,8] x, float[8] g) => (float[N,M,K] y) {{ {body} }}"
    feeds = {"x": X, "g": randn(8)}
    whole = bound(text, feeds, opset=CASES[body])
    before = ops(whole)
    wanted = run_graph(whole, feeds)["y"]
    parts = expand(bound(text, feeds, opset=CASES[body]), lambda node: False)
    parts.check()
    assert before[0] not in ops(parts) and len(parts.nodes) > 1
    assert parts.outputs[0].shape == wanted.shape
    assert not any(definition(node) for node in parts.nodes)
    np.testing.assert_allclose(run_graph(parts, feeds)["y"], wanted, rtol=1e-4, atol=1e-5)


def test_what_is_kept_stays() -> None:
    graph = bound("g (float[3] x) => (float[3] y) { a = Mish(x) y = HardSwish(a) }", {"x": randn(3)})
    expanded = expand(graph, lambda node: node.op == "HardSwish")
    assert ops(expanded)[-1] == "HardSwish" and "Mish" not in ops(expanded)


def test_primitive_operators_have_no_definition() -> None:
    node = Node("MatMul", [], [], version=schemas.NEWEST)
    assert definition(node) is None
