"""Computation -> kernel steps: takes what operator rules made of a node, gives steps with schedules over buffers.

A schedule's packed operands become steps of their own before the kernel's; a rule's schedule that does not fit gives
way to plain loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Access, Expr, Index, const, facts, load
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.apply import scratch_of
from nnjit.codegen.schedule.canonical import canonical, rebased
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.pack import clipped, pack_kernel
from nnjit.codegen.schedule.split import Halves, Split, halves
from nnjit.codegen.schedule.stagewise import Passes
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError, Tile
from nnjit.codegen.schedule.words import word_kernel
from nnjit.codegen.spec import Axis, KernelSpec, Reach, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.codegen.wgsl.cache import Moves
from nnjit.graph.ir import Graph, Node, Value
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
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.lowered import Chosen, Held, HostCall, Kernel, Placing
from nnjit.lower.registry import Computation
from nnjit.lower.sharing import shared_constants
from nnjit.lower.tensors import Buffer, Tensors
from nnjit.lower.waiting import Waiting, with_norm

LINE = 64
"""Bytes of a cache line: what two threads write lies at least this far apart."""
FEW_CHANNELS = 8
"""Channels from which a channels-last copy of an image is made in vectors."""
ROW = 1 << 14
"""Elements of a row whose terms a thread keeps by itself: with more, other rows would leave its second cache."""
SLACK = 64
"""Bytes that a vector may read past the end of what it needs."""

_OUTPUT = facts((-1,))
"""That a kernel's own output is read."""


