"""ConvTranspose: a convolution for each phase of the output, so that nothing is multiplied by inserted zeros.

Output p = s q + r along a dimension gets x[(p + pad - k d) / s] w[k] for those k that make it whole: from a
phase r on, an arithmetic progression of k, read backwards over x.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as pairs
from math import gcd
from typing import TYPE_CHECKING

from nnjit.codegen.expr import Expr, Index, acc, cast, const, op
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import compute, layout_of, output, part, shape_of
from nnjit.lower.ops.linear import SPATIAL, accumulate, product
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Computation, Unsupported, composite, computation

if TYPE_CHECKING:
    from nnjit.lower.build import Build


@dataclass(frozen=True)
class Geometry:
    """One spatial dimension."""

    extent: int
    out: int
    kernel: int
    stride: int
    dilation: int
    pad: int  # before the first element


@dataclass(frozen=True)
class Phase:
    """`count` outputs from `start` on, a stride apart; tap k = first + step t reads x[q + shift - back t]."""

    start: int
    count: int
    taps: int
    first: int
    step: int
    shift: int
    back: int


def geometry(node: Node) -> list[Geometry]:
    """The dimensions with pads resolved from auto_pad or output_shape."""
    x, w, y = (shape_of(v) for v in (node.inputs[0], node.inputs[1], node.outputs[0]))
    n = len(x) - 2
    if not 1 <= n <= 3:
        raise Unsupported(f"ConvTranspose with {n} spatial dimensions")
    strides = node.attrs.get("strides") or [1] * n
    dilations = node.attrs.get("dilations") or [1] * n
    pads = node.attrs.get("pads") or [0] * (2 * n)
    extra = node.attrs.get("output_padding") or [0] * n
    auto = text(node, "auto_pad", "NOTSET")
    out = []
    for d in range(n):
        pad = 0 if auto == "VALID" else pads[d]
        if auto.startswith("SAME") or node.attrs.get("output_shape"):
            reach = (w[2 + d] - 1) * dilations[d] + 1
            total = max(0, strides[d] * (x[2 + d] - 1) + extra[d] + reach - y[2 + d])
            pad = total // 2 if auto == "SAME_UPPER" else total - total // 2
        out.append(Geometry(x[2 + d], y[2 + d], w[2 + d], strides[d], dilations[d], pad))
    return out


def phases(g: Geometry) -> list[Phase]:
    """The phases of one dimension that have outputs."""
    out = []
    common = gcd(g.stride, g.dilation)
    step = g.stride // common
    for r in range(min(g.stride, g.out)):
        reach = r + g.pad
        first = next((k for k in range(step) if (reach - k * g.dilation) % g.stride == 0), g.kernel)
        taps = max(0, -(-(g.kernel - first) // step))
        shift = (reach - first * g.dilation) // g.stride if taps else 0
        out.append(Phase(r, -(-(g.out - r) // g.stride), taps, first, step, shift, g.dilation // common))
    return out


def _tiles(node: Node) -> bool:
    """Each input element makes a block of outputs of its own: kernel = stride, nothing cut off."""
    if node.inputs[0] is None or not 3 <= len(shape_of(node.inputs[0])) <= 5:
        return False
    return all(
        g.kernel == g.stride and g.dilation == 1 and g.pad == 0 and g.out == g.extent * g.stride
        for g in geometry(node)
    )


@computation("ConvTranspose", when=_tiles)
def blocks(ctx: Context, node: Node, out: int) -> Computation:
    """y[n, o, s q + r] = sum over i of x[n, i, q] w[i, o, r]."""
    axes, per_in, per_out = _shared(node)
    dims = geometry(node)
    names = SPATIAL[3 - len(dims) :]
    axes += [Axis(f"q{a}", g.extent) for a, g in zip(names, dims, strict=True)]
    axes += [Axis(f"r{a}", g.stride) for a, g in zip(names, dims, strict=True)]
    channel = Index(0, {"g": per_in, "i": 1})
    left = ctx.read(node.inputs[0], [Index.of("b"), channel, *(Index.of(f"q{a}") for a in names)])
    right = ctx.read(node.inputs[1], [channel, Index.of("o"), *(Index.of(f"r{a}") for a in names)])
    idx = [Index.of("b"), Index(0, {"g": per_out, "o": 1})]
    idx += [Index(0, {f"q{a}": g.stride, f"r{a}": 1}) for a, g in zip(names, dims, strict=True)]
    return Computation(
        axes, idx, _result(ctx, node, per_out), reduce=[Axis("i", per_in)], combine="sum",
        body=product(left, right), layout=Layout.channels_last(shape_of(node.outputs[0])), name="deconv",
    )  # fmt: skip


@composite("ConvTranspose")
def by_phase(build: Build, node: Node) -> None:
    """A kernel for each combination of phases, over one copy of x with the border that they reach into."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    dims = [(g, phases(g)) for g in geometry(node)]
    before = [max(0, *(p.back * (p.taps - 1) - p.shift for p in ps if p.taps), 0) for _, ps in dims]
    after = [max(0, *(p.count + p.shift - g.extent for p in ps if p.taps), 0) for g, ps in dims]
    source = build.padded(x, before, after) if any(before) or any(after) else x
    y = output(build, node, 0, None if y in build.outputs else Layout.channels_last(shape_of(y)))
    for combination in pairs(*(ps for _, ps in dims)):
        layout = layout_of(build, y)
        for d, (p, (g, _)) in enumerate(zip(combination, dims, strict=True)):
            layout = layout.sliced(2 + d, p.start, g.stride, p.count)
        _phase(build, node, source, part(build, y, layout), combination, before)


