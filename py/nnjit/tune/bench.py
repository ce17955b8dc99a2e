"""Bench: one KernelSpec laid out in a scratch memory, so that schedules of it can be verified and timed there.

Takes a spec, a target and how many units the step has in its plan; gives plain data for the engine's lab: where
operands lie and what fills them, the serving kernel, and a kernel for each candidate schedule.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from nnjit.codegen.dtypes import FLOATS, SIZES
from nnjit.codegen.schedule.apply import apply, scratch_of
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.half_sums import spread
from nnjit.codegen.schedule.pack import pack_kernel
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError, Tile
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wasm import cache
from nnjit.codegen.wasm.emit import emit_module
from nnjit.codegen.wasm.module import kernel_module
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wasm.team_words import CONTROL_END
from nnjit.tune.fills import patterns
from nnjit.tune.policy import LAB

FIRST = CONTROL_END
"""Below lie the null guard and the control words, as in every session's memory."""
ALIGN = 64
"""Bytes: operands begin at a cache line."""
SLACK = 64
"""Bytes behind each operand, filled like it: vectors may read past an end."""
PAGE = 65536
MOST_BYTES = 768 << 20
"""Of a lab's scratch memory."""
ELEMENT_KINDS = {1: "8", 2: "16", 4: "32", 8: "64"}


class TooLarge(ScheduleError):
    """The operands do not fit the scratch memory: the kernel keeps the schedule it has."""


