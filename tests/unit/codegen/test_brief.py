"""Kernels that are called once, while a plan is loaded: short ones, which are written sooner, and right."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.schedule import rules
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.pack import pack_kernel
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Pack
from nnjit.codegen.wasm.emit import emit
from nnjit.codegen.wasm.target import Target
from tests.support import specs
from tests.support.schedules import agree, interpreted

TARGET = Target()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n", [8, 16, 24, 37])
def test_panels_of_a_constant(n: int, transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(n)
    product, inputs = specs.matmul(rng, 5, n, 32, constant=True, transposed=transposed)
    spec = pack_kernel(product, Pack(1, "n"), 8)
    brief = default_schedule(spec, TARGET)
    monkeypatch.setattr(rules, "BRIEF", 0)
    whole = default_schedule(spec, TARGET)
    assert brief != whole
    sizes = [len(emit(apply(spec, s), TARGET).code) for s in (brief, whole)]
    if transposed:  # what is only copied is short anyway
        assert sizes[0] < sizes[1] / 2, sizes
    for schedule in (brief, whole):
        agree(interpreted(spec, schedule, inputs[1:2]), specs.evaluate(spec, inputs[1:2]), 0.0, str(schedule))


def test_what_is_called_in_every_run_is_not_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An activation's panels are made again and again."""
    product, _ = specs.matmul(np.random.default_rng(0), 5, 24, 32, transposed=True)
    spec = pack_kernel(product, Pack(1, "n"), 8)
    found = default_schedule(spec, TARGET)
    monkeypatch.setattr(rules, "BRIEF", 0)
    assert default_schedule(spec, TARGET) == found
