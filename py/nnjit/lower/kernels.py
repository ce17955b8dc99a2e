"""Computation -> kernel spec: takes what operator rules made of a node, gives specs over buffers, for steps.py.

Here it is said where a value lies, where the terms of a last stage stay until the result is made of them, and how far
a kernel's elements are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Access, Expr, Index, const, facts, load
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.canonical import rebased
from nnjit.codegen.spec import Axis, KernelSpec, Reach, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Graph, Node, Value
from nnjit.lower.backend import AnyTarget, emitted
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.lowered import Chosen, Kernel
from nnjit.lower.registry import Computation
from nnjit.lower.steps import Steps
from nnjit.lower.tensors import Buffer

FEW_CHANNELS = 8
"""Channels from which a channels-last copy of an image is made in vectors."""
ROW = 1 << 14
"""Elements of a row whose terms a thread keeps by itself: with more, other rows would leave its second cache."""

_OUTPUT = facts((-1,))
"""That a kernel's own output is read."""


class Kernels(Steps):
    """The kernels of one lowering so far, and the buffers they write."""

    def __init__(self, graph: Graph, target: AnyTarget, chosen: Chosen | None) -> None:
        super().__init__(graph, target, chosen)
        self._padded: dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Value] = {}
        self.whole = False
        """Kernels leave nothing out, whatever is looked at."""
        self.rows: dict[tuple[Value, tuple[int, ...]], Value] = {}
        """Values that were widened to f32 under a shape, for the next product that wants them so."""

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

    def undo(self, mark: int) -> None:
        super().undo(mark)
        written, places = self._written(), self.tensors.places
        self._padded = {k: v for k, v in self._padded.items() if v in places and places[v].buffer in written}
        self.rows = {k: v for k, v in self.rows.items() if v in places and places[v].buffer in written}


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