@dataclass(slots=True)
class Bench:
    """See the module. `units`: tiles that the plan's step has; `parallel`: whether threads share them. `reach`: of the
    step in its plan; in a lab no request tells lengths, and all is computed."""

    spec: KernelSpec
    target: Target
    units: int
    parallel: bool
    reach: Reach = ()
    inputs: dict[int, int] = field(default_factory=dict)
    outputs: dict[int, tuple[int, int]] = field(default_factory=dict)
    top: int = FIRST
    mark: int = FIRST
    """Above lie the panels and arguments of the candidate at hand; a candidate that wins keeps them."""

    def __post_init__(self) -> None:
        for i, o in enumerate(self.spec.operands):
            nbytes = o.size * SIZES[o.dtype]
            if o.role == "in":
                self.inputs[i] = self._take(nbytes)
            elif o.role == "out":
                self.outputs[i] = (self._take(nbytes), self._take(nbytes))
        self.mark = self.top

    def _take(self, nbytes: int) -> int:
        address = self.top
        self.top = -(-(self.top + nbytes + SLACK) // ALIGN) * ALIGN
        if self.top > MOST_BYTES:
            raise TooLarge(f"{self.spec.name} needs more than {MOST_BYTES >> 20} MiB to be tried out")
        return address

    def setup(self, serving: Schedule, probes: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
        """What the lab needs before any candidate; `probes`: (output operand, element) whose values come back.
        ScheduleError where no operands can be made up."""
        kernel = self._kernel(serving, other=False)
        self.mark = self.top
        fills = []
        made = patterns(self.spec)
        for i, address in self.inputs.items():
            o, pattern = self.spec.operands[i], made[i]
            fills.append({"address": address, "nbytes": o.size * SIZES[o.dtype] + SLACK, "pattern": pattern})
        outputs = []
        for i, (own, other) in self.outputs.items():
            o = self.spec.operands[i]
            kind = o.dtype if o.dtype in FLOATS else ELEMENT_KINDS[SIZES[o.dtype]]
            outputs.append(
                {"address": own, "other": other, "nbytes": o.size * SIZES[o.dtype], "kind": kind,
                 "tolerance": tolerance(self.spec, o.dtype)}
            )  # fmt: skip
        places = [
            {"address": self.outputs[i][0] + at * SIZES[self.spec.operands[i].dtype],
             "length": SIZES[self.spec.operands[i].dtype]} for i, at in probes
        ]  # fmt: skip
        return {
            "pages": self._pages(),
            "fills": fills,
            "kernel": kernel,
            "outputs": outputs,
            "probes": places,
            "policy": LAB,
        }

    def candidate(self, schedule: Schedule) -> tuple[dict[str, Any], float]:
        """The lab's kernel of a schedule and the ms it took to make; ScheduleError where it does not fit."""
        self.top = self.mark
        start = time.perf_counter()
        kernel = self._kernel(schedule, other=True)
        return {**kernel, "pages": self._pages()}, 1e3 * (time.perf_counter() - start)

    def keep(self) -> None:
        """The last candidate serves from now on: its panels stay."""
        self.mark = self.top

    def _pages(self) -> int:
        return -(-(self.top + SLACK) // PAGE)

    def _kernel(self, schedule: Schedule, other: bool) -> dict[str, Any]:
        outputs = {i: places[other] for i, places in self.outputs.items()}
        pointers = [self.inputs.get(i) or outputs.get(i, 0) for i in range(len(self.spec.operands))]
        packs = []
        for step in schedule:
            if isinstance(step, Pack):
                pack, panels = self._pack(schedule, step, self.inputs[step.operand])
                packs.append(pack)
                pointers[step.operand] = panels
        module, tiles = self._module(schedule)
        blocks = self._threads(schedule, pointers)
        return {
            "module": module,
            "args": self._take(4 * len(blocks)),
            "pointers": blocks,
            "stride": 4 * len(pointers) if len(blocks) > len(pointers) else 0,
            "tiles": self.units,
            # fewer units than this may be no tile of its own: nothing would be timed
            "grain": -(-self.units // tiles),
            "parallel": self.parallel,
            "packs": packs,
        }

    def _module(self, schedule: Schedule) -> tuple[bytes, int]:
        """The kernel as a module, and its own number of tiles. What a plan was made of is there already."""
        made = cache.known(self.spec, schedule, self.target, self.reach)
        if made is not None and made[1] == self.units:
            return kernel_module(made[0], self.target.shared), self.units
        nest = apply(self.spec, schedule, self.reach)
        return emit_module(nest, self.target, self.units), nest.tiles

    def _threads(self, schedule: Schedule, pointers: list[int]) -> list[int]:
        """Where a kernel needs memory of its own, each thread has a block of pointers, one after another."""
        at = self.spec.scratch
        if at < 0:
            return pointers
        blocks: list[int] = []
        nbytes = scratch_of(self.spec, schedule).size * SIZES[self.spec.operands[at].dtype]
        for _ in range(max(1, self.target.threads)):
            own = list(pointers)
            own[at] = self._take(nbytes)
            blocks += own
        return blocks

    def _pack(self, schedule: Schedule, step: Pack, source: int) -> tuple[dict[str, Any], int]:
        spec = packing(self.spec, schedule, step)
        out = spec.operands[1]
        panels = self._take(out.size * SIZES[out.dtype])
        nest = apply(spec, default_schedule(spec, self.target))
        pack = {
            "module": emit_module(nest, self.target),
            "args": self._take(8),
            "pointers": [source, panels],
            "tiles": nest.tiles,
            "parallel": nest.tiles > 1,
        }
        return pack, panels


def packing(spec: KernelSpec, schedule: Schedule, step: Pack) -> KernelSpec:
    """The kernel that fills the panels that `step` of `schedule` reads."""
    tile = next((s.factor for s in schedule if isinstance(s, Tile) and s.axis == step.axis), 1)
    return canonical(pack_kernel(spec, step, tile))


def tolerance(spec: KernelSpec, dtype: str, elements: int = 0) -> dict[str, float]:
    """What another order of summation may change: none for integers that come from integers alone. elements: so many
    may be summed up in f16 (`half_sums`).

    absolute is in parts of the largest output, which is some sqrt(k); sums of k terms differ by about sqrt(k)
    roundings."""
    computed = any(e.dtype in FLOATS for e in spec.exprs())
    if dtype not in FLOATS:
        # a real on the way may round to a neighbour
        return {"absolute": 0.0, "relative": 0.0} if not computed else {"absolute": 0.01, "relative": 0.01}
    terms = max(1, spec.points // max(1, max(o.size for o in spec.operands if o.role == "out")))
    step = {"f64": 2e-15, "f32": 1e-6, "f16": 2e-3, "bf16": 1.6e-2}[dtype]
    halves = spread(elements, 1.0)
    return {
        "absolute": step * (2 + sqrt(terms) / 8) + halves,
        "relative": 40 * step if dtype == "f32" else 4 * step,
    }
