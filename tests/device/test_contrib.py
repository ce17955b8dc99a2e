"""Language models with operators of com.microsoft on the device, beside native onnxruntime: nothing runs elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.support import fused_models, genai_models
from tests.support.genai_models import SMALL
from tests.support.single import native

SIZE = replace(SMALL, layers=1)


def agrees(gpu: Api, model: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    """What native onnxruntime answers, which the device does too."""
    ran, wanted = on_device(gpu, model, feeds), native(model, feeds)
    assert ran.backend == "webgpu" and not ran.elsewhere, (ran.reason, ran.elsewhere)
    for name, array in wanted.items():
        np.testing.assert_allclose(ran.outputs[name], array, rtol=2e-4, atol=5e-5, err_msg=name)
    assert any("attention" in row.get("kernel", "") for row in ran.placement)
    return wanted


def test_a_decoder_of_4_bits_and_grouped_queries(gpu: Api) -> None:
    model, past = genai_models.decoder(SIZE), None
    for ids in ([[3, 1, 4, 1, 5]], [[9]]):
        past = agrees(gpu, model, genai_models.feeds(SIZE, np.array(ids), past))


def test_bert_as_the_optimizer_leaves_it(gpu: Api) -> None:
    agrees(gpu, fused_models.bert(layers=1), fused_models.feeds([7, 3], 7))
