"""Tuning a plan for WebAssembly: the session's side of the tuner.

Takes a compiled plan, the device's facts and earlier decisions; says how a kernel is laid out in the lab, and how a
winner takes its slot, with the panels to make over. What is tried and what came of it: `candidates`.
"""

from __future__ import annotations

from typing import Any

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule.steps import Pack, Schedule, Tile
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.runtime.candidates import Candidates
from nnjit.runtime.memory import SessionMemory
from nnjit.runtime.plan import KernelInfo, Plan
from nnjit.runtime.repack import Repacking
from nnjit.runtime.slots import Laid, Slot
from nnjit.tune.bench import Bench
from nnjit.tune.device import DeviceFacts
from nnjit.tune.search import Job
from nnjit.tune.space import Space
from nnjit.tune.space_wasm import space_of


class Tuning(Candidates[Plan, SessionMemory, Target, DeviceFacts, Repacking]):
    """See the module."""

    backend = "wasm"

    def _repacking(self) -> Repacking:
        return Repacking(self.plan, self.memory, self.target, self.alone)

    def _slots(self) -> list[Slot]:
        steps: dict[int, list[int]] = {}
        for i, step in enumerate(self.plan.steps):
            steps.setdefault(step.slot, []).append(i)
        found: dict[str, Slot] = {}
        for number, at in steps.items():
            info = self.plan.kernel_of(at[0])
            # the lab does all of a kernel: what one in place leaves out is not in its times. Kernels of one spec that
            # end at different lengths are one job: the others follow when the plan is linked anew
            if info.place >= 0 or info.spec.key in found:
                continue
            bound = self.facts.bound_ms(info.spec, self.target)
            nbytes = sum(o.size * SIZES[o.dtype] for o in info.spec.operands)
            job = Job.of(info.spec, info.schedule, len(at), bound, 0.001, nbytes)
            found[info.spec.key] = Slot(number, info.spec, at, job)
        return list(found.values())

    def _space(self, spec: KernelSpec) -> Space:
        return space_of(spec, self.facts.target(self.target), self.facts)

    def _usable(self, slot: Slot, schedule: Schedule) -> bool:
        """Panels of an activation are made by a step before this one, in the tiles that it was compiled for."""
        mine, theirs = panels_of(schedule), panels_of(slot.job.serving)
        return all(
            slot.spec.operands[i].const or mine.get(i) == theirs.get(i) for i in (*mine, *theirs)
        )  # fmt: skip

    def _bench(self, slot: Slot) -> Laid:
        step = self.plan.steps[slot.steps[0]]
        return Bench(slot.spec, self.target, step.tiles, step.parallel, self._kernel(slot).reach)

    def _swap(self, slot: Slot, before: Schedule, after: Schedule) -> dict[str, Any]:
        repacks = self.repacking.plan_for(slot.steps, slot.spec, before, after)
        return {"slot": slot.number, "pages": self.memory().pages, "repacks": repacks}

    def _serves(self, slot: Slot, schedule: Schedule) -> None:
        self._kernel(slot).schedule = schedule

    def _kernel(self, slot: Slot) -> KernelInfo:
        return self.plan.kernels[slot.number - self.plan.table_base]


def panels_of(schedule: Schedule) -> dict[int, tuple[str, int, int]]:
    """The panels a schedule reads: operand -> (axis, tile, group)."""
    tiles = {s.axis: s.factor for s in schedule if isinstance(s, Tile)}
    return {s.operand: (s.axis, tiles.get(s.axis, 1), s.group) for s in schedule if isinstance(s, Pack)}
