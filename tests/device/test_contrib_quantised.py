"""Quantised and fused models of com.microsoft, and trees, on the device: nothing runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.support.learned_models import FLOAT, INT, classifier, features, model_of
from tests.support.optimized_models import X, network, optimized, quantised
from tests.support.single import native


def agrees(gpu: Api, model: bytes, feeds: dict[str, Any], atol: float) -> None:
    ran, wanted = on_device(gpu, model, feeds), native(model, feeds)
    assert ran.backend == "webgpu" and not ran.elsewhere, (ran.reason, ran.elsewhere)
    for name, array in wanted.items():
        np.testing.assert_allclose(ran.outputs[name], array, rtol=1e-4, atol=atol, err_msg=name)


def test_a_network_in_qoperator_format(gpu: Api, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    model = quantised(tmp_path / "network.onnx", QuantType.QUInt8, QuantType.QInt8, True)
    agrees(gpu, model, {"x": X}, 1 / 255)


def test_a_network_that_onnxruntime_fused(gpu: Api, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "network.onnx")
    model = optimized(tmp_path / "network.onnx", ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    agrees(gpu, model, {"x": X}, 1e-5)


def test_trees(gpu: Api) -> None:
    rng = np.random.default_rng(2)
    feeds = {"x": features(rng)}
    model = model_of("TreeEnsembleClassifier", feeds, [INT, FLOAT], classifier(rng), 3)
    agrees(gpu, model, feeds, 1e-5)
