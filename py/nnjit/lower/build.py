"""Graph -> kernels: regions are lowered in order, each to steps over buffers.

The result (`Lowered`) is data for the memory planner and the emitters: steps with their spec, schedule and
operands, host calls, and which buffers hold the graph's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.epilogue import fewer
from nnjit.codegen.expr import UnsupportedExpr
from nnjit.codegen.schedule.split import Split
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.graph.ir import Graph, Node, Value
from nnjit.lower import ops  # noqa: F401  (fills the registry)
from nnjit.lower.backend import AnyTarget, Code, attention_forms, holds, other_split, split_sum, stores
from nnjit.lower.context import Context
from nnjit.lower.forms import ALGORITHM, FUSION, ORDER, PARTS, Choice, Forms
from nnjit.lower.joining import place_in_reader
from nnjit.lower.kernels import Kernels
from nnjit.lower.layout import Layout
from nnjit.lower.layouts import other_readers, preferred
from nnjit.lower.lowered import Chosen, Held, HostCall, Kernel, Lowered, Placing
from nnjit.lower.ops.attention import OP as ATTENTION
from nnjit.lower.regions import Region, fuse
from nnjit.lower.registry import ALGORITHMS, COMPOSITES, COMPUTE, VIEWS, Computation, Unsupported, kind
from nnjit.lower.tensors import Buffer
from nnjit.lower.waiting import NORMS, make

COSTLY = frozenset({
    "Erf", "Exp", "Tanh", "Sigmoid", "Softplus", "Gelu", "Mish", "Swish", "HardSwish", "Elu", "Selu", "Celu", "Log",
    "Pow", "Sin", "Cos", "QuickGelu", "Softsign", "Sqrt", "Div",
})  # fmt: skip
SAME_ORDER = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
"""What shows the same elements in the same order."""
LONG = 4
"""Nodes after an anchor from which its kernel may be crowded."""


class Build(Kernels):
    """One lowering in progress."""

    def __init__(
        self, graph: Graph, target: AnyTarget, chosen: Chosen | None = None, forms: Forms | None = None
    ) -> None:
        super().__init__(graph, target, chosen)
        self.graph = graph
        self.forms = forms or Forms()
        self.choices: dict[tuple[Node, str], Choice] = {}
        self.summed: dict[Node, str] = {}  # the spec that a node's question about parts is of
        self.weights = sum(v.const.nbytes for v in graph.constants() if v.const is not None)
        self.grown = 0  # bytes that weights kept in another form take more
        self.tiles: dict[Node, int] | None = None  # of convolutions by Winograd, once they are dealt out
        self.reasons: dict[Node, str] = {}
        self.given = list(graph.outputs)
        self.outputs = set(graph.outputs)
        self.reached: set[Node] = set()
        """Nodes of the regions so far, the one in work among them."""

    def form(
        self, node: Node, rule: str, options: Sequence[str], about: str = ALGORITHM, detail: str = ""
    ) -> str:
        """Which of `options` a node is lowered as; `rule`: the one to expect the most of. See `Forms.choose`."""
        backend = "webgpu" if isinstance(self.target, WgslTarget) else ""
        choice = self.choices[node, about] = self.forms.choose(node, rule, options, about, detail, backend)
        return choice.form

    def _split(self, spec: KernelSpec, free: bool) -> Split | None:
        rule = split_sum(spec, self.target) if free else None
        other, node = other_split(spec, self.target), self.anchor
        if other is None or node is None or node.once:
            return rule
        asked = self.summed.setdefault(node, spec.key)
        if asked != spec.key:  # a node of several products asks about the first one
            return rule
        form = self.form(node, "parts" if rule else "whole", ("whole", "parts"), PARTS, spec.key)
        return (rule or other) if form == "parts" else None

    def run(self, progress: Callable[[int, int], None] | None = None) -> Lowered:
        for done, total in self.parts():
            if progress:
                progress(done, total)
        return self.lowered()

    def lowered(self) -> Lowered:
        """What came of it, after the last part."""
        return Lowered(
            self.graph,
            self.steps,
            self.tensors,
            self.reasons,
            self.choices,
            self.given,
            self.forms.shares(),
            self.reused,
        )

    def parts(self) -> Iterator[tuple[int, int]]:
        """Lowers region by region, so that a caller may do other things in between; (done, of how many)."""
        for v in self.graph.inputs:
            if v.shape is not None and holds(self.target, v):
                self.buffer(v, Layout.row_major(v.shape))
        refused: set[Node] = set()
        regions = fuse(
            self.graph, lambda n: "host" if n in refused or not self._storable(n) else self._kind(n)
        )
        for i, r in enumerate(regions):
            self.reached.update(r.nodes, r.inlined)
            if self._fused(r):
                self._region(r)
            else:
                self._one_by_one(r)
            yield i + 1, len(regions)
        self.anchor = None
        self._made_all()
        self._outputs()

    def _unshared(self, spec: KernelSpec, places: Sequence[tuple[Buffer, int]]) -> set[Buffer]:
        """Those of feeds and outputs of the graph, and inputs that are read again."""
        ends = self.outputs.union(self.graph.inputs)

        def fixed(b: Buffer, role: str) -> bool:
            values = set(self.tensors.values.get(b, ()))
            if role != "in" or not values.isdisjoint(ends):
                return not values.isdisjoint(ends)
            # what lowering made for itself has no users: it is read by what comes next
            return not {n for v in values for n in v.users} <= self.reached

        return {b for (b, _), o in zip(places, spec.operands, strict=True) if fixed(b, o.role)}

    def _kind(self, n: Node) -> str:
        """`kind`; attention that is not one kernel is composed of several."""
        if n.op == ATTENTION and self.form(n, *attention_forms(n, self.target)) == "split":
            return "composite"
        return kind(n)

    def _storable(self, n: Node) -> bool:
        """Whether the target's memory holds all that a node reads and writes."""
        values = (v for v in (*n.inputs, *n.outputs) if v is not None and v.name and v.dtype in SIZES)
        return all(holds(self.target, v) for v in values)

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
            self.undo(mark)
            if r.kind == "computation" and r.anchor.op in COMPOSITES:
                self._apart(r)
            elif r.inlined and len(r.nodes) > 1:
                # what is computed inside may be what is too much for one kernel
                for n in reversed(r.inlined):
                    self._region(Region(n, [n], n.outputs[0], kind(n)))
                self._region(replace(r, inlined=[]))
            elif len(r.nodes) > 1 or r.inlined:
                # without the epilogue the anchor may do, and if not, only the anchor goes to the reference
                self._one_by_one(r)
            else:
                self._host(r.nodes, str(e))

    def _fused(self, r: Region) -> bool:
        """Whether a region is one kernel: it need not be where an epilogue is costly or long, or computed again."""
        if r.kind != "computation" or r.anchor.once:
            return True
        after = [n.op for n in r.nodes[1:]]
        if not r.inlined and len(after) < LONG and not COSTLY & set(after):
            return True
        detail = repr((after, [n.op for n in r.inlined]))
        return self.form(r.anchor, "fused", ("fused", "apart"), FUSION, detail) == "fused"

    def _one_by_one(self, r: Region) -> None:
        """Each node of a region as a kernel of its own."""
        for n in (*reversed(r.inlined), *r.nodes):
            live = next((v for v in n.outputs if v.name), n.outputs[0])
            self._region(Region(n, [n], n.outputs[r.out] if n is r.anchor else live, kind(n),
                                r.out if n is r.anchor else 0))  # fmt: skip

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
            if v is not None and v.name and v.dtype in SIZES and not holds(self.target, v):
                return f"{v.name} is larger than a buffer of this GPU"
        return f"no kernel for {n.op}"

    def _rows_follow(self, buffer: Buffer) -> bool:
        """Whether what sums parts into a buffer waits for a norm of its rows: on a GPU, where a step is dear."""
        if not isinstance(self.target, WgslTarget) or not self.target.merge:
            return False
        (v, *more) = self.tensors.values.get(buffer, [None])
        if v is None or more or v in self.outputs or not self.tensors.places[v].layout.dense:
            return False
        seen = [v, *(u.outputs[0] for u in v.users if u.op in SAME_ORDER)]
        readers = ((x, u) for x in seen for u in x.users)
        return any(u.op in NORMS and u.inputs[0] is x and self._kind(u) == "computation" for x, u in readers)

    def _made_all(self) -> None:
        """Sums that wait are made, because what comes is no kernel."""
        for waiting in list(self.sums.values()):
            if waiting.at < 0:
                make(self, waiting)

    def _host(self, nodes: list[Node], reason: str) -> None:
        if all(n in self.reasons for n in nodes):
            return  # each of a node's outputs is a region; the first that was refused gave them all
        self._made_all()
        inputs: dict[Value, None] = {}
        for n in nodes:
            for v in (*n.inputs, *n.captures.values()):
                if v is not None and v.name and v.const is None:
                    inputs[v] = None
                    self._dense(v)
        outputs = [v for n in nodes for v in n.outputs if v.name]
        call = HostCall(nodes, list(inputs), outputs, reason, all(n.once for n in nodes))
        for v in outputs:
            if v.shape is not None and holds(self.target, v):
                call.writes.append(self.buffer(v, Layout.row_major(v.shape), call.once))
        for v in inputs:
            if v in self.tensors.places:
                call.reads.append(self.tensors.places[v].buffer)
        self.steps.append(call)
        if not call.once and not self.whole:
            self.leave_nothing_out()
        if self.told is not None:
            self.told(call)
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
        c.value = fewer(ctx.inside[out]) if c.combine == "sum" else ctx.inside[out]
        once = all(n.once for n in r.nodes)
        layout = Layout.row_major(out.shape) if self._leaves(out) else preferred(r, c, self.tensors)
        if anchor.op == "Conv" and out not in self.outputs and other_readers(out):
            rule = "rows" if layout.dense else "channels"
            asked = self.form(anchor, rule, ("channels", "rows"), ORDER, repr([n.op for n in out.users]))
            orders = {"channels": Layout.channels_last, "rows": Layout.row_major}
            layout = layout if asked == rule else orders[asked](out.shape)
        joined = place_in_reader(self, out, layout, once)
        if joined is not None:
            buffer, layout = joined.buffer, joined.layout
            self.tensors.put(out, buffer, layout)
        else:
            buffer = self.buffer(out, layout, once)
        self.emit(ctx, c, out.dtype, buffer, layout, list(r.nodes), once, out)

    def _leaves(self, v: Value) -> bool:
        """Whether `v` is an output of the graph, or one under another shape, which row-major order saves a copy."""
        same = (u.outputs[0] for u in v.users if u.op in SAME_ORDER)
        return v in self.outputs or any(x in self.outputs for x in same)

    def _outputs(self) -> None:
        """Graph outputs get buffers of their own, in row-major order."""
        inputs = {self.tensors.places[v].buffer for v in self.graph.inputs if v in self.tensors.places}
        hosted = {v for s in self.steps if isinstance(s, HostCall) for v in (*s.inputs, *s.outputs)}
        used: set[Buffer] = set()
        for i, v in enumerate(self.graph.outputs):
            if v.shape is None or not holds(self.target, v):
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
            # `v` itself stays where its feed goes, and where a host call finds it
            if buffer in inputs or v in hosted:
                v = self.graph.outputs[i] = Value(f"{v.name}/out", v.dtype, v.shape)
            self.tensors.put(v, copy, dense)
            used.add(copy)


def lower(
    graph: Graph,
    target: AnyTarget,
    progress: Callable[[int, int], None] | None = None,
    chosen: Chosen | None = None,
    forms: Forms | None = None,
    made: Callable[[Code], None] | None = None,
    held: Held | None = None,
    placing: Placing | None = None,
    told: Callable[[Kernel | HostCall], None] | None = None,
) -> Lowered:
    """Lowers a bound graph (concrete shapes) for a target; nodes without kernels become host calls.

    chosen: gives schedules that replace the rules' own, where it knows one. forms: the same for nodes that can be
    lowered in several ways. made: is told of each kernel's code as soon as there is some. held: tells panels of
    constants that are in memory. placing: says how a GPU kernel's operands will be bound. told: is told of each
    step, some of which may be taken back."""
    build = Build(graph, target, chosen, forms)
    build.made, build.held, build.placing, build.told = made, held, placing, told
    return build.run(progress)
