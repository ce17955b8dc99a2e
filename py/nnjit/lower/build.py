"""Graph -> kernels: regions are lowered in order, each to steps over buffers.

The result (`Lowered`) is data for the memory planner and the emitters: steps with their spec, schedule and
operands, host calls, and which buffers hold the graph's inputs and outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Access, Expr, UnsupportedExpr, const, load, rewrite
from nnjit.codegen.schedule.apply import scratch_of
from nnjit.codegen.schedule.canonical import canonical, rebased
from nnjit.codegen.schedule.group_steps import Words
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.pack import clipped, pack_kernel
from nnjit.codegen.schedule.steps import Pack, Schedule, ScheduleError, Tile
from nnjit.codegen.schedule.words import word_kernel
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Graph, Node, Value
from nnjit.lower import ops  # noqa: F401  (fills the registry)
from nnjit.lower.backend import (
    AnyTarget,
    Code,
    attention_forms,
    emitted,
    in_place,
    plain_schedule,
    schedule_of,
    stores,
)
from nnjit.lower.context import Context
from nnjit.lower.forms import Choice, Forms
from nnjit.lower.joining import place_in_reader
from nnjit.lower.layout import Layout
from nnjit.lower.layouts import preferred
from nnjit.lower.ops.attention import OP as ATTENTION
from nnjit.lower.regions import Region, fuse
from nnjit.lower.registry import ALGORITHMS, COMPOSITES, COMPUTE, VIEWS, Computation, Unsupported, kind
from nnjit.lower.sharing import shared_constants
from nnjit.lower.tensors import Buffer, Tensors
from nnjit.lower.turns import Loop

LINE = 64
"""Bytes of a cache line: what two threads write lies at least this far apart."""
FEW_CHANNELS = 8
"""Channels from which a channels-last copy of an image is made in vectors."""
SLACK = 64
"""Bytes that a vector may read past the end of what it needs."""

Chosen: TypeAlias = "Callable[[KernelSpec], Schedule | None]"


@dataclass(slots=True)
class Kernel:
    """A step that runs a kernel: operand i is `places[i]` = (buffer, element offset)."""

    spec: KernelSpec
    schedule: Schedule
    places: list[tuple[Buffer, int]]
    nodes: list[Node]
    once: bool
    code: Code
    tiles: int
    emit_ms: float
    """0 for a kernel that was emitted before."""
    anchor: Node | None = None
    """Of the region that it computes, or a part of it."""
    loop: Loop | None = None
    moves: tuple[int, ...] = ()
    """In a loop: elements by which each place moves from one turn to the next."""

    @property
    def reads(self) -> list[Buffer]:
        return [b for (b, _), o in zip(self.places, self.spec.operands, strict=True) if o.role == "in"]

    @property
    def writes(self) -> list[Buffer]:
        return [b for (b, _), o in zip(self.places, self.spec.operands, strict=True) if o.role != "in"]


@dataclass(slots=True)
class HostCall:
    """Nodes that run on the reference: their inputs are shipped from memory (or from earlier host calls)."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    reason: str
    once: bool = False
    reads: list[Buffer] = field(default_factory=list)
    writes: list[Buffer] = field(default_factory=list)


@dataclass(slots=True)
class Lowered:
    graph: Graph
    steps: list[Kernel | HostCall]
    tensors: Tensors
    reasons: dict[Node, str]
    """Why a node runs on the reference."""
    choices: dict[Node, Choice] = field(default_factory=dict)
    """Of nodes that have several forms, which they got."""
    outputs: list[Value] = field(default_factory=list)
    """The graph's outputs as they were: lowering puts copies in the place of some."""


