"""A read that runs backwards near the start of memory: base + terms is negative before the constant is added."""

from __future__ import annotations

import numpy as np
import pytest

from nnjit.codegen.expr import Index, acc, load
from nnjit.codegen.schedule.steps import Schedule, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wasm.target import Target
from tests.support.kernels import run_spec

FAR = 4096


@pytest.mark.parametrize("schedule", [(), (Tile("i", 4), Vectorize("i", 4)), (Unroll("k", 2),)])
def test_reversed_reduction(schedule: Schedule) -> None:
    """y[i] = sum over k of x[i + FAR * 2 - FAR * k]: the buffer starts below byte 4 * FAR."""
    index = Index(2 * FAR, {"i": 1, "k": -FAR})
    n = 2 * FAR + 8
    stage = Stage((), (Axis("k", 3),), "sum", load(0, index, "f32"), acc("f32"), 1, Index.of("i"))
    spec = KernelSpec("back", (Axis("i", 8),), (stage,), (Operand("f32", n, "in"), Operand("f32", 8, "out")))
    x = np.arange(n, dtype=np.float32)
    got = run_spec(spec, schedule, Target(), [x])[0]
    np.testing.assert_array_equal(got, x[:8] + x[FAR : FAR + 8] + x[2 * FAR :])
