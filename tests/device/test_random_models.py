"""Random models on the device, against the reference: a few of each area, or those that NNJIT_FUZZ names.

NNJIT_FUZZ=sums:0:200 python serve.py test -- tests/device/test_random_models.py

"sums:0:200:f16" has float16 wherever it can be chosen.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import pytest

from tests.browser.api_page import Api
from tests.device.running import on_device
from tests.fuzz.areas import draw
from tests.fuzz.judge import judge
from tests.fuzz.shrink import shrink

FEW = ["mixed:0:3", "elements:0:2", "moves:0:2", "sums:0:3", "attention:0:2", "quantised:0:2",
       "elements:0:2:f16", "sums:0:3:f16"]  # fmt: skip


@pytest.mark.parametrize("runs", os.environ.get("NNJIT_FUZZ", " ".join(FEW)).split())
def test_random_models(gpu: Api, runs: str) -> None:
    """Faults are collected and shrunk before the test fails, so that one run tells them all."""

    def run(model: bytes, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
        return on_device(gpu, model, feeds).outputs

    area, first, last, *half = runs.split(":")
    found = []
    for seed in range(int(first), int(last)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = draw(area, seed, sure=True, half=bool(half))
            fault = judge(case, run) if case.outputs else None
            if fault is not None and not fault.peers_differ:
                case, fault = shrink(case, lambda c: judge(c, run), fault)
        if fault is not None and not fault.peers_differ:
            found.append(f"{area} {seed} {' '.join(half)}: {fault.kind}: {fault.text}\n{case.text()}")
    assert not found, "\n\n".join(found)