class Build:
    """One lowering in progress."""

    def __init__(
        self, graph: Graph, target: AnyTarget, chosen: Chosen | None = None, forms: Forms | None = None
    ) -> None:
        self.graph, self.target = graph, target
        self.chosen = chosen or (lambda spec: None)
        self.forms = forms or Forms()
        self.made: Callable[[Code], None] | None = None
        self.choices: dict[Node, Choice] = {}
        self.anchor: Node | None = None
        self.weights = sum(v.const.nbytes for v in graph.constants() if v.const is not None)
        self.grown = 0  # bytes that weights kept in another form take more
        self.tensors = Tensors()
        self.steps: list[Kernel | HostCall] = []
        self.reasons: dict[Node, str] = {}
        self.given = list(graph.outputs)
        self.outputs = set(graph.outputs)
        self._packed: dict[tuple[int, int, str], Buffer] = {}
        self._padded: dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Value] = {}
        self.shared = {self.tensors.place(v)[0] for v in shared_constants(graph)}

    # ---- what composite rules call ----

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
        self.emit(ctx, c, value.dtype, buffer, layout, nodes, once)

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
    ) -> None:
        """Adds the kernel of a computation whose last value goes to `layout` of `buffer`."""
        if 0 in layout.shape:
            return
        at = layout.index(list(c.idx))
        before, value = list(c.stages), c.value
        if c.term is not None:
            # (threads that share a row do not see what others of them stored)
            stored = c.term.dtype == dtype and isinstance(self.target, Target)
            term = load(-1, at, dtype) if stored else c.term
            value = rewrite(value, {}, lambda e: term if e.op == "local" and e.attr == "term" else None)
            if stored:
                before[-1] = replace(before[-1], terms=(-1, at))
        last = Stage(tuple(c.own), tuple(c.reduce), c.combine, c.body, value, -1, at)
        name = c.name or "_".join([nodes[0].op.lower(), *(n.op.lower() for n in nodes[1:])])[:60]
        stages = (*before, last)
        self.emit_stages(ctx, f"{dtype}_{name}", c.axes, stages, buffer, layout, nodes, once, dtype, c.useful)

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
    ) -> None:
        """Adds a kernel of these stages, which name their output operand -1: `layout` of `buffer`."""
        at = ctx.operand(buffer, layout.offset, dtype, layout.span, "out")
        # which operand an output is known only now: stages that refer to it use -1
        bound = tuple(_bind_output(s, at) for s in stages)
        spec = KernelSpec(name, tuple(axes), bound, ctx.operands(), tuple(useful))
        spec, starts = rebased(spec)
        places = [(b.buffer, b.offset + start) for b, start in zip(ctx.bound, starts, strict=True)]
        self.kernel(spec, places, nodes, once)

    def kernel(
        self, spec: KernelSpec, places: list[tuple[Buffer, int]], nodes: list[Node], once: bool
    ) -> None:
        """Adds a kernel step with its default schedule, and the steps that pack its operands before it.

        A rule's schedule that turns out not to fit costs speed, never the node: plain loops always do."""
        spec = canonical(spec)
        mark = len(self.steps)
        try:
            self._scheduled(spec, self._schedule(spec, places), list(places), nodes, once)
        except ScheduleError:
            self._undo(mark)
            self._scheduled(spec, plain_schedule(spec, self.target), places, nodes, once)

    def _schedule(self, spec: KernelSpec, places: list[tuple[Buffer, int]]) -> Schedule:
        """The one chosen before for this spec, if it fits, or the default; without panels of a constant that is in
        memory for another step anyway."""
        known = self.chosen(spec)
        schedule = known if known is not None and fits(spec, known) else schedule_of(spec, self.target)
        if self.shared and any(isinstance(s, Pack) and places[s.operand][0] in self.shared for s in schedule):
            return in_place(spec, self.target) or schedule
        return schedule

    def _undo(self, mark: int) -> None:
        """Takes back the steps from `mark` on, and what later kernels would have found ready because of them."""
        del self.steps[mark:]
        written = {b for s in self.steps for b in s.writes}
        self._packed = {k: b for k, b in self._packed.items() if b in written}
        places = self.tensors.places
        self._padded = {k: v for k, v in self._padded.items() if v in places and places[v].buffer in written}

    def _scheduled(
        self,
        spec: KernelSpec,
        schedule: Schedule,
        places: list[tuple[Buffer, int]],
        nodes: list[Node],
        once: bool,
    ) -> None:
        for step in schedule:
            if isinstance(step, (Pack, Words)):
                places[step.operand] = (self._pack(spec, schedule, step, places[step.operand], nodes), 0)
        self._step(spec, schedule, places, nodes, once)

    def _step(
        self,
        spec: KernelSpec,
        schedule: Schedule,
        places: list[tuple[Buffer, int]],
        nodes: list[Node],
        once: bool,
    ) -> None:
        start = time.perf_counter()
        code, tiles, new = emitted(spec, schedule, self.target)
        if self.made is not None:
            self.made(code)
        if spec.scratch >= 0:
            places[spec.scratch] = (self._scratch(spec, schedule), 0)
        took = 1e3 * (time.perf_counter() - start) if new else 0.0
        self.steps.append(Kernel(spec, schedule, places, nodes, once, code, tiles, took, anchor=self.anchor))

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
            tile = next((s.factor for s in schedule if isinstance(s, Tile) and s.axis == step.axis), 1)
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

    # ---- the graph, region by region ----

    def form(self, node: Node, rule: str, options: Sequence[str]) -> str:
        """Which of `options` a node is lowered as; `rule`: the one to expect the most of."""
        choice = self.choices[node] = self.forms.choose(node, rule, options)
        return choice.form

    def run(self, progress: Callable[[int, int], None] | None = None) -> Lowered:
        for done, total in self.parts():
            if progress:
                progress(done, total)
        return self.lowered()

    def lowered(self) -> Lowered:
        """What came of it, after the last part."""
        return Lowered(self.graph, self.steps, self.tensors, self.reasons, self.choices, self.given)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Lowers region by region, so that a caller may do other things in between; (done, of how many)."""
        for v in self.graph.inputs:
            if v.shape is not None and stores(self.target, v.dtype):
                self.buffer(v, Layout.row_major(v.shape))
        refused: set[Node] = set()
        regions = fuse(
            self.graph, lambda n: "host" if n in refused or not self._storable(n) else self._kind(n)
        )
        for i, r in enumerate(regions):
            self._region(r)
            yield i + 1, len(regions)
        self.anchor = None
        self._outputs()

    def _kind(self, n: Node) -> str:
        """`kind`; attention that is not one kernel is composed of several."""
        if n.op == ATTENTION and self.form(n, *attention_forms(n, self.target)) == "split":
            return "composite"
        return kind(n)

    def _storable(self, n: Node) -> bool:
        """Whether the target's memory holds all that a node reads and writes."""
        values = (v for v in (*n.inputs, *n.outputs) if v is not None and v.name and v.dtype in SIZES)
        return all(stores(self.target, v.dtype) for v in values)

    def _region(self, r: Region) -> None:
        mark = len(self.steps)
        self.anchor = r.anchor
        try:
            if r.kind == "host":
                self._host(r.nodes, self._why(r.anchor))
            elif r.kind == "view":
                self._view(r.anchor)
            elif r.kind == "composite":
                COMPOSITES[r.anchor.op](self, r.anchor)
            else:
                self._kernel(r)
        except (Unsupported, UnsupportedExpr) as e:
            self._undo(mark)
            if r.kind == "computation" and r.anchor.op in COMPOSITES:
                self._apart(r)
            elif len(r.nodes) > 1 or r.inlined:
                # without the epilogue the anchor may do, and if not, only the anchor goes to the reference
                for n in (*reversed(r.inlined), *r.nodes):
                    live = next((v for v in n.outputs if v.name), n.outputs[0])
                    self._region(Region(n, [n], n.outputs[r.out] if n is r.anchor else live, kind(n),
                                        r.out if n is r.anchor else 0))  # fmt: skip
            else:
                self._host(r.nodes, str(e))

    def _apart(self, r: Region) -> None:
        """A node that would not fit one kernel, as the several that it is composed of; what was fused with it follows
        by itself."""
        for n in (*reversed(r.inlined), *r.nodes):
            live = next((v for v in n.outputs if v.name), n.outputs[0])
            self._region(Region(n, [n], live, "composite" if n is r.anchor else kind(n), 0))

    def _why(self, n: Node) -> str:
        for v in (*n.inputs, *n.outputs):
            if v is not None and v.name and v.shape is None:
                return f"{v.name} has a shape known only at run time"
            if v is not None and v.name and not stores(self.target, v.dtype):
                return f"no kernels for {v.dtype}"
        return f"no kernel for {n.op}"

    def _host(self, nodes: list[Node], reason: str) -> None:
        inputs: dict[Value, None] = {}
        for n in nodes:
            for v in (*n.inputs, *n.captures.values()):
                if v is not None and v.name and v.const is None:
                    inputs[v] = None
                    self._dense(v)
        outputs = [v for n in nodes for v in n.outputs if v.name]
        call = HostCall(nodes, list(inputs), outputs, reason, all(n.once for n in nodes))
        for v in outputs:
            if v.shape is not None and stores(self.target, v.dtype):
                call.writes.append(self.buffer(v, Layout.row_major(v.shape), call.once))
        for v in inputs:
            if v in self.tensors.places:
                call.reads.append(self.tensors.places[v].buffer)
        self.steps.append(call)
        for n in nodes:
            self.reasons[n] = reason

    def _dense(self, v: Value) -> None:
        """Makes sure that `v` lies in memory as ONNX has it."""
        place = self.tensors.places.get(v)
        if place is None or place.layout.dense or v.shape is None:
            return
        layout = Layout.row_major(v.shape)
        copy = Buffer(v.name, max(1, layout.span) * SIZES[v.dtype], v.once)
        self.copy_into(v, copy, layout, [v.producer] if v.producer else [], v.once)
        self.tensors.put(v, copy, layout)

    def _view(self, n: Node) -> None:
        source = n.inputs[0]
        assert source is not None
        buffer, layout = self.tensors.place(source)
        for i, out in enumerate(n.outputs):
            if not out.name:
                continue
            assert out.shape is not None
            seen = VIEWS[n.op](n, layout) if len(n.outputs) == 1 else VIEWS[n.op](n, layout, i)  # type: ignore[call-arg]
            if seen is None:
                # only a copy in row-major order can be seen under the new shape
                assert source.shape is not None
                dense = Layout.row_major(source.shape)
                copy = Buffer(out.name, max(1, dense.span) * SIZES[source.dtype], n.once)
                self.copy_into(source, copy, dense, [n], n.once)
                buffer, layout = copy, dense
                seen = VIEWS[n.op](n, layout) if len(n.outputs) == 1 else VIEWS[n.op](n, layout, i)  # type: ignore[call-arg]
                assert seen is not None
            self.tensors.put(out, buffer, seen)

    def _kernel(self, r: Region) -> None:
        if not r.inlined and any(way(self, r) for way in ALGORITHMS.get(r.anchor.op, ())):
            return
        ctx = Context(self)
        ctx.inlined = set(r.inlined)
        anchor = r.anchor
        if r.kind == "computation":
            c = COMPUTE[anchor.op](ctx, anchor, r.out)
        else:
            shape = anchor.outputs[r.out].shape
            assert shape is not None
            axes, idx = ctx.axes(shape)
            c = Computation(axes, idx, ctx.element(anchor, idx))
        ctx.inside[anchor.outputs[r.out]] = c.value
        for n in r.nodes[1:]:
            ctx.inside[n.outputs[0]] = ctx.element(n, list(c.idx))
        out = r.output
        assert out.shape is not None
        c.value = ctx.inside[out]
        once = all(n.once for n in r.nodes)
        layout = Layout.row_major(out.shape) if out in self.outputs else preferred(r, c, self.tensors)
        joined = place_in_reader(self, out, layout, once)
        if joined is not None:
            buffer, layout = joined.buffer, joined.layout
            self.tensors.put(out, buffer, layout)
        else:
            buffer = self.buffer(out, layout, once)
        self.emit(ctx, c, out.dtype, buffer, layout, list(r.nodes), once)

    def _outputs(self) -> None:
        """Graph outputs get buffers of their own, in row-major order."""
        inputs = {self.tensors.places[v].buffer for v in self.graph.inputs if v in self.tensors.places}
        used: set[Buffer] = set()
        for i, v in enumerate(self.graph.outputs):
            if v.shape is None or not stores(self.target, v.dtype):
                continue
            if v not in self.tensors.places and v.const is None:
                continue
            buffer, layout = self.tensors.place(v)
            if layout.dense and not buffer.constant and buffer not in inputs and buffer not in used:
                used.add(buffer)
                continue
            dense = Layout.row_major(v.shape)
            copy = Buffer(v.name, max(1, dense.span) * SIZES[v.dtype])
            self.copy_into(v, copy, dense, [], False)
            if buffer in inputs:  # the place of `v` stays where its feed goes
                v = self.graph.outputs[i] = Value(f"{v.name}/out", v.dtype, v.shape)
            self.tensors.put(v, copy, dense)
            used.add(copy)