def _phase(
    build: Build, node: Node, x: Value, y: Value, chosen: tuple[Phase, ...], before: list[int]
) -> None:
    def rule(ctx: Context) -> Computation:
        axes, per_in, per_out = _shared(node)
        names = SPATIAL[3 - len(chosen) :]
        axes += [Axis(f"q{a}", p.count) for a, p in zip(names, chosen, strict=True)]
        idx = [Index.of("b"), Index(0, {"g": per_out, "o": 1}), *(Index.of(f"q{a}") for a in names)]
        value = _result(ctx, node, per_out)
        if any(p.taps == 0 for p in chosen):
            empty = _without_terms(value)
            return Computation(axes, idx, empty, name="deconv")
        reduce = [Axis(f"t{a}", p.taps) for a, p in zip(names, chosen, strict=True)] + [Axis("i", per_in)]
        channel = Index(0, {"g": per_in, "i": 1})
        place = [
            Index(p.shift + b, {f"q{a}": 1, f"t{a}": -p.back})
            for a, p, b in zip(names, chosen, before, strict=True)
        ]
        weight = [Index(p.first, {f"t{a}": p.step}) for a, p in zip(names, chosen, strict=True)]
        left = ctx.read(x, [Index.of("b"), channel, *place])
        right = ctx.read(node.inputs[1], [channel, Index.of("o"), *weight])
        return Computation(
            axes, idx, value, reduce=reduce, combine="sum", body=product(left, right), name="deconv"
        )

    compute(build, node, y, rule)


def _shared(node: Node) -> tuple[list[Axis], int, int]:
    """Batch, group and output channel axes; input and output channels of one group."""
    w, groups = shape_of(node.inputs[1]), node.attrs.get("group", 1)
    batch = shape_of(node.inputs[0])[0]
    return [Axis("b", batch), Axis("g", groups), Axis("o", w[1])], w[0] // groups, w[1]


def _result(ctx: Context, node: Node, per_out: int) -> Expr:
    x = node.inputs[0]
    assert x is not None
    value: Expr = acc(accumulate(x.dtype))
    if node.input(2) is not None:
        bias = ctx.read(node.inputs[2], [Index(0, {"g": per_out, "o": 1})])
        value = op("add", value, cast(bias, value.dtype))
    return cast(value, x.dtype)


def _without_terms(value: Expr) -> Expr:
    """`value` where the sum has no terms."""
    return rewrite(value, {}, lambda e: const(0, e.dtype) if e.op == "acc" else None)
