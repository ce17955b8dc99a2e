"""Tuning a plan for WebGPU: the session's side of the tuner.

Takes a compiled plan, the device's facts and earlier decisions; says how a kernel is laid out in the lab, and how a
winner takes the place of a shader. What is tried and what came of it: `candidates`.
"""

from __future__ import annotations

from typing import Any

from nnjit.codegen.schedule.gpu_roles import usable
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.cache import emitted
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.runtime.candidates import Candidates
from nnjit.runtime.gpu_bench import GpuBench
from nnjit.runtime.gpu_memory import GpuMemory
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.gpu_repack import GpuRepacking
from nnjit.runtime.plan import KernelInfo
from nnjit.runtime.repack import pack_shape, packs_of
from nnjit.runtime.slots import Laid, Slot
from nnjit.tune.gpu_device import GpuFacts
from nnjit.tune.search import Job
from nnjit.tune.space import Space
from nnjit.tune.space_gpu import gpu_space


class GpuTuning(Candidates[GpuPlan, GpuMemory, WgslTarget, GpuFacts, GpuRepacking]):
    """See the module."""

    backend = "webgpu"

    def _repacking(self) -> GpuRepacking:
        return GpuRepacking(self.plan, self.memory, self.target, self.alone)

    def _slots(self) -> list[Slot]:
        """A slot for each spec and schedule of the plan's steps, whatever shaders their bindings make of it."""
        steps: dict[tuple[str, Schedule], list[int]] = {}
        for i in range(len(self.plan.steps)):
            info = self.plan.kernel_of(i)
            steps.setdefault((info.spec.key, info.schedule), []).append(i)
        found: dict[str, Slot] = {}
        for at in steps.values():
            info = self.plan.kernel_of(at[0])
            if info.spec.key in found:
                continue  # the same kernel by another schedule: there is one to a spec in the search
            bound = self.facts.bound_ms(info.spec, self.target)
            job = Job.of(info.spec, info.schedule, len(at), bound, 0.002)
            found[info.spec.key] = Slot(at[0], info.spec, at, job)
        return list(found.values())

    def _space(self, spec: KernelSpec) -> Space:
        return gpu_space(spec, self.target)

    def _usable(self, slot: Slot, schedule: Schedule) -> bool:
        """Words, and panels of an activation, are made by a step before this one as the plan was compiled; the device
        has the matrices of a record, and the session may sum up as that does."""
        if not usable(schedule, self.target):
            return False
        spec, serving = slot.spec, slot.job.serving
        if [s for s in schedule if isinstance(s, Words)] != [s for s in serving if isinstance(s, Words)]:
            return False
        mine, theirs = packs_of(schedule), packs_of(serving)
        if set(mine) != set(theirs):
            return False
        return all(
            spec.operands[i].const
            or pack_shape(spec, schedule, mine[i]) == pack_shape(spec, serving, theirs[i])
            for i in mine
        )

    def _bench(self, slot: Slot) -> Laid:
        return GpuBench(slot.spec, self.target)

    def _swap(self, slot: Slot, before: Schedule, after: Schedule) -> dict[str, Any]:
        return self.repacking.plan_for(slot.steps, slot.spec, before, after)

    def _serves(self, slot: Slot, schedule: Schedule) -> None:
        """The plan's steps name the shader that they have now."""
        for number in slot.steps:
            step = self.plan.steps[number]
            shader = emitted(slot.spec, schedule, self.target, step.moves)[0]
            if shader not in self.plan.shaders:
                self.plan.shaders.append(shader)
                self.plan.kernels.append(KernelInfo(slot.spec, schedule, len(shader.wgsl)))
            step.shader = self.plan.shaders.index(shader)
