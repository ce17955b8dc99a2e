"""A few of the families on CPython, on kernels alone; `python -m tests.fuzz.families` runs all, in all forms."""

from __future__ import annotations

import warnings

import pytest

from tests.fuzz.families import FAMILIES
from tests.fuzz.families.judge import HALF, SINGLE, differ, judge

FEW = (
    "clip swin-11-window-7 tf-mobilenet keras-resnet siglip yolo-11 detr unet depth diffusion-18 "
    "whisper-decoder-more vits conformer deberta t5-decoder gpt2-old llama-f16 gemma phi "
    "mistral gcn mamba points forecast"
).split()


@pytest.mark.parametrize("name", FEW)
def test_model_as_exporters_write_it(name: str) -> None:
    net = FAMILIES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = judge(net.bytes(), net.feeds, HALF if net.dtype == "float16" else SINGLE)
    assert not verdict.faults
    assert not verdict.slow


def test_the_judge_sees_a_small_error() -> None:
    net = FAMILIES["t5-encoder"]()
    from tests.support.single import native

    (wanted,) = native(net.bytes(), net.feeds).values()
    wrong = wanted.copy()
    wrong.flat[7] += 3e-4 * abs(wanted).max()
    assert differ(wanted, wrong, SINGLE)[0] and not differ(wanted, wanted, SINGLE)[0]
