"""Kernel spec -> steps: what packs its operands, the kernel with a schedule, and memory for both.

A schedule is one that was chosen before, one whose panels are in memory anyway, or the rules'. A schedule's packed
operands become steps of their own before the kernel's; a sum or a row may be divided into several kernels; a rule's
schedule that does not fit gives way to plain loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.schedule.apply import scratch_of
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.pack import clipped, pack_kernel
from nnjit.codegen.schedule.split import Halves, Split, halves
from nnjit.codegen.schedule.stagewise import Passes
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError, Tile
from nnjit.codegen.schedule.words import word_kernel
from nnjit.codegen.spec import KernelSpec, Reach
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.cache import Moves
from nnjit.graph.ir import Graph, Node
from nnjit.lower.backend import (
    AnyTarget,
    Code,
    emitted,
    in_place,
    panel_schedules,
    plain_schedule,
    schedule_of,
    split_rows,
    split_sum,
)
from nnjit.lower.lowered import Chosen, Held, HostCall, Kernel, Placing
from nnjit.lower.sharing import shared_constants
from nnjit.lower.tensors import Buffer, Tensors
from nnjit.lower.waiting import Waiting, with_norm

LINE = 64
"""Bytes of a cache line: what two threads write lies at least this far apart."""
SLACK = 64
"""Bytes that a vector may read past the end of what it needs."""


class Steps:
    """The steps of one lowering so far."""

    def __init__(self, graph: Graph, target: AnyTarget, chosen: Chosen | None) -> None:
        self.target = target
        self.chosen = chosen or (lambda spec: None)
        self.made: Callable[[Code], None] | None = None
        self.held: Held | None = None
        self.placing: Placing | None = None
        self.told: Callable[[Kernel | HostCall], None] | None = None
        self.reused: dict[str, Schedule] = {}
        """By a spec's key: the schedule whose panels an earlier plan has left in memory, or the rules' own."""
        self.anchor: Node | None = None
        self.tensors = Tensors()
        self.steps: list[Kernel | HostCall] = []
        self.sums: dict[Buffer, Waiting] = {}
        """By what they write: the kernels that wait for the norms behind them."""
        self._packed: dict[tuple[int, int, str], Buffer] = {}
        self.shared = {self.tensors.place(v)[0] for v in shared_constants(graph)}

    def kernel(
        self,
        spec: KernelSpec,
        places: list[tuple[Buffer, int]],
        nodes: list[Node],
        once: bool,
        reach: Reach = (),
    ) -> None:
        """Adds a kernel step with its default schedule, and the steps that pack its operands before it.

        A rule's schedule that turns out not to fit costs speed, never the node: plain loops always do."""
        spec = canonical(spec, frozenset(name for name, _ in reach))
        left = {a.name for a in (*spec.axes, *spec.stages[-1].axes)}
        reach = tuple(r for r in reach if r[0] in left)
        if self.sums and with_norm(self, spec, places, nodes, once):
            return
        mark = len(self.steps)
        free = self.chosen(spec) is None
        split = self._split(spec, free)
        passes = split_rows(spec, self.target) if free else None
        try:
            if passes is not None:
                self._passes(passes, places, nodes, once)
                return
            if split is not None:
                self._halves(halves(spec, split), places, nodes, once)
                return
            self._scheduled(spec, self._schedule(spec, places), list(places), nodes, once, reach)
        except ScheduleError:
            self.undo(mark)
            self._scheduled(spec, plain_schedule(spec, self.target), places, nodes, once, reach)

    def _split(self, spec: KernelSpec, free: bool) -> Split | None:
        """How the sum of a spec is divided into kernels. free: no schedule was chosen for it whole."""
        return split_sum(spec, self.target) if free else None

    def _halves(self, two: Halves, places: list[tuple[Buffer, int]], nodes: list[Node], once: bool) -> None:
        """The two kernels of a sum that is split, and the buffer between them."""
        between = Buffer(two.partial.name, two.size * SIZES[two.dtype], once), 0
        for spec, operands in ((two.partial, two.first), (two.total, two.second)):
            own = [between if n < 0 else places[n] for n in operands]
            if spec is two.total and not once and self._rows_follow(own[-1][0]):
                made = canonical(spec)
                self.sums[own[-1][0]] = Waiting(made, own, nodes, self.anchor, len(self.steps))
            else:
                self.kernel(spec, own, nodes, once)

    def undivided(self, spec: KernelSpec, places: list[tuple[Buffer, int]], nodes: list[Node]) -> None:
        """Adds a kernel that is not divided; ScheduleError, UnsupportedExpr where the device cannot have it."""
        self._scheduled(spec, self._schedule(spec, places), list(places), nodes, False, ())

    def _rows_follow(self, buffer: Buffer) -> bool:
        """Whether what sums parts into a buffer waits for a norm of its rows, to be one kernel with it."""
        return False

    def _passes(self, rows: Passes, places: list[tuple[Buffer, int]], nodes: list[Node], once: bool) -> None:
        """The kernels of long rows that threads share, and the buffers of what they keep for each row."""
        kept = [
            (Buffer(p.spec.name, rows.rows * SIZES[dtype], once), 0)
            for p, dtype in zip(rows.passes[:-1], rows.kept, strict=True)
        ]
        for p in rows.passes:
            operands = [kept[-1 - n] if n < 0 else places[n] for n in p.operands]
            if p.split is None:
                self.kernel(p.spec, operands, nodes, once)
            else:
                self._halves(halves(p.spec, p.split), operands, nodes, once)

    def _schedule(self, spec: KernelSpec, places: list[tuple[Buffer, int]]) -> Schedule:
        """The one chosen before for this spec, if it fits, or the default; without panels of a constant that is in
        memory for another step anyway."""
        known = self.chosen(spec)
        fitting = known is not None and fits(spec, known)
        schedule = known if known is not None and fitting else schedule_of(spec, self.target)
        if not fitting and (self.held is not None or spec.key in self.reused):
            schedule = self._with_panels_there(spec, schedule, places)
        if self.shared and any(isinstance(s, Pack) and places[s.operand][0] in self.shared for s in schedule):
            return in_place(spec, self.target) or schedule
        return schedule

    def _with_panels_there(
        self, spec: KernelSpec, rule: Schedule, places: list[tuple[Buffer, int]]
    ) -> Schedule:
        """A schedule for the panels of its constants that are in memory: one about as good as the rules' own spares
        the time and the memory of packing them again. The same for all steps of a spec."""
        if spec.key not in self.reused:
            if not any(isinstance(s, Pack) and places[s.operand][0].constant for s in rule):
                return rule
            others = (s for s in panel_schedules(spec, self.target) if self._there(spec, s, places))
            there = self._there(spec, rule, places)
            self.reused[spec.key] = rule if there else next(others, rule)
        return self.reused[spec.key]

    def _there(self, spec: KernelSpec, schedule: Schedule, places: list[tuple[Buffer, int]]) -> bool:
        """Whether memory has the panels of all constants of a schedule."""
        packs = [s for s in schedule if isinstance(s, Pack) and places[s.operand][0].constant]
        return self.held is not None and all(
            self.held(canonical(pack_kernel(spec, s, tile_of(schedule, s))), *places[s.operand])
            for s in packs
        )

    def undo(self, mark: int) -> None:
        """Takes back the steps from `mark` on, and what later kernels would have found ready because of them."""
        del self.steps[mark:]
        self.sums = {b: w.undone(mark) for b, w in self.sums.items() if w.begun <= mark}
        written = self._written()
        self._packed = {k: b for k, b in self._packed.items() if b in written}

    def _written(self) -> set[Buffer]:
        """What the steps so far write."""
        return {b for s in self.steps for b in s.writes}

    def _scheduled(
        self,
        spec: KernelSpec,
        schedule: Schedule,
        places: list[tuple[Buffer, int]],
        nodes: list[Node],
        once: bool,
        reach: Reach,
    ) -> None:
        for step in schedule:
            if isinstance(step, (Pack, Words)):
                places[step.operand] = (self._pack(spec, schedule, step, places[step.operand], nodes), 0)
        self._step(spec, schedule, places, nodes, once, reach)

    def _step(
        self,
        spec: KernelSpec,
        schedule: Schedule,
        places: list[tuple[Buffer, int]],
        nodes: list[Node],
        once: bool,
        reach: Reach = (),
    ) -> None:
        start = time.perf_counter()
        bound: Moves = ()
        if self.placing is not None and not once:
            bound = self.placing(spec, places, self._unshared(spec, places))
        code, tiles, new = emitted(spec, schedule, self.target, bound, reach)
        if self.made is not None:
            self.made(code)
        if spec.scratch >= 0:
            places[spec.scratch] = (self._scratch(spec, schedule), 0)
        took = 1e3 * (time.perf_counter() - start) if new else 0.0
        made = Kernel(spec, schedule, places, nodes, once, code, tiles, took, self.anchor, bound=bound)
        made.reach = reach
        self.steps.append(made)
        if self.told is not None:
            self.told(made)

    def _unshared(self, spec: KernelSpec, places: Sequence[tuple[Buffer, int]]) -> set[Buffer]:
        """The buffers of a step that must not be shared by an input and an output, as far as that is known."""
        return {b for b, _ in places}

    def _scratch(self, spec: KernelSpec, schedule: Schedule) -> Buffer:
        """Scratch memory for every thread, each thread's in cache lines of its own."""
        if not isinstance(self.target, Target):  # a workgroup's own memory takes its place
            return Buffer(f"{spec.name}/scratch", LINE)
        nbytes = scratch_of(spec, schedule).size * SIZES[spec.operands[spec.scratch].dtype]
        return Buffer(
            f"{spec.name}/scratch", max(1, self.target.threads) * -(-(nbytes + SLACK) // LINE) * LINE
        )

    def _pack(
        self,
        spec: KernelSpec,
        schedule: Schedule,
        step: Pack | Words,
        place: tuple[Buffer, int],
        nodes: list[Node],
    ) -> Buffer:
        if isinstance(step, Words):
            packing, form = canonical(word_kernel(spec, step.operand)), "words"
        else:
            tile = tile_of(schedule, step)
            packing, form = canonical(pack_kernel(spec, step, tile)), str(clipped(spec, step, tile))
        buffer, offset = place
        key = (id(buffer), offset, packing.key)
        if buffer.constant and key in self._packed:
            return self._packed[key]
        nbytes = packing.operands[1].size * SIZES[packing.operands[1].dtype]
        made = Buffer(f"{buffer.name}/{form}", nbytes, buffer.constant)
        if buffer.constant:
            self._packed[key] = made
        self._step(packing, schedule_of(packing, self.target), [place, (made, 0)], nodes[:1], buffer.constant)
        return made


def tile_of(schedule: Schedule, pack: Pack) -> int:
    """The tile that a schedule packs an operand by."""
    return next((s.factor for s in schedule if isinstance(s, Tile) and s.axis == pack.axis), 1)
