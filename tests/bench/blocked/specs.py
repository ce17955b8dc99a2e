"""A layer's kernel under any order of channels: last, or in blocks of B beside each other (NCHWc).

Channel c of place (y, x) lies at `(c // B) * H * W * B + (y * W + x) * B + c % B`; with B = C that is channels last.
The compiler needs nothing new for it: a blocked tensor is one more pair of strides. Inputs have their border already.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from nnjit.codegen.expr import Expr, Index, acc, const, load, op
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from tests.bench.operators.layers import Layer

BLOCKS = (4, 8, 16, 24)
POOLS = (
    Layer(64, 112, 112, 64, (3, 3), 2, groups=0, pads=(1, 1, 1, 1)),
    Layer(96, 56, 56, 96, (2, 2), 2, groups=0),
)
"""Maxima over a window: `groups` 0."""


def kind_of(layer: Layer) -> str:
    if layer.groups == 0:
        return "pools"
    if layer.groups == layer.channels > 1:
        return "depthwise"
    return "1x1" if layer.window == (1, 1) else "windows"


def block_of(channels: int, block: int) -> int:
    """The block that a tensor of so many channels gets where others have `block`: the largest that divides it, else
    all of them side by side."""
    return next((b for b in (24, 16, 8, 4) if b <= block and channels % b == 0), channels)


def extents(layer: Layer) -> tuple[int, int, int, int]:
    """Height and width of the bordered input and of the output."""
    top, left, bottom, right = layer.pads
    h, w = layer.height + top + bottom, layer.width + left + right
    reach = [(k - 1) * layer.dilation + 1 for k in layer.window]
    return h, w, (h - reach[0]) // layer.stride + 1, (w - reach[1]) // layer.stride + 1


def order(channels: int, height: int, width: int, block: int) -> tuple[int, ...]:
    """Strides of (block, y, x, channel in block)."""
    return (height * width * block, width * block, block, 1)


def layer_spec(layer: Layer, block: int) -> KernelSpec:
    """Sum or maximum, bias and Relu of a layer with its channels in blocks of `block`; 0: channels last."""
    kind = kind_of(layer)
    inner = block_of(layer.channels, block) if block else layer.channels
    outer = block_of(layer.out, block) if block else layer.out
    h, w, oh, ow = extents(layer)
    xs, ys = order(layer.channels, h, w, inner), order(layer.out, oh, ow, outer)
    shared = _axes(("ob", layer.out // outer), ("oy", oh), ("ox", ow), ("o", outer))
    if kind == "1x1" and layer.stride == 1:  # one axis of places
        shared = _axes(("ob", layer.out // outer), ("ox", oh * ow), ("o", outer))
    taps = _axes(("ky", layer.window[0]), ("kx", layer.window[1]))
    x = {"oy": layer.stride * xs[1], "ox": layer.stride * xs[2], "ky": layer.dilation * xs[1]}
    x["kx"] = layer.dilation * xs[2]
    out = Index(0, {"ob": ys[0], "oy": ys[1], "ox": ys[2], "o": 1})
    if kind in ("depthwise", "pools"):
        x |= {"ob": xs[0], "o": 1}
        reduce = taps
        weight = Index(0, {"ob": outer, "o": 1, "ky": layer.window[1] * layer.out, "kx": layer.out})
    else:
        x |= {"ib": xs[0], "i": 1}
        reduce = (*_axes(("ib", layer.channels // inner)), *taps, *_axes(("i", inner)))
        at = {"ob": outer, "o": 1, "i": layer.out, "ib": inner * layer.out}
        at |= {"kx": layer.channels * layer.out, "ky": layer.window[1] * layer.channels * layer.out}
        weight = Index(0, at)
    image = load(0, _kept(Index(0, x), (*shared, *reduce)), "f32")
    size = h * w * layer.channels
    if kind == "pools":
        stage = Stage((), reduce, "max", image, acc("f32"), 1, _kept(out, shared))
        operands = [Operand("f32", size, "in"), Operand("f32", oh * ow * layer.out, "out")]
        return KernelSpec("pool", shared, (stage,), tuple(operands))
    body = op("mul", image, load(1, _kept(weight, (*shared, *reduce)), "f32"))
    stage = Stage(
        (), reduce, "sum", body, _relu(_kept(Index(0, {"ob": outer, "o": 1}), shared)), 3, _kept(out, shared)
    )
    weights = prod(layer.window) * layer.out * (1 if kind == "depthwise" else layer.channels)
    operands = [
        Operand("f32", size, "in"), Operand("f32", weights, "in", True), Operand("f32", layer.out, "in", True),
        Operand("f32", oh * ow * layer.out, "out"),
    ]  # fmt: skip
    return KernelSpec(kind.replace("1x1", "conv"), shared, (stage,), tuple(operands))


def _axes(*extents: tuple[str, int]) -> tuple[Axis, ...]:
    return tuple(Axis(name, n) for name, n in extents if n > 1)


def _kept(index: Index, axes: Sequence[Axis]) -> Index:
    """Without what axes of extent 1 would add."""
    names = {a.name for a in axes}
    return Index(index.const, {axis: step for axis, step in index.terms if axis in names})


def _relu(bias: Index) -> Expr:
    return op("max", op("add", acc("f32"), load(2, bias, "f32")), const(0, "f32"))
