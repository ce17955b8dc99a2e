"""Which kernels of a plan are called on no tiles while it is loaded."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.wasm.target import Target
from nnjit.frontend import BytesSource, load
from nnjit.runtime.compile import compile_plan
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.rehearsal import WORTH_FLOPS, rehearsed
from tests.support.single import model_of


def test_kernels_with_much_work_come_first_and_those_with_little_not_at_all() -> None:
    much, more, little = WORTH_FLOPS, 2 * WORTH_FLOPS, WORTH_FLOPS // 2 - 1
    assert rehearsed([(7, much), (8, little), (9, more), (8, little)]) == [9, 7]
    assert rehearsed([(8, little), (8, little), (8, little)]) == [8]  # all its steps together
    assert rehearsed([]) == []


@pytest.mark.parametrize(("rows", "many"), [(512, True), (2, False)])
def test_a_plan_names_the_slots_of_its_long_kernels(rows: int, many: bool) -> None:
    x, w = np.zeros((rows, 64), np.float32), np.ones((64, 64), np.float32)
    model = load(BytesSource(model_of("MatMul", {"x": x}, [("y", np.float32)], constants={"w": w}), "m"), {})
    plan = compile_plan(model.bind(shapes={"x": x.shape}), Target(threads=1, shared=False), SessionMemory())
    long = {s.slot for s in plan.steps if s.flops >= WORTH_FLOPS}
    assert bool(long) == many and set(plan.to_js()["rehearsal"]["slots"]) == long
