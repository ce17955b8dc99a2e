"""What tests of WGSL in Chromium share: the target, what a shader is held against, and how near.

Whole numbers make products exact; elsewhere the tolerance is what WGSL grants exp (3 + 2|x| ulp) over the range used
here: 2e-6 absolute and relative is 24 ulp at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nnjit.codegen.dtypes import NUMPY
from nnjit.codegen.expr import (
    Expr,
    const,
)
from nnjit.codegen.schedule.apply import apply
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.steps import (
    Schedule,
)
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.emit import emit
from nnjit.codegen.wgsl.target import WgslTarget
from tests.support import shaders, specs
from tests.support.schedules import agree, packed

if TYPE_CHECKING:
    from playwright.sync_api import Page

TARGET = WgslTarget(subgroup=4, invocations=64)
Run = Callable[..., list[Any]]
RNG = np.random.default_rng(7)
NEAR = 2e-6


def number(value: float) -> Expr:
    return const(value, "f32")


def check(run: Run, case: tuple[KernelSpec, list[Any]], tolerance: float = 0.0, schedule: Schedule | None = None,
          wanted: Any = None) -> None:  # fmt: skip
    """The shader under the default GPU schedule (or `schedule`) gives what numpy or `evaluate` says."""
    spec, inputs = case
    spec = canonical(spec) if schedule is None else spec
    schedule = gpu_schedule(spec, TARGET) if schedule is None else schedule
    found = run(spec, schedule, inputs)
    agree(
        found,
        [wanted.reshape(-1)] if wanted is not None else specs.evaluate(spec, inputs),
        tolerance,
        spec.name,
    )


def runner(gpu: Page) -> Run:
    """run(spec, schedule, inputs) -> output buffers, by the shader of that schedule, on a page that is set up."""

    def on_gpu(
        spec: KernelSpec, schedule: Schedule, inputs: list[Any], target: WgslTarget = TARGET
    ) -> list[Any]:
        nest = apply(spec, schedule)
        given = iter(packed(spec, schedule, inputs))
        buffers = [next(given) if o.role == "in" else np.zeros(o.size, NUMPY[o.dtype]) for o in nest.operands]
        return shaders.run(gpu, emit(nest, target), buffers)

    return on_gpu
