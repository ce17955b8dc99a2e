"""Any schedule of any spec computes what the spec says: interpreted, and as Wasm under wasmtime.

Whole numbers make sums exact in any order, so products and reductions must be equal bit for bit; softmax and
layer normalisation have rounding in them: 2e-5 is 16 additions and an e^x of 2 ulp each, with room.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Schedule, ScheduleError, describe
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from tests.support import kernels, specs
from tests.support.schedules import (
    agree,
    attentions,
    contractions,
    interpreted,
    packed,
    reductions,
    schedules,
)

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
SPECS = {"contractions": contractions(), "reductions": reductions(), "attentions": attentions()}
Case = tuple[KernelSpec, list[Any]]


def tolerance(spec: KernelSpec) -> float:
    if spec.name == "f16_attention":
        return 2e-3  # a unit in the last place of the result
    return 2e-5 if spec.name in ("softmax", "layer_norm") or "attention" in spec.name else 0.0


def told(spec: KernelSpec, schedule: Schedule) -> str:
    return f"{spec.describe()}\n{describe(schedule)}"


def compiled(spec: KernelSpec, schedule: Schedule, inputs: list[Any], target: Target) -> list[Any]:
    """Output buffers by the Wasm kernel; skips what this target has no instructions for."""
    nest = apply(spec, schedule)
    buffers = specs.allocate(spec, inputs, nest.operands[spec.scratch].size)
    for i, b in enumerate(packed(spec, schedule, inputs)):
        buffers[i] = b.reshape(-1)
    after = kernels.run_nest(nest, target, buffers)
    return [b for b, o in zip(after, nest.operands, strict=True) if o.role == "out"]


@pytest.mark.parametrize("family", SPECS)
def test_a_schedule_changes_nothing(family: str) -> None:
    @QUICK
    @given(SPECS[family], st.data())
    def holds(case: Case, data: st.DataObject) -> None:
        spec, inputs = case
        schedule = data.draw(schedules(spec))
        try:
            found = interpreted(spec, schedule, inputs)
        except ScheduleError:
            assume(False)
        agree(found, specs.evaluate(spec, inputs), tolerance(spec), told(spec, schedule), spec)

    holds()


@pytest.mark.parametrize("family", SPECS)
def test_canonical_computes_the_same(family: str) -> None:
    @QUICK
    @given(SPECS[family])
    def holds(case: Case) -> None:
        spec, inputs = case
        agree(
            specs.evaluate(canonical(spec), inputs), specs.evaluate(spec, inputs), 0.0, spec.describe(), spec
        )

    holds()


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("family", SPECS)
def test_wasm_computes_the_same(family: str, relaxed: bool) -> None:
    @QUICK
    @given(SPECS[family], st.data())
    def holds(case: Case, data: st.DataObject) -> None:
        spec, inputs = case
        schedule = data.draw(schedules(spec))
        try:
            found = compiled(spec, schedule, inputs, Target(relaxed=relaxed))
        except (ScheduleError, UnsupportedExpr):
            assume(False)
        agree(found, specs.evaluate(spec, inputs), tolerance(spec), told(spec, schedule), spec)

    holds()


@pytest.mark.parametrize("family", SPECS)
def test_default_schedules_fit(family: str) -> None:
    """The default is legal for every spec, is supported by the emitter, and right."""

    @QUICK
    @given(SPECS[family], st.integers(1, 4))
    def holds(case: Case, threads: int) -> None:
        spec, inputs = canonical(case[0]), case[1]
        target = Target(threads=threads)
        schedule = default_schedule(spec, target)
        found = compiled(spec, schedule, inputs, target)
        agree(found, specs.evaluate(case[0], inputs), tolerance(spec), told(spec, schedule), spec)

    holds()
