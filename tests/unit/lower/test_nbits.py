"""MatMulNBits against numpy and native onnxruntime: 4 and 8 bits, every block size, zero points of each kind, one row
and many, and that the weights stay packed in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nnjit.graph.reference_ops import MatMulNBits
from nnjit.runtime.local import LocalSession
from tests.support.single import native

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def case(seed: int, rows: tuple[int, ...], k: int, n: int, bits: int, block: int, zero: str, bias: bool,
         dtype: Any = np.float32) -> tuple[bytes, dict[str, Any], Any]:  # fmt: skip
    """(model, feeds, what numpy says in f64)"""
    rng = np.random.default_rng(seed)
    blocks = -(-k // block)
    codes = rng.integers(0, 1 << bits, (n, blocks, block))
    scale = (rng.random((n, blocks)) / 8 + 0.01).astype(dtype)
    middles = (
        rng.integers(0, 1 << bits, (n, blocks)) if zero != "absent" else np.full((n, blocks), 1 << (bits - 1))
    )
    x = rng.normal(size=(*rows, k)).astype(dtype)
    weights = {"b": packed(codes, bits).reshape(n, blocks, -1), "s": scale.reshape(-1)}
    inputs = ["x", "b", "s"]
    if zero == "packed":
        weights["z"] = packed(middles, bits).reshape(-1)
    elif zero == "float":
        weights["z"] = middles.astype(dtype)
    inputs += ["z"] if zero != "absent" else [""]
    if bias:
        weights["c"] = rng.normal(size=n).astype(dtype)
        inputs += ["", "c"]
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block
    )
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node], "nbits", [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, name) for name, v in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    w = ((codes - middles[..., None]) * scale[..., None].astype(np.float64)).reshape(n, -1)[:, :k]
    wanted = x.astype(np.float64) @ w.T + (weights["c"].astype(np.float64) if bias else 0)
    return model.SerializeToString(), {"x": x}, wanted


def packed(codes: Any, bits: int) -> Any:
    """[n, ...] codes as bytes, lowest bits first, each row from a new byte."""
    rows = codes.reshape(len(codes), -1).astype(np.uint8)
    rows = np.pad(rows, [(0, 0), (0, -rows.shape[1] % (8 // bits))])
    parts = rows.reshape(len(rows), -1, 8 // bits)
    return sum(parts[..., i] << (bits * i) for i in range(8 // bits)).astype(np.uint8)


@SETTINGS
@given(
    st.sampled_from([(1,), (3,), (1, 1), (2, 4), (13,), (3, 7)]), st.sampled_from([16, 40, 64, 100, 256]),
    st.sampled_from([1, 2, 4, 7, 8, 17, 24, 48]), st.sampled_from([4, 8]), st.sampled_from([16, 32, 64, 256]),
    st.sampled_from(["absent", "packed", "float"]), st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_against_numpy(rows: tuple[int, ...], k: int, n: int, bits: int, block: int, zero: str, bias: bool,
                       seed: int) -> None:  # fmt: skip
    model, feeds, wanted = case(seed, rows, k, n, bits, block, zero, bias)
    local = LocalSession(model)
    found = local.run(feeds)["y"]
    assert not local.last.host_calls, "ran on the reference"
    # k products of a normal and up to 2^bits steps of a scale of 0.14, in f32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-7 * k * 2**bits)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero", ["absent", "packed"])
def test_the_reference_and_onnxruntime_agree(bits: int, zero: str) -> None:
    """The oracle that everything else is measured by, against the runtime that defined the operator."""
    model, feeds, wanted = case(5, (3,), 96, 10, bits, 32, zero, True)
    np.testing.assert_allclose(native(model, feeds)["y"], wanted, rtol=1e-4, atol=1e-3)
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model), new_ops=[MatMulNBits])
    np.testing.assert_allclose(evaluator.run(None, feeds)[0], wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [2, 19])
def test_halves(rows: int) -> None:
    model, feeds, wanted = case(2, (rows,), 64, 8, 4, 32, "absent", True, np.float16)
    found = LocalSession(model).run(feeds)["y"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.astype(np.float64), wanted, rtol=2e-3, atol=4e-3)


@pytest.mark.parametrize(("bits", "zero"), [(4, "absent"), (8, "packed")])
def test_weights_stay_packed(bits: int, zero: str) -> None:
    k, n, block = 512, 256, 32
    model, feeds, _ = case(1, (1,), k, n, bits, block, zero, False)
    local = LocalSession(model)
    local.run(feeds)
    kept = k * n * bits // 8 + n * k // block * (4 + (zero != "absent"))
    assert local.last.stats["constantBytes"] <= 1.05 * kept + 4096