class Kernels:
    """The kernel steps of one lowering so far, and the buffers they write."""

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
        self._padded: dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Value] = {}
        self.whole = False
        """Kernels leave nothing out, whatever is looked at."""
        self.rows: dict[tuple[Value, tuple[int, ...]], Value] = {}
        """Values that were widened to f32 under a shape, for the next product that wants them so."""
        self.shared = {self.tensors.place(v)[0] for v in shared_constants(graph)}

    def buffer(self, value: Value, layout: Layout, once: bool = False) -> Buffer:
        """A new buffer holding `value` in `layout`."""
        made = Buffer(value.name, max(1, layout.span) * SIZES[value.dtype], once)
        self.tensors.put(value, made, layout)
        return made

    def copy_into(self, value: Value, buffer: Buffer, layout: Layout, nodes: list[Node], once: bool) -> None:
        """A kernel that writes `value` to `layout` of an existing buffer (concatenation, layout changes)."""
        assert value.shape is not None
        ctx = Context(self)
        axes, idx = ctx.axes(value.shape)
        c = Computation(axes, idx, ctx.read(value, idx), name="copy")
        self.emit(ctx, c, value.dtype, buffer, layout, nodes, once, value)

    def padded(self, value: Value, begin: Sequence[int], after: Sequence[int]) -> Value:
        """`value` in channels-last order with zeros around its spatial dimensions; one copy for all readers. Few
        channels stay as they lie: a row of the image is then copied in one piece."""
        key = (value, tuple(begin), tuple(after))
        made = self._padded.get(key)
        if made is not None:
            return made
        assert value.shape is not None
        shape = (
            *value.shape[:2],
            *(b + n + a for b, n, a in zip(begin, value.shape[2:], after, strict=True)),
        )
        made = self._padded[key] = Value(f"{value.name}/pad", value.dtype, shape)
        ctx = Context(self)
        axes, idx = ctx.axes(shape)
        at, bounds = list(idx[:2]), []
        for d, (b, n, a) in enumerate(zip(begin, value.shape[2:], after, strict=True)):
            at.append(idx[2 + d] + (-b))
            if b or a:
                bounds.append((at[-1], n))
        v = ctx.read_padded(value, at, bounds, const(0, value.dtype))
        last = shape[1] >= FEW_CHANNELS or self.tensors.place(value)[1].strides[1] == 1
        layout = Layout.channels_last(shape) if last else Layout.row_major(shape)
        buffer = self.buffer(made, layout, value.once)
        nodes = [value.producer] if value.producer else []
        self.emit(ctx, Computation(axes, idx, v, name="pad"), value.dtype, buffer, layout, nodes, value.once)
        return made

    def emit(
        self,
        ctx: Context,
        c: Computation,
        dtype: str,
        buffer: Buffer,
        layout: Layout,
        nodes: list[Node],
        once: bool,
        of: Value | None = None,
    ) -> None:
        """Adds the kernel of a computation whose last value, `of` the graph, goes to `layout` of `buffer`."""
        if 0 in layout.shape:
            return
        at = layout.index(list(c.idx))
        before, value = list(c.stages), c.value
        if c.term is not None:
            # (threads that share a row do not see what others of them stored)
            place = self._kept(ctx, c, dtype, at) if isinstance(self.target, Target) else None
            term = load(*place, c.term.dtype) if place else c.term
            value = rewrite(value, {}, lambda e: term if e.op == "local" and e.attr == "term" else None)
            if place:
                before[-1] = replace(before[-1], terms=place)
        last = Stage(tuple(c.own), tuple(c.reduce), c.combine, c.body, value, -1, at)
        name = c.name or "_".join([nodes[0].op.lower(), *(n.op.lower() for n in nodes[1:])])[:60]
        stages = (*before, last)
        reach = self._reach(c, stages, of) if of is not None and not once else ()
        name = f"{dtype}_{name}"
        self.emit_stages(ctx, name, c.axes, stages, buffer, layout, nodes, once, dtype, c.useful, reach)

    def leave_nothing_out(self) -> None:
        """The reference stops at numbers that make no sense, whether they count or not: each element is made."""
        self.whole = True
        for s in self.steps:
            if isinstance(s, Kernel) and s.reach:
                s.code, s.tiles, _ = emitted(s.spec, s.schedule, self.target)
                s.reach = ()

    def _reach(self, c: Computation, stages: Sequence[Stage], of: Value) -> Reach:
        """How far the axes of a kernel are looked at in what it makes `of` the graph: those that are an axis of that
        tensor, and of no stage before the last."""
        if not of.reach or self.whole or not isinstance(self.target, Target):
            return ()
        taken = {a.name for s in stages[:-1] for a in (*s.axes, *s.reduce)} | {a.name for a in c.reduce}
        extents = {a.name: a.extent for a in (*c.axes, *c.own) if a.name not in taken}
        found = []
        for axis, length in sorted(of.reach.items()):
            i = c.idx[axis]
            name = next((a for a, _ in i.terms if isinstance(a, str)), "")
            if i == Index.of(name) and of.shape is not None and extents.get(name) == of.shape[axis]:
                found.append((name, length))
        return tuple(found)

    def _kept(self, ctx: Context, c: Computation, dtype: str, at: Index) -> tuple[int, Index] | None:
        """Where the terms of the last stage stay until the result is made of them: in its own place if that has their
        type; rows of 16-bit floats, which would have to be rounded and widened again, in memory of the thread."""
        assert c.term is not None
        if c.term.dtype == dtype:
            return -1, at
        size = prod(a.extent for a in c.own)
        if dtype not in ("f16", "bf16") or size > ROW or not c.own or at.coeff(c.own[-1].name) != 1:
            return None
        row = Index()
        for a in c.own:
            row = row * a.extent + Index.of(a.name)
        return ctx.scratch(c.term.dtype, size), row

    def emit_stages(
        self,
        ctx: Context,
        name: str,
        axes: Sequence[Axis],
        stages: Sequence[Stage],
        buffer: Buffer,
        layout: Layout,
        nodes: list[Node],
        once: bool,
        dtype: str = "f32",
        useful: Sequence[tuple[str, Expr]] = (),
        reach: Reach = (),
    ) -> None:
        """Adds a kernel of these stages, which name their output operand -1: `layout` of `buffer`."""
        at = ctx.operand(buffer, layout.offset, dtype, layout.span, "out")
        # which operand an output is known only now: stages that refer to it use -1
        bound = tuple(_bind_output(s, at) for s in stages)
        spec = KernelSpec(name, tuple(axes), bound, ctx.operands(), tuple(useful))
        spec, starts = rebased(spec)
        places = [(b.buffer, b.offset + start) for b, start in zip(ctx.bound, starts, strict=True)]
        self.kernel(spec, places, nodes, once, reach)

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
        written = {b for s in self.steps for b in s.writes}
        self._packed = {k: b for k, b in self._packed.items() if b in written}
        places = self.tensors.places
        self._padded = {k: v for k, v in self._padded.items() if v in places and places[v].buffer in written}
        self.rows = {k: v for k, v in self.rows.items() if v in places and places[v].buffer in written}

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


def _bind_output(s: Stage, at: int) -> Stage:
    """Operand -1, the kernel's own output, gets its number (in stores and in reads of what was stored)."""
    if s.keep and s.body is None and not s.result.facts & _OUTPUT:  # most stages of a kernel with many
        return s

    def leaf(e: Expr) -> Expr | None:
        if e.op == "load" and e.attr.operand == -1:
            return Expr("load", e.dtype, e.args, Access(at, e.attr.index, e.attr.guard))
        return None

    def bound(e: Expr) -> Expr:
        return rewrite(e, {}, leaf) if e.facts & _OUTPUT else e  # most read no output

    body = None if s.body is None else bound(s.body)
    terms = (at, s.terms[1]) if s.terms is not None and s.terms[0] == -1 else s.terms
    out = at if not s.keep and s.out == -1 else s.out
    result = bound(s.result)
    if body is s.body and result is s.result and out == s.out and terms is s.terms:
        return s
    return replace(s, body=body, result=result, out=out, terms=terms)
