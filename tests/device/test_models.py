"""Whole small models on the GPU through the public API, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.browser.test_wgsl_model import language, vision
from tests.device.running import on_device
from tests.support.single import native


@pytest.mark.parametrize("make", [vision, language])
def test_small_models(gpu: Api, make: Callable[[], tuple[bytes, Any]]) -> None:
    model, feeds = make()
    ran = on_device(gpu, model, feeds)
    assert ran.backend == "webgpu" and ran.reason == "" and not ran.elsewhere
    wanted = native(model, feeds)
    np.testing.assert_allclose(ran.outputs["y"], wanted["y"], rtol=2e-5, atol=2e-5)
