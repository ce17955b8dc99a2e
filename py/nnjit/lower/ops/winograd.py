"""Winograd convolution: a convolution as transforms around one matrix product for each frequency.

    U[f, i, o] = the weights' transform, at load        V[f, tile, i] = B' x B of each tile of inputs
    P[f, tile, o] = sum over i of V[f, tile, i] U[f, i, o]      y = A' P A, bias and epilogue, for each tile

A tile is m outputs along each dimension; a product has (m + r - 1)^2 frequencies where the direct sum has
m^2 r^2 terms. Tiles that reach past the output get kernels of their own that store what is inside. A dilation of
d is d by d plain convolutions, one for each phase of the output: `p` in the loops. With a stride of 2 the window is
four smaller ones (`cooktoom.parts`), whose products the last transform adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product as combinations
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from nnjit.codegen.expr import Index, acc, const, op
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.spec import Axis, Stage
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.layouts import preferred
from nnjit.lower.lowered import HostCall, Kernel
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.linear import SPATIAL, Window
from nnjit.lower.ops.winograd_choice import outputs, tile_of
from nnjit.lower.ops.winograd_tiles import (
    Band,
    Share,
    Stages,
    Tiling,
    bands,
    inside,
    shares,
    spaced,
    tiles_of,
)
from nnjit.lower.regions import Region
from nnjit.lower.registry import Computation, algorithm

if TYPE_CHECKING:
    from nnjit.lower.build import Build

Step: TypeAlias = Kernel | HostCall


@algorithm("Conv")
def winograd(build: Build, region: Region) -> bool:
    """Lowers a convolution and its epilogue where that is possible and worth it; False where it is not."""
    node = region.anchor
    m = tile_of(build, node)
    if not m:
        return False
    x, w, y = shape_of(node.inputs[0]), shape_of(node.inputs[1]), shape_of(node.outputs[0])
    win = Window(node, x[2:], w[2:], y[2:])
    dims = []
    for d, r in enumerate(w[2:]):
        phases = win.dilations[d] if r > 1 else 1
        tile = outputs(m, r)
        dims.append(Tiling(x[2 + d], y[2 + d] // phases, win.begin[d], tile, r, phases, win.strides[d]))
    work = _Work(build, region, dims, [(s, _weights(build, node, dims, s)) for s in shares(dims)])
    every = bands(x[0], dims, x[1], y[1])
    done: list[list[Step]] = []
    for n, band in enumerate(every):
        start = len(build.steps)
        alike = n > 2 and len({(b.image, b.rows) for b in (*every[1:3], band)}) == 1 and inside(band, dims[0])
        moved = _moved(done[1], done[2], n - 1) if alike else None
        if moved is None:
            work.inputs(band)
            work.products(band)
            work.outputs(band)
        else:
            build.steps += moved
        done.append(build.steps[start:])
    return True


def _moved(first: Sequence[Step], second: Sequence[Step], n: int) -> list[Step] | None:
    """The steps of a band n places after `first`, if these and the next band's differ in their places only: rows lie
    equally far apart, so every band is as far on as the second from the first."""
    out: list[Step] = []
    for a, b in zip(first, second, strict=False):
        if isinstance(a, HostCall) or isinstance(b, HostCall) or a.spec != b.spec or a.schedule != b.schedule:
            return None
        if any(p[0] is not q[0] for p, q in zip(a.places, b.places, strict=True)):
            return None
        places = [(p[0], p[1] + n * (q[1] - p[1])) for p, q in zip(a.places, b.places, strict=True)]
        out.append(replace(b, places=places, emit_ms=0.0))
    return out if len(first) == len(second) else None


def _weights(build: Build, node: Node, dims: Sequence[Tiling], share: Share) -> Value:
    """U of the frequencies that have products of their own, made at load."""
    w = node.inputs[1]
    assert w is not None
    outs, ins = shape_of(w)[:2]
    shape = (prod(len(k) for k in share.kept), ins, outs)
    made = Value(f"{w.name}/winograd", w.dtype, shape)
    layout = Layout.row_major(shape)
    buffer = build.buffer(made, layout, once=True)
    ctx = Context(build)
    o, i = Index.of("o"), Index.of("i")
    taps = {
        at: ctx.read(w, [o, i, *(Index(k) for k in at)]) for at in combinations(*(range(d.r) for d in dims))
    }
    stages = Stages()
    rows = [d.matrices.taps[k.start : k.stop] for d, k in zip(dims, share.kept, strict=True)]
    for f, v in enumerate(stages.transformed(rows, taps).values()):
        stages.store(v, layout.index([Index(f), i, o]))
    axes = [Axis("i", ins), Axis("o", outs)]
    build.emit_stages(ctx, f"{w.dtype}_winograd_weights", axes, stages.all, buffer, layout, [node], True)
    return made


@dataclass
class _Work:
    """The steps of one convolution; every band uses the same two buffers."""

    build: Build
    region: Region
    dims: Sequence[Tiling]
    weights: list[tuple[Share, Value]]
    source: Value | None = None
    tiles: dict[int, Value] = field(default_factory=dict)
    product: dict[int, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = self.region.anchor
        self.names = SPATIAL[3 - len(self.dims) :]
        self.source = x = self.node.inputs[0]
        assert x is not None
        if self.build.tensors.place(x)[1].strides[1] != 1 and shape_of(x)[1] >= LANES:
            # a transform reads an element twice: channels come to lie side by side first
            self.source = self.build.padded(x, [0] * len(self.dims), [0] * len(self.dims))
        out = self.region.output
        asked = Computation(
            [], [], const(0, out.dtype), layout=Layout.channels_last(shape_of(self.node.outputs[0]))
        )
        leaves = out in self.build.outputs
        self.layout = (
            Layout.row_major(shape_of(out)) if leaves else preferred(self.region, asked, self.build.tensors)
        )
        self.buffer = self.build.buffer(out, self.layout, self.node.once)

    def inputs(self, band: Band) -> None:
        """V of a band. Reads outside of the input are zeros."""
        x = self.source
        assert x is not None
        ins = shape_of(x)[1]
        dims, names, b, c = self.dims, self.names, Index(band.image, {"b": 1}), Index.of("c")
        made = self._matrices(self.tiles, "tiles", band, ins)
        ctx = Context(self.build)
        counts = [band.rows, *(d.tiles for d in dims[1:])]
        firsts = [band.first, *(0 for _ in dims[1:])]
        patch = {}
        for at in combinations(*(range(d.reach) for d in dims)):
            place = [d.source(a, first, e) for e, a, d, first in zip(at, names, dims, firsts, strict=True)]
            bounds = [
                (p, d.extent)
                for p, d, first, count in zip(place, dims, firsts, counts, strict=True)
                if d.begin(first) < 0 or d.end(first, count) > d.extent
            ]
            at_x = [b, c, *place]
            patch[at] = ctx.read_padded(x, at_x, bounds, const(0, x.dtype)) if bounds else ctx.read(x, at_x)
        tile = self._tile(counts)
        layout = self.build.tensors.places[made].layout
        stages = Stages()
        for f, v in enumerate(stages.transformed([d.matrices.inputs for d in dims], patch).values()):
            stages.store(v, layout.index([Index(f), tile, c]))
        axes = [*self._outer(band), *(Axis(f"t{a}", n) for a, n in zip(names, counts, strict=True))]
        self._emit(ctx, [*axes, Axis("c", ins)], stages.all, made, "winograd_inputs", [self.node])

    def products(self, band: Band) -> None:
        """P of a band: batches of matrix products."""
        ins, outs = (shape_of(self.weights[0][1])[d] for d in (1, 2))
        tiles = self.tiles[tiles_of(band, self.dims)]
        made = self._matrices(self.product, "products", band, outs)
        layout = self.build.tensors.places[made].layout
        t, i, o = (Index.of(a) for a in "tio")
        for share, weights in self.weights:
            outer, f, kept = self._frequencies(share)
            ctx = Context(self.build)
            value = op("mul", ctx.read(tiles, [f, t, i]), ctx.read(weights, [kept, i, o]))
            stage = Stage((), (Axis("i", ins),), "sum", value, acc(value.dtype), -1, layout.index([f, t, o]))
            axes = [*outer, Axis("t", shape_of(made)[1]), Axis("o", outs)]
            self._emit(ctx, axes, [stage], made, "winograd_product", [self.node])

    def _frequencies(self, share: Share) -> tuple[list[Axis], Index, Index]:
        """Axes over the frequencies of a share, their number among all and among those whose weights are kept."""
        if len(self.weights) == 1:
            return [Axis("f", prod(d.reach for d in self.dims))], Index.of("f"), Index.of("f")
        axes: list[Axis] = []
        among, kept = Index(), Index()
        for a, d, p, own in zip(self.names, self.dims, share.parts, share.kept, strict=True):
            here = Index()
            if p.count > 1:
                axes.append(Axis(f"f{a}", p.count))
                here = Index.of(f"f{a}")
            among = among * d.reach + here + p.first
            kept = kept * len(own) + (Index() if p.alike else here)
        return axes, among, kept

    def outputs(self, band: Band) -> None:
        """y and what is fused behind it: one kernel for whole tiles, one for each border that cuts tiles."""
        spans = []
        for n, d in enumerate(self.dims):
            first, count = (band.first, band.rows) if n == 0 else (0, d.tiles)
            whole = max(0, min(first + count, d.out // d.m) - first)
            rest = d.out % d.m if first + count > d.out // d.m else 0
            spans.append(
                [(at, k, e) for at, k, e in ((first, whole, d.m), (first + whole, 1, rest)) if k and e]
            )
        for chosen in combinations(*spans):
            self._outputs(band, chosen)

    def _outputs(self, band: Band, chosen: Sequence[tuple[int, int, int]]) -> None:
        """The tiles from first on, `count` of them along each dimension, of which `kept` outputs are inside."""
        node, region, dims, names = self.node, self.region, self.dims, self.names
        outs = shape_of(node.outputs[0])[1]
        ctx = Context(self.build)
        products = self.product[tiles_of(band, dims)]
        o, b = Index.of("o"), Index(band.image, {"b": 1})
        counts = [band.rows, *(d.tiles for d in dims[1:])]
        tile = self._tile(
            counts, [first - (band.first if n == 0 else 0) for n, (first, _, _) in enumerate(chosen)]
        )
        found = {
            at: ctx.read(products, [Index(f), tile, o])
            for f, at in enumerate(combinations(*(range(d.reach) for d in dims)))
        }
        stages = Stages()
        values = stages.transformed([d.matrices.outputs for d in dims], found)
        bias = node.input(2)
        for at in combinations(*(range(kept) for _, _, kept in chosen)):
            value = stages.share(values[at] if bias is None else op("add", values[at], ctx.read(bias, [o])))
            idx = [b, o]
            idx += [
                d.place(a, first, e) for e, a, d, (first, _, _) in zip(at, names, dims, chosen, strict=True)
            ]
            ctx.inside = {node.outputs[0]: value}
            for n in region.nodes[1:]:
                ctx.inside[n.outputs[0]] = ctx.element(n, idx)
            stages.store(ctx.inside[region.output], self.layout.index(idx))
        axes = [
            *self._outer(band),
            *(Axis(f"t{a}", n) for a, (_, n, _) in zip(names, chosen, strict=True)),
        ]
        name = "winograd_" + "_".join(n.op.lower() for n in region.nodes)
        self._emit(ctx, [*axes, Axis("o", outs)], stages.all, region.output, name, list(region.nodes))

    def _matrices(self, made: dict[int, Value], stem: str, band: Band, columns: int) -> Value:
        """The buffer that every band of this many tiles uses."""
        tiles = tiles_of(band, self.dims)
        if tiles not in made:
            shape = (prod(d.reach for d in self.dims), tiles, columns)
            value = Value(f"{self.node.outputs[0].name}/{stem}", self.weights[0][1].dtype, shape)
            self.build.buffer(value, spaced(shape), self.node.once)
            made[tiles] = value
        return made[tiles]

    def _tile(self, counts: Sequence[int], firsts: Sequence[int] | None = None) -> Index:
        """The number of a tile in its band: image, phases, then the dimensions, the last one fastest."""
        out, stride = Index(), 1
        for a, count, first in reversed(
            list(zip(self.names, counts, firsts or [0] * len(counts), strict=True))
        ):
            out = out + Index(first * stride, {f"t{a}": stride})
            stride *= count
        for a, d in zip(self.names, self.dims, strict=True):
            if d.phases > 1:
                out = out + Index(0, {f"p{a}": stride})
                stride *= d.phases
        return out + Index(0, {"b": stride})

    def _outer(self, band: Band) -> list[Axis]:
        """Images, and phases where there are several."""
        phases = [Axis(f"p{a}", d.phases) for a, d in zip(self.names, self.dims, strict=True) if d.phases > 1]
        return [Axis("b", band.images), *phases]

    def _emit(
        self,
        ctx: Context,
        axes: Sequence[Axis],
        stages: Sequence[Stage],
        into: Value,
        name: str,
        nodes: list[Node],
    ) -> None:
        buffer, layout = self.build.tensors.place(into)
        self.build.emit_stages(
            ctx, f"{into.dtype}_{name}", axes, stages, buffer, layout, nodes, self.node.once
        )
