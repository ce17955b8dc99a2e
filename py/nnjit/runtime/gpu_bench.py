"""GpuBench: one KernelSpec on a GPU by itself, so that schedules of it can be verified and timed there.

Takes a spec and a target; gives plain data for the lab in web/engine/webgpu: what fills the operands, the serving
kernel, and a kernel for each candidate schedule: its shader and those that fill its panels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.codegen.schedule import gpu_roles
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.steps import Pack, Schedule
from nnjit.codegen.schedule.words import word_kernel
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.cache import emitted
from nnjit.codegen.wgsl.emit import Shader
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import operand_bytes, stored_as
from nnjit.runtime.gpu_memory import padded
from nnjit.runtime.tensor_types import api_name
from nnjit.tune.bench import (
    ELEMENT_KINDS,
    MOST_BYTES,
    TooLarge,
    packing,
    tolerance,
)
from nnjit.tune.fills import patterns
from nnjit.tune.policy import GPU_LAB


@dataclass(slots=True)
class GpuBench:
    """See the module. Raises TooLarge where the operands do not fit the device's buffers or the lab's room."""

    spec: KernelSpec
    target: WgslTarget
    nbytes: list[int] = field(default_factory=list)
    """Of each operand's buffer."""

    def __post_init__(self) -> None:
        self.nbytes = [padded(operand_bytes(o, self.target.half)) for o in self.spec.operands]
        twice = sum(
            n * (2 if o.role == "out" else 1) for n, o in zip(self.nbytes, self.spec.operands, strict=True)
        )
        if (
            max(self.nbytes) > min(self.target.max_buffer_bytes, self.target.max_binding_bytes)
            or twice > MOST_BYTES
        ):
            raise TooLarge(f"{self.spec.name} needs more than {MOST_BYTES >> 20} MiB to be tried out")

    def setup(self, serving: Schedule, probes: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
        """What the lab needs before any candidate; `probes`: (output operand, element) whose values come back.
        ScheduleError where no operands can be made up."""
        fills = patterns(self.spec)
        operands = []
        for i, o in enumerate(self.spec.operands):
            made: dict[str, Any] = {"role": o.role, "nbytes": self.nbytes[i], "type": api_name(o.dtype),
                                    "stored": stored_as(o, self.target.half)}  # fmt: skip
            if o.role == "in":
                made["pattern"] = fills[i]
            if o.role == "out":
                made["kind"] = o.dtype if o.dtype in FLOATS else ELEMENT_KINDS[SIZES[o.dtype]]
                made["tolerance"] = tolerance(
                    self.spec, o.dtype, gpu_roles.half_summed(self.spec, self.target)
                )
                made["used"] = operand_bytes(o, self.target.half)
            operands.append(made)
        return {
            "operands": operands,
            "kernel": self._kernel(serving),
            "probes": [{"operand": i, "at": at} for i, at in probes],
            "policy": GPU_LAB,
        }

    def candidate(self, schedule: Schedule) -> tuple[dict[str, Any], float]:
        """The lab's kernel of a schedule and the ms it took to make; ScheduleError or UnsupportedExpr where it does
        not fit the spec or the device."""
        start = time.perf_counter()
        kernel = self._kernel(schedule)
        return kernel, 1e3 * (time.perf_counter() - start)

    def keep(self) -> None:
        """The last candidate serves from now on; the lab has its panels."""

    def _kernel(self, schedule: Schedule) -> dict[str, Any]:
        packs = []
        for step in schedule:
            if isinstance(step, (Pack, Words)):
                packed = panels_kernel(self.spec, schedule, step)
                out = packed.operands[1]
                nbytes = padded(operand_bytes(out, self.target.half))
                packs.append({"operand": step.operand, "nbytes": nbytes,
                              "shader": default_shader(packed, self.target).to_js()})  # fmt: skip
        shader, _, _ = emitted(self.spec, schedule, self.target)
        return {"shader": shader.to_js(), "packs": packs}


def panels_kernel(spec: KernelSpec, schedule: Schedule, step: Pack | Words) -> KernelSpec:
    """The kernel that fills what `step` of `schedule` reads: operand 0 as the model has it, operand 1 the panels."""
    return (
        canonical(word_kernel(spec, step.operand))
        if isinstance(step, Words)
        else packing(spec, schedule, step)
    )


def default_shader(spec: KernelSpec, target: WgslTarget) -> Shader:
    """The shader of a spec by the rules."""
    spec = canonical(spec)
    return emitted(spec, gpu_schedule(spec, target), target)[0]
