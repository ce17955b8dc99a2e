"""A small network as onnxruntime's quantiser and optimizer leave it: QOperator format, dynamic, fused at each level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from nnjit.errors import UnknownOperator
from nnjit.runtime.local import LocalSession
from tests.support.optimized_models import X, contrib, network, optimized, quantised
from tests.support.single import native


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contrib") / "network.onnx"
    onnx.save(network(), path)
    return path


def ours(model: bytes) -> tuple[Any, LocalSession]:
    session = LocalSession(model)
    found = session.run({"x": X})["y"]
    slow = [row["op"] for row in session.placement() if row["backend"] == "reference"]
    assert not slow, f"{slow} ran on the reference"
    return found, session


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("types", ["u8u8", "i8i8", "u8i8"])
def test_a_network_in_qoperator_format(source: Path, types: str, per_channel: bool) -> None:
    """Bytes between the steps, products of integers; what follows a product on each element is part of its kernel."""
    kinds = {"u8": QuantType.QUInt8, "i8": QuantType.QInt8}
    model = quantised(source, kinds[types[:2]], kinds[types[2:]], per_channel)
    assert contrib(model) == {
        "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
        "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QGemm",
    }  # fmt: skip
    found, session = ours(model)
    # a step of the smallest scale: roundings of ties may differ in between
    np.testing.assert_allclose(found, native(model, {"x": X})["y"], atol=1 / 255)
    assert session.last is not None
    steps = [step.name for step in session.last.steps]
    products = [s for s in steps if s.endswith(("qlinearconv", "qlinearmatmul", "matmulinteger"))]
    assert len(products) == 5, steps
    joined = {
        n.split("/")[-1].rstrip("_0123456789")
        for s in session.last.steps
        for n in s.nodes
        if "conv" in s.name
    }
    assert {"LeakyRelu", "Sigmoid", "Mul", "Add"} <= joined


def test_a_network_with_dynamic_products(source: Path) -> None:
    path = source.with_name("dynamic.onnx")
    quantize_dynamic(source, path)
    model = optimized(path, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert "DynamicQuantizeMatMul" in contrib(model)
    np.testing.assert_allclose(ours(model)[0], native(model, {"x": X})["y"], rtol=1e-4, atol=1e-5)


def test_a_network_that_onnxruntime_fused(source: Path) -> None:
    model = optimized(source, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert "FusedConv" in contrib(model)
    found, session = ours(model)
    np.testing.assert_allclose(found, native(model, {"x": X})["y"], rtol=1e-4, atol=1e-5)
    _, plain = ours(source.read_bytes())
    assert session.last is not None and plain.last is not None
    assert len(session.last.steps) == len(plain.last.steps)


def test_weights_laid_out_for_one_processor_are_refused() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "first", domain="com.microsoft.nchwc")
    graph = helper.make_graph(
        [node], "blocked", [helper.make_tensor_value_info("x", 1, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.zeros((8, 8, 1, 1), np.float32), "w")],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft.nchwc", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    with pytest.raises(UnknownOperator, match="ORT_ENABLE_EXTENDED"):
        LocalSession(model.SerializeToString())
