"""Models as exporters write them, on the device, against native onnxruntime: a few, or those that NNJIT_FAMILIES names.

NNJIT_FAMILIES=vit,yolo python serve.py test -- tests/device/test_families.py
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.fuzz.families import FAMILIES
from tests.fuzz.families.judge import HALF, SINGLE, judge

FEW = "gcn-18,loop,sequences"
LIVING = {"chosen", "yolo-end"}
"""Those with nodes whose shapes are known at run time only: they run on the reference."""


def named(given: str) -> list[str]:
    """Names or their beginnings, by commas."""
    return [n for n in FAMILIES if any(n.startswith(w) for w in given.split(",") if w)]


@pytest.mark.parametrize("name", named(os.environ.get("NNJIT_FAMILIES", "")) or FEW.split(","))
def test_model_as_exporters_write_it(gpu: Api, name: str) -> None:
    def run(model: bytes, feeds: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
        ran = on_device(gpu, model, feeds)
        return ran.outputs, ran.placement

    net = FAMILIES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = judge(net.bytes(), net.feeds, HALF if net.dtype == "float16" else SINGLE, run)
    assert not verdict.faults
    assert not verdict.slow or name in LIVING
