"""Attention as one kernel on the device, beside native onnxruntime: heads that share keys, masks, tails of every tile;
and as three where there are few rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.fuzz import masks
from tests.support.attention_models import LOW, model
from tests.support.single import native

RNG = np.random.default_rng(31)
Shape = tuple[int, int, int, int, int, int, int]
CAUSAL = np.where(np.tri(40, 40, dtype=bool), 0, LOW).astype(np.float32)

# batch, heads, group, rows, keys, depth, width; the mask
CASES: list[tuple[Shape, Any]] = [
    ((1, 2, 1, 33, 65, 16, 16), None),
    ((1, 1, 1, 40, 40, 20, 12), CAUSAL),
    ((2, 1, 2, 9, 17, 8, 36), None),
    ((1, 2, 1, 16, 70, 8, 8), RNG.normal(0, 1, (1, 1, 16, 70)).astype(np.float32)),
    ((1, 2, 1, 2, 30, 8, 8), None),
]


@pytest.mark.parametrize(("shape", "mask"), CASES, ids=[str(c[0]) for c in CASES])
def test_attention(gpu: Api, shape: Shape, mask: Any) -> None:
    batch, heads, group, rows, keys, depth, width = shape
    data = model(*shape, np.float32, mask, depth**-0.5)
    feeds = {
        "q": RNG.normal(0, 1, (batch, rows, heads * group * depth)).astype(np.float32),
        "k": RNG.normal(0, 1, (batch, keys, heads * depth)).astype(np.float32),
        "v": RNG.normal(0, 1, (batch, keys, heads * width)).astype(np.float32),
    }
    ran = on_device(gpu, data, feeds)
    assert ran.backend == "webgpu" and not ran.elsewhere
    np.testing.assert_allclose(ran.outputs["y"], native(data, feeds)["y"], rtol=1e-4, atol=1e-5)
    kernels = [row["kernel"] for row in ran.placement if "attention" in row.get("kernel", "")]
    assert kernels and all(("attention_values" in name) == (rows < 8) for name in kernels), kernels


CHAINS = [
    (masks.Link("?", "causal", -1e4, True), masks.Link("+", "front", LOW.item(), True)),
    (masks.Link("+", "rows", float("-inf"), False), masks.Link("!", "other", -1e9, True)),
    (masks.Link("!", "front", -1e4, True), masks.Link("?", "other", -50.0, False)),
]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: " ".join(map(str, c)))
def test_masks(gpu: Api, chain: tuple[masks.Link, ...]) -> None:
    """Two of them, and rows that neither leaves anything of alone, or both do together."""
    data, feeds = masks.case(chain, np.dtype("float32"))
    ran = on_device(gpu, data, feeds)
    assert ran.backend == "webgpu" and not ran.elsewhere
    names = [row.get("kernel", "") for row in ran.placement]
    assert any("attention" in n and "attention_values" not in n for n in names), names
    wanted = native(data, feeds, optimised=False)["y"]
    assert masks.apart(ran.outputs["y"], wanted) <= masks.bound(chain, "float32", False)
