"""Pad: constants around a tensor, or its own elements mirrored, repeated or wrapped around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnjit.codegen.expr import Expr, Index, const
from nnjit.graph.ir import Node
from nnjit.lower.context import Context
from nnjit.lower.layout import Layout
from nnjit.lower.ops.compose import const_ints, copy, layout_of, output, part, shape_of
from nnjit.lower.ops.pointwise import text
from nnjit.lower.registry import Unsupported, composite, injective

if TYPE_CHECKING:
    from nnjit.lower.build import Build


def _is_constant(node: Node) -> bool:
    return text(node, "mode", "constant") == "constant"


def pads_of(node: Node) -> list[tuple[int, int]]:
    """(before, after) of each dimension; negative ones cut off."""
    rank = len(shape_of(node.inputs[0]))
    pads, axes = const_ints(node.inputs[1]) or [], const_ints(node.input(3))
    dims = [a % rank for a in axes] if axes is not None else list(range(rank))
    out = [(0, 0)] * rank
    for n, d in enumerate(dims):
        out[d] = (pads[n], pads[n + len(dims)])
    return out


@injective("Pad", when=_is_constant)
def pad(ctx: Context, node: Node, idx: Sequence[Index]) -> Expr:
    """A guarded read."""
    x, value = node.inputs[0], node.input(2)
    assert x is not None
    other = const(0, x.dtype) if value is None else ctx.read(value, [Index()] * len(shape_of(value)))
    at, bounds = list(idx), []
    for d, (before, after) in enumerate(pads_of(node)):
        at[d] = idx[d] + (-before)
        if before > 0 or after > 0:
            bounds.append((at[d], shape_of(x)[d]))
    return ctx.read_padded(x, at, bounds, other) if bounds else ctx.read(x, at)


@composite("Pad")
def pad_from_itself(build: Build, node: Node) -> None:
    """The middle is copied, then each dimension's borders from what is there already: a run backwards for
    reflect, forwards for wrap, one slice over and over for edge. All strides are known, so all is affine."""
    mode = text(node, "mode")
    if mode not in ("reflect", "edge", "wrap"):
        raise Unsupported(f"Pad with mode {mode}")
    x = node.inputs[0]
    assert x is not None
    made = build.tensors.places.get(node.outputs[0])
    y = node.outputs[0] if made is not None else output(build, node)
    source, whole = layout_of(build, x), layout_of(build, y)
    begins: list[int] = []
    for d, (before, after) in enumerate(pads_of(node)):
        cut, size = max(0, -before), shape_of(x)[d] - max(0, -before) - max(0, -after)
        if size <= 0:
            raise Unsupported("Pad of an empty tensor")
        source = source.sliced(d, cut, 1, size)
        begins.append(max(0, before))
    filled = whole
    for d, begin in enumerate(begins):
        filled = filled.sliced(d, begin, 1, source.shape[d])
    if made is None or layout_of(build, x) != filled or build.tensors.places[x].buffer is not made.buffer:
        copy(build, node, part(build, x, source), part(build, y, filled))
    for d, begin in enumerate(begins):
        end = begin + source.shape[d]
        # all of the dimensions before d, the middle of those after it
        rows = whole
        for later in range(d + 1, len(begins)):
            rows = rows.sliced(later, begins[later], 1, source.shape[later])
        while begin > 0 or end < whole.shape[d]:
            room = begin if begin > 0 else whole.shape[d] - end
            taken, count = _border(rows, d, begin, end, source.shape[d], mode, room)
            at = begin - count if begin > 0 else end
            copy(build, node, part(build, y, taken), part(build, y, rows.sliced(d, at, 1, count)))
            begin, end = (at, end) if begin > 0 else (0, end + count)


def _border(
    rows: Layout, d: int, begin: int, end: int, period: int, mode: str, room: int
) -> tuple[Layout, int]:
    """What is copied next to [begin, end): before it while there is room, else after it; and how much."""
    size, before = end - begin, begin > 0
    if mode == "edge" or (mode == "reflect" and size == 1):
        edge = rows.sliced(d, begin if before else end - 1, 1, 1)
        shape = [room if n == d else extent for n, extent in enumerate(edge.shape)]
        return edge.expanded(shape), room
    if mode == "wrap":
        count = min(room, period)
        return rows.sliced(d, begin + period - count if before else end - period, 1, count), count
    count = min(room, size - 1)
    return rows.sliced(d, begin + count if before else end - 2, -1, count), count