def _bind_output(s: Stage, at: int) -> Stage:
    """Operand -1, the kernel's own output, gets its number (in stores and in reads of what was stored)."""

    def leaf(e: Expr) -> Expr | None:
        if e.op == "load" and e.attr.operand == -1:
            return Expr("load", e.dtype, e.args, Access(at, e.attr.index, e.attr.guard))
        return None

    body = None if s.body is None else rewrite(s.body, {}, leaf)
    terms = (at, s.terms[1]) if s.terms is not None and s.terms[0] == -1 else s.terms
    out = at if not s.keep and s.out == -1 else s.out
    return replace(s, body=body, result=rewrite(s.result, {}, leaf), out=out, terms=terms)


def lower(
    graph: Graph,
    target: AnyTarget,
    progress: Callable[[int, int], None] | None = None,
    chosen: Chosen | None = None,
    forms: Forms | None = None,
    made: Callable[[Code], None] | None = None,
) -> Lowered:
    """Lowers a bound graph (concrete shapes) for a target; nodes without kernels become host calls.

    chosen: gives schedules that replace the rules' own, where it knows one. forms: the same for nodes that can be
    lowered in several ways. made: is told of each kernel's code as soon as there is some."""
    build = Build(graph, target, chosen, forms)
    build.made = made
    return build.run(progress)
