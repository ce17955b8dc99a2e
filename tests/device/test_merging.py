"""Products of one left factor as one, on a device: numbers as onnxruntime has them, one step, weights in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.support.branches import Branch, model
from tests.support.single import native


def steps(gpu: Api, branches: list[Branch], tolerance: float = 2e-5, **options: Any) -> list[int | None]:
    """The step that each product is in."""
    data, feeds = model(branches, **options)
    ran = on_device(gpu, data, feeds)
    assert ran.backend == "webgpu" and ran.reason == "" and not ran.elsewhere, ran
    for name, wanted in native(data, feeds, optimised=False).items():
        np.testing.assert_allclose(ran.outputs[name], wanted, rtol=tolerance, atol=tolerance, err_msg=name)
    where = {row["node"]: row.get("step") for row in ran.placement}
    return [where[f"product{i}"] for i in range(len(branches))]


@pytest.mark.parametrize("form", ["matmul", "gemm turned", "transpose"])
@pytest.mark.parametrize("batch", [(1, 37), (8, 5), (1, 1)])
def test_three_are_one(gpu: Api, form: str, batch: tuple[int, ...]) -> None:
    branches = [Branch(100, form), Branch(100, form, bias=False), Branch(100, form, scale=True)]
    assert len(set(steps(gpu, branches, k=66, batch=batch))) == 1


@pytest.mark.parametrize("form", ["matmul", "gemm turned"])
def test_widths_differ(gpu: Api, form: str) -> None:
    branches = [Branch(128, form), Branch(35, form), Branch(64, form, bias=False)]
    assert len(set(steps(gpu, branches, k=66, batch=(2, 9)))) == 1


def test_halves(gpu: Api) -> None:
    assert len(set(steps(gpu, [Branch(66)] * 3, 4e-3, k=64, batch=(2, 9), dtype=np.float16))) == 1


def test_a_reader_of_two_parts_and_an_output(gpu: Api) -> None:
    branches = [Branch(64), Branch(64), Branch(64, reader="output"), Branch(64)]
    q, k, out, v = steps(gpu, branches, k=66, batch=(2, 9), pairs=True)
    assert q == k == v != out
