"""AffineGrid and GridSample: places that a matrix moves, and an image between its pixels at such places.

GridSample: for each output and dimension a table of taps is computed once (source place and weight); the sum
over the taps is a kernel of its own, so that all channels share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as fold
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import FLOATS
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, op, select
from nnjit.codegen.spec import Axis
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import compute, fill, output, shape_of, temporary
from nnjit.lower.ops.linear import accumulate
from nnjit.lower.ops.pointwise import text, unary
from nnjit.lower.registry import Computation, Unsupported, composite, injective

if TYPE_CHECKING:
    from nnjit.lower.build import Build

TAPS = {"nearest": 1, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}
CUBIC = -0.75


def _f(v: float) -> Expr:
    return const(v, "f32")


def _between(x: Expr, low: Expr, high: Expr) -> Expr:
    return op("max", op("min", x, high), low)


@injective("AffineGrid")
def affine_grid(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """y[n, ..., k] = theta[n, k] (x, y, ..., 1): the middles of an image's pixels from -1 to 1, the last dimension
    first, under the matrix theta[n]. With `align_corners` the first and the last pixel lie at -1 and 1; one that is
    alone lies at -1, as onnx.reference has it and ONNX's function body for the depth. That body is not used: it
    squeezes without axes, which fails for one matrix, and divides by 0 for a height or width of 1."""
    theta, sizes = node.inputs[0], shape_of(node.outputs[0])[1:-1]
    assert theta is not None
    if theta.dtype not in FLOATS:
        raise Unsupported(f"AffineGrid of {theta.dtype}")
    wide = accumulate(theta.dtype)

    def factor(j: int) -> Expr:
        return cast(ctx.read(theta, [idx[0], idx[-1], Index(j)]), wide)

    y = factor(len(sizes))
    for d, n in enumerate(sizes):
        # whole numbers over a whole number: each place is rounded once
        first, last = 1 - n, n
        if node.attrs.get("align_corners", 0):
            first, last = (1 - n, n - 1) if n > 1 else (-1, 1)
        place = op("div", cast(axis(idx[1 + d] * 2 + first), wide), const(float(last), wide))
        y = op("add", y, op("mul", factor(len(sizes) - 1 - d), place))
    return cast(y, theta.dtype)


@composite("GridSample")
def grid_sample(build: Build, node: Node) -> None:
    """y[n, c, o] = x[n, c] at grid[n, o], whose coordinates run from -1 to 1, the last dimension first."""
    x, grid = node.inputs[0], node.inputs[1]
    assert x is not None
    shape, outer = shape_of(x), shape_of(grid)[:-1]
    rank, mode = len(shape) - 2, text(node, "mode", "linear")
    if mode not in TAPS or rank not in (1, 2, 3) or x.dtype not in ("f32", "f16", "bf16"):
        raise Unsupported(f"GridSample {mode} of {x.dtype} with {rank} dimensions")
    taps, zeros = TAPS[mode], text(node, "padding_mode", "zeros") == "zeros"
    tables = []
    for d in range(rank):
        at = temporary(build, node, f"at{d}", "f32", outer)
        fill(build, node, at, lambda ctx, idx, d=d: _pixel(ctx, node, idx, d), "grid_place")  # type: ignore[misc]
        tables.append(_taps(build, node, at, shape[2 + d], taps, d))
    y = output(build, node)

    def every(how: str, several: list[Expr]) -> Expr:
        return fold(lambda a, b: op(how, a, b), several)

    def rule(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape_of(y))
        here = [idx[0], *idx[2:]]
        at = [ctx.read(index, [*here, Index.of(f"t{d}")]) for d, (index, _) in enumerate(tables)]
        factors = [ctx.read(weights, [*here, Index.of(f"t{d}")]) for d, (_, weights) in enumerate(tables)]
        nearest = [op("max", i, const(0, "i32")) for i in at] if zeros else at
        pixel = cast(ctx.read(x, [idx[0], idx[1], *(Index(0, ((i, 1),)) for i in nearest)]), "f32")
        if zeros:  # a pixel at the border that is infinite is no part of what lies outside
            pixel = select(compare("ge", every("bor", at), const(0, "i32")), pixel, _f(0))
        body = op("mul", every("mul", factors), pixel)
        reduce = [Axis(f"t{d}", taps) for d in range(rank)]
        return Computation(
            axes, idx, cast(acc("f32"), x.dtype), reduce=reduce, combine="sum", body=body, name="grid_sample"
        )

    compute(build, node, y, rule)


def _pixel(ctx: Context, node: Node, idx: Sequence[Index], d: int) -> Expr:
    """The coordinate in pixels along dimension d, brought inside for border and reflection, whole for nearest."""
    n = shape_of(node.inputs[0])[2 + d]
    last = shape_of(node.inputs[1])[-1] - 1
    g = cast(ctx.read(node.inputs[1], [*idx, Index(last - d)]), "f32")
    aligned = node.attrs.get("align_corners", 0)
    scale, shift = ((n - 1) / 2, (n - 1) / 2) if aligned else (n / 2, (n - 1) / 2)
    at = op("add", op("mul", g, _f(scale)), _f(shift))
    padding, mode = text(node, "padding_mode", "zeros"), text(node, "mode", "linear")
    if TAPS[mode] == 1:
        at = unary("round", at)
    if padding == "zeros" or TAPS[mode] == 4:
        return at
    low, high = _ends(node, n)
    if padding == "reflection":
        return _reflected(at, low, high)
    # between an end and the middle of the last pixel both taps are that pixel: an infinity is one by any weights
    beyond = op("or", compare("lt", at, _f(low)), compare("gt", at, _f(high)))
    return select(beyond, _between(at, _f(0), _f(n - 1)), at)


def _ends(node: Node, n: int) -> tuple[float, float]:
    """Where an image of n pixels begins and ends: in the middle of its outer pixels, or half a pixel further."""
    return (0.0, n - 1.0) if node.attrs.get("align_corners", 0) else (-0.5, n - 0.5)


def _reflected(x: Expr, low: float, high: float) -> Expr:
    """x mirrored at both ends until it lies between them: a triangle wave."""
    span = high - low
    if span <= 0:
        return _f(0) if low == 0 else op("mul", x, _f(0))
    off = unary("abs", op("sub", x, _f(low)))
    turn = op("sub", off, op("mul", unary("floor", op("mul", off, _f(1 / (2 * span)))), _f(2 * span)))
    return op("add", op("min", turn, op("sub", _f(2 * span), turn)), _f(low))


def _taps(build: Build, node: Node, at: Value, n: int, taps: int, d: int) -> tuple[Value, Value]:
    """Source places and weights of the taps around `at`: [..., taps]. A place is inside the image, or -1 where zeros
    are around it."""
    shape = [*shape_of(at), taps]
    index = temporary(build, node, f"index{d}", "i32", shape)
    weights = temporary(build, node, f"weight{d}", "f32", shape)
    padding = text(node, "padding_mode", "zeros")

    def source(ctx: Context, idx: Sequence[Index]) -> Expr:
        x = ctx.read(at, idx[:-1])
        if taps == 1:
            return x
        # the tap's number counts from the pixel at or before x; of four taps the first is one before that
        number = cast(axis(idx[-1] + (-1 if taps == 4 else 0)), "f32")
        return op("add", unary("floor", x), number)

    def within(p: Expr) -> Expr:
        return op("and", compare("ge", p, _f(0)), compare("le", p, _f(n - 1)))

    def place(ctx: Context, idx: Sequence[Index]) -> Expr:
        p = source(ctx, idx)
        if padding == "reflection":
            p = unary("round", _reflected(p, *_ends(node, n)))
        inside = cast(_between(p, _f(0), _f(n - 1)), "i32")
        if padding != "zeros":
            return inside
        return select(within(p), inside, const(-1, "i32"))

    def weight(ctx: Context, idx: Sequence[Index]) -> Expr:
        p = source(ctx, idx)
        t = unary("abs", op("sub", ctx.read(at, idx[:-1]), p))
        w = _f(1) if taps == 1 else op("max", op("sub", _f(1), t), _f(0)) if taps == 2 else _cubic(t)
        return select(within(p), w, _f(0)) if padding == "zeros" else w  # of an infinite place t is NaN

    fill(build, node, index, place, "grid_index")
    fill(build, node, weights, weight, "grid_weight")
    return index, weights


def _cubic(t: Expr) -> Expr:
    """Keys' kernel with a = -3/4 at distance t from 0 to 2."""
    a = CUBIC
    near = op("add", op("mul", op("mul", op("sub", op("mul", t, _f(a + 2)), _f(a + 3)), t), t), _f(1))
    inner = op("add", op("mul", op("sub", op("mul", t, _f(a)), _f(5 * a)), t), _f(8 * a))
    far = op("sub", op("mul", inner, t), _f(4 * a))
    return select(compare("le", t, _f(1)), near, select(compare("lt", t, _f(2)), far, _f(0)))
