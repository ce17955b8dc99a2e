"""Winograd convolution: a stride-1 convolution as transforms around one matrix product for each frequency.

    U[f, i, o] = the weights' transform, at load        V[f, tile, i] = B' x B of each tile of inputs
    P[f, tile, o] = sum over i of V[f, tile, i] U[f, i, o]      y = A' P A, bias and epilogue, for each tile

A tile is m outputs along each dimension; a product has (m + r - 1)^2 frequencies where the direct sum has
m^2 r^2 terms. Tiles that reach past the output get kernels of their own that store what is inside. A dilation of
d is d by d plain convolutions, one for each phase of the output: `p` in the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product as combinations
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from nnjit.codegen.expr import Atom, Expr, Index, acc, const, local, op
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.layouts import preferred
from nnjit.lower.lowered import HostCall, Kernel
from nnjit.lower.ops.compose import shape_of
from nnjit.lower.ops.cooktoom import Matrices, Matrix, applied, matrices
from nnjit.lower.ops.linear import SPATIAL, Window
from nnjit.lower.regions import Region
from nnjit.lower.registry import Computation, algorithm

if TYPE_CHECKING:
    from nnjit.lower.build import Build

Step: TypeAlias = Kernel | HostCall


FLOPS, BYTES, MOVED = 61.0, 10.0, 0.2
"""Of one core, measured in Chromium: floating-point operations a nanosecond in a large product, bytes a nanosecond
from memory, and nanoseconds for each element that a transform writes or reads. Only their ratios matter."""
TILES = (4, 2)
WHOLE, BAND, MIN_TILES = 8 << 20, 2 << 20, 36
"""Bytes of transforms that are computed whole, bytes of a band of larger ones, and tiles that a band has at least
(rows of its matrix products)."""
LAYER_SHARE, MODEL_SHARE, SMALL = 0.03, 0.24, 4 << 20
"""What transformed weights may take more than the weights: a layer, all layers, as shares of all weights of the
model; and bytes that are no matter, for small models."""
PAGE = 1024
OFF_PAGE = 32
"""Elements of f32 in 4 KiB, and in two cache lines."""


@dataclass(frozen=True)
class Tiling:
    """One spatial dimension: tiles of m outputs under a window of r taps over `extent` inputs, for each of `phases`
    phases with `out` outputs each."""

    extent: int
    out: int
    pad: int
    m: int
    r: int
    phases: int = 1

    @property
    def tiles(self) -> int:
        return -(-self.out // self.m)

    def place(self, name: str, at: int) -> Index:
        """Element `at` of a tile, counted from the first tile's start."""
        terms: dict[Atom, int] = {f"t{name}": self.m * self.phases}
        return Index(at * self.phases, terms | ({f"p{name}": 1} if self.phases > 1 else {}))

    def end(self, first: int, count: int) -> int:
        """The place after the last input that tiles first, first + 1 ... read."""
        return ((first + count - 1) * self.m + self.reach) * self.phases - self.pad

    @property
    def reach(self) -> int:
        """Inputs of a tile, and frequencies along the dimension."""
        return self.m + self.r - 1

    @property
    def matrices(self) -> Matrices:
        return matrices(self.m, self.r)


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
        dims.append(Tiling(x[2 + d], y[2 + d] // phases, win.begin[d], outputs(m, r), r, phases))
    work = _Work(build, region, dims, _weights(build, node, dims))
    every = bands(x[0], dims, x[1], y[1])
    done: list[list[Step]] = []
    for n, band in enumerate(every):
        start = len(build.steps)
        alike = (
            n > 2 and len({(b.image, b.rows) for b in (*every[1:3], band)}) == 1 and _inside(band, dims[0])
        )
        moved = _moved(done[1], done[2], n - 1) if alike else None
        if moved is None:
            work.inputs(band)
            work.products(band)
            work.outputs(band)
        else:
            build.steps += moved
        done.append(build.steps[start:])
    return True


def _inside(band: Band, d: Tiling) -> bool:
    """Whether a band ends before the border of the input and the last outputs."""
    return (band.first + band.rows) * d.m <= d.out and d.end(band.first, band.rows) <= d.extent


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


@dataclass(frozen=True)
class Band:
    """What is computed at a time: images b, b + 1 ... and rows of tiles along the first dimension."""

    image: int
    images: int
    first: int
    rows: int


def bands(batch: int, dims: Sequence[Tiling], ins: int, outs: int) -> list[Band]:
    """All at once if the transforms are small; else parts whose transforms stay in cache between the steps."""
    across = prod(d.tiles for d in dims[1:]) * prod(d.phases for d in dims)
    row = 4 * prod(d.reach for d in dims) * across * (ins + outs)
    rows = dims[0].tiles
    if batch * rows * row <= WHOLE:
        return [Band(0, batch, 0, rows)]
    size = max(1, BAND // row, -(-MIN_TILES // across))
    parts = -(-rows // size)
    size = -(-rows // parts)
    return [
        Band(image, 1, first, min(size, rows - first))
        for image in range(batch)
        for first in range(0, rows, size)
    ]


def tile_of(build: Build, node: Node) -> int:
    """Outputs of a tile along each dimension; 0 for a convolution that is lowered directly."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None
    if x.dtype != "f32" or node.attrs.get("group", 1) != 1:
        return 0
    kernel, y = shape_of(w)[2:], shape_of(node.outputs[0])
    phases = [d if k > 1 else 1 for d, k in zip(node.attrs.get("dilations") or [1] * 3, kernel, strict=False)]
    plain = all(s == 1 for s in node.attrs.get("strides") or [1])
    plain = plain and not any(e % d for e, d in zip(y[2:], phases, strict=False))
    if not 1 <= len(kernel) <= 3 or not plain or not set(kernel) <= {1, 3, 5} or {1} == set(kernel) or 0 in y:
        return 0
    if not build.tensors.place(w)[0].constant:
        return 0
    direct = direct_time(y, shape_of(w))
    times = {m: winograd_time(y, shape_of(w), m, phases) for m in TILES}
    # a larger tile has more weights and more rounding: it must be clearly faster
    order = TILES if times[TILES[0]] < 0.9 * times[TILES[1]] else TILES[1:]
    rule = 0
    if isinstance(build.target, Target):
        fast = (m for m in order if times[m] <= 0.9 * direct and _affordable(build, growth(shape_of(w), m)))
        rule = next(fast, 0)
    asked_for = build.forms.convolution == "winograd"
    possible = asked_for or (
        isinstance(build.target, Target) and _affordable(build, growth(shape_of(w), order[0]))
    )
    options = ("direct", "winograd") if rule or possible else ("direct",)
    m = order[0] if asked_for else rule or order[0]
    if build.form(node, "winograd" if rule else "direct", options) == "direct":
        return 0
    if not asked_for:
        build.grown += growth(shape_of(w), m)
    return m


def outputs(m: int, taps: int) -> int:
    """Outputs of a tile under so many taps: m under three; under five as many as make six frequencies."""
    return {1: 1, 3: m, 5: 2}[taps]


def growth(w: Sequence[int], m: int) -> int:
    """Bytes that the transformed weights of tiles of m outputs take more than the weights."""
    return 4 * prod(w[:2]) * (prod(outputs(m, k) + k - 1 for k in w[2:]) - prod(w[2:]))


def _affordable(build: Build, more: int) -> bool:
    """Few layers of a model have most of its weights, and gain least by a transform: they stay as they are."""
    return (
        more <= max(LAYER_SHARE * build.weights, SMALL / 2)
        and build.grown + more <= MODEL_SHARE * build.weights + SMALL
    )


def direct_time(y: Sequence[int], w: Sequence[int]) -> float:
    """Modelled nanoseconds of a convolution as one sum of products."""
    rows = y[0] * prod(y[2:])
    return _product_time(rows, prod(w[1:]), w[0])


def winograd_time(y: Sequence[int], w: Sequence[int], m: int, phases: Sequence[int] = (1, 1, 1)) -> float:
    """Modelled nanoseconds with tiles of m outputs."""
    reach = prod(outputs(m, k) + k - 1 for k in w[2:])
    tiles = y[0]
    for e, k, p in zip(y[2:], w[2:], phases, strict=False):
        tiles *= p * -(-e // p // outputs(m, k))
    return reach * _product_time(tiles, w[1], w[0]) + MOVED * reach * tiles * (w[0] + w[1])


def _product_time(rows: int, inner: int, columns: int) -> float:
    """Of one matrix product: whole tiles of four to six rows by four columns, some work around each sum, and the
    weights once from memory."""
    tile = min(-(-rows // n) * (n + 0.5) for n in (4, 5, 6))
    return 2 * tile * (inner + 4) * -(-columns // 4) * 4 / FLOPS + 4 * inner * columns / BYTES


def _frequencies(dims: Sequence[Tiling]) -> int:
    return prod(d.reach for d in dims)


Block = dict[tuple[int, ...], Expr]
"""Values by their place along each dimension."""


class Stages:
    """The stages of a kernel in the making: locals that later ones read, then what is stored."""

    def __init__(self) -> None:
        self.all: list[Stage] = []

    def share(self, e: Expr) -> Expr:
        if e.op in ("const", "load", "local"):
            return e
        name = f"v{len(self.all)}"
        self.all.append(Stage((), (), "", None, e, keep=name))
        return local(name, e.dtype)

    def store(self, e: Expr, index: Index) -> None:
        self.all.append(Stage((), (), "", None, e, -1, index))

    def transformed(self, matrices: Sequence[Matrix], values: Block) -> Block:
        """A matrix along each dimension of a block."""
        for d, matrix in enumerate(matrices):
            lines: dict[tuple[int, ...], dict[int, Expr]] = {}
            for at, v in values.items():
                lines.setdefault((*at[:d], -1, *at[d + 1 :]), {})[at[d]] = v
            values = {}
            for line, by_place in lines.items():
                done = applied(matrix, [by_place[i] for i in range(len(by_place))], self.share)
                for i, v in enumerate(done):
                    values[(*line[:d], i, *line[d + 1 :])] = v if d == len(matrices) - 1 else self.share(v)
        return dict(sorted(values.items()))


def spaced(shape: tuple[int, int, int]) -> Layout:
    """Row-major matrices a few cache lines off a multiple of 4 KiB apart. A transform touches the same element of
    all of them: at equal places in their pages they would share one set of the first cache."""
    _, rows, columns = shape
    apart = -(-rows * columns // PAGE) * PAGE + OFF_PAGE
    return Layout(shape, (apart, columns, 1))


def _weights(build: Build, node: Node, dims: Sequence[Tiling]) -> Value:
    """U, made at load."""
    w = node.inputs[1]
    assert w is not None
    outs, ins = shape_of(w)[:2]
    shape = (_frequencies(dims), ins, outs)
    made = Value(f"{w.name}/winograd", w.dtype, shape)
    layout = Layout.row_major(shape)
    buffer = build.buffer(made, layout, once=True)
    ctx = Context(build)
    o, i = Index.of("o"), Index.of("i")
    taps = {
        at: ctx.read(w, [o, i, *(Index(k) for k in at)]) for at in combinations(*(range(d.r) for d in dims))
    }
    stages = Stages()
    for f, v in enumerate(stages.transformed([d.matrices.taps for d in dims], taps).values()):
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
    weights: Value
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
            place = [
                d.place(a, first * d.m + e) + -d.pad
                for e, a, d, first in zip(at, names, dims, firsts, strict=True)
            ]
            bounds = [
                (p, d.extent)
                for p, d, first, count in zip(place, dims, firsts, counts, strict=True)
                if first * d.m * d.phases < d.pad or d.end(first, count) > d.extent
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
        """P of a band: a batch of matrix products."""
        frequencies, ins, outs = shape_of(self.weights)
        tiles = self.tiles[_tiles(band, self.dims)]
        made = self._matrices(self.product, "products", band, outs)
        ctx = Context(self.build)
        f, t, i, o = (Index.of(a) for a in "ftio")
        value = op("mul", ctx.read(tiles, [f, t, i]), ctx.read(self.weights, [f, i, o]))
        layout = self.build.tensors.places[made].layout
        stage = Stage((), (Axis("i", ins),), "sum", value, acc(value.dtype), -1, layout.index([f, t, o]))
        axes = [Axis("f", frequencies), Axis("t", shape_of(made)[1]), Axis("o", outs)]
        self._emit(ctx, axes, [stage], made, "winograd_product", [self.node])

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
        products = self.product[_tiles(band, dims)]
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
                d.place(a, first * d.m + e)
                for e, a, d, (first, _, _) in zip(at, names, dims, chosen, strict=True)
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
        tiles = _tiles(band, self.dims)
        if tiles not in made:
            shape = (prod(d.reach for d in self.dims), tiles, columns)
            value = Value(f"{self.node.outputs[0].name}/{stem}", self.weights.dtype, shape)
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


def _tiles(band: Band, dims: Sequence[Tiling]) -> int:
    return band.images * band.rows * prod(d.tiles for d in dims[1:]) * prod(d.phases for d in dims)
