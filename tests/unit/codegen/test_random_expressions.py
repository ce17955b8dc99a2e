"""Random expressions as scalar and four-wide Wasm against the interpreter, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.expressions import ALL, NARROW, cases, scheduled
from tests.support.schedules import agree, interpreted


@pytest.mark.parametrize("types", [NARROW, ALL], ids=["32-bit", "all"])
def test_wasm_is_the_interpreter(types: list[str]) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases(types))
    def holds(case: tuple[KernelSpec, list[Any], int]) -> None:
        spec, inputs, which = case
        schedule = scheduled(which)
        wanted = interpreted(spec, schedule, inputs)
        agree(wanted, specs.evaluate(spec, inputs), 0.0, spec.describe())
        try:
            found = kernels.run_nest(
                apply(spec, schedule), Target(), [b.reshape(-1) for b in specs.allocate(spec, inputs)]
            )[-1:]
        except UnsupportedExpr:
            assume(False)
        agree(found, wanted, 0.0, spec.describe())

    holds()
