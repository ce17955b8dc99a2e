"""Rules of products and reductions: what is summed over a growing axis is masked first."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import FLOATS
from ..ir import Node, Value
from .elementwise import broadcast
from .extent import Axes, Extent, Growth
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, lowest, rule


def only(inputs: Inputs, count: int = 1) -> list[Extent]:
    """The first `count` operands, which have to be there."""
    found = [x for x in inputs[:count] if x is not None]
    if len(found) != count:
        raise NoRoom("an operand is missing")
    return found


def unknown(axes: Axes) -> Axes:
    """The same axes, anything beyond."""
    return {axis: Growth(g.length) for axis, g in axes.items()}


@rule("MatMul", "MatMulInteger")
def matmul(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    a, b = only(inputs, 2)
    if a.rank < 2 or b.rank < 2:
        raise NoRoom("a vector in a product")
    if any(x is not None and x.axes for x in inputs[2:]):
        raise NoRoom("its zero point grows")
    if _summed(a, b).terms:
        points = [inputs[i] if i < len(inputs) else None for i in (2, 3)]
        a, b = zeroed(w, a, a.rank - 1, points[0]), zeroed(w, b, b.rank - 2, points[1])
    elif b.rank - 1 in b.axes and b.dtype in FLOATS:
        # scores whose columns beyond n are masked: fused attention adds the mask, which leaves NaN what it is
        b = w.clean(b, b.rank - 1, 0.0)
    return w.copy(node, [a, b, *inputs[2:]], _product_axes(w, a, b))


def _summed(a: Extent, b: Extent) -> Length:
    """The length that a product of matrices sums over."""
    inner, outer = a.dim(a.rank - 1), b.dim(b.rank - 2)
    if inner != outer:
        raise NoRoom(f"its sum is over {inner} and over {outer}")
    return inner


def zeroed(w: Maker, x: Extent, axis: int, point: Extent | None) -> Extent:
    """x with its zero point, one for all, beyond n."""
    if point is None:
        return w.clean(x, axis, 0.0)
    if point.constant() is not None and point.constant().size == 1:
        return w.clean(x, axis, float(point.constant().reshape(-1)[0]))
    if point.rank > 1 or point.axes or point.shape not in ((), (1,)):
        raise NoRoom("its zero points are many, and its sum is over an axis that grows")
    inside = w.inside(x.axes[axis].length, x.rank, axis)
    return Extent(w.b("Where", [inside, w.data(x), w.data(point)]), unknown(x.axes))


@rule("QLinearMatMul")
def linear_matmul(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Codes with one scale for all, or one for each of what does not grow."""
    a, _, a_point, b, _, b_point = only(inputs, 6)
    if any(x is not None and x.axes for i, x in enumerate(inputs) if i not in (0, 3)):
        raise NoRoom("its scales grow")
    if a.rank < 2 or b.rank < 2:
        raise NoRoom("a vector in a product")
    for at, x, last in ((1, a, a.rank - 2), (4, b, b.rank - 1)):
        if last in x.axes and any(only(inputs, 6)[i].shape not in ((), (1,)) for i in (at, at + 1)):
            raise NoRoom("it has a scale for each place of an axis that grows")
    if _summed(a, b).terms:
        a, b = zeroed(w, a, a.rank - 1, a_point), zeroed(w, b, b.rank - 2, b_point)
    given: Inputs = [a, *inputs[1:3], b, *inputs[4:]]
    return w.copy(node, given, _product_axes(w, a, b))


def _product_axes(w: Maker, a: Extent, b: Extent) -> Axes:
    rank = max(a.rank, b.rank)
    axes: Axes = {axis: Growth(length) for axis, length in broadcast(w, [a, b], keep=2).items()}
    for x, at, to in ((a, a.rank - 2, rank - 2), (b, b.rank - 1, rank - 1)):
        if at in x.axes:
            axes[to] = Growth(x.axes[at].length)
    return axes


@rule("Gemm")
def gemm(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    a, b = only(inputs, 2)
    row, ka = (1, 0) if node.attrs.get("transA", 0) else (0, 1)
    kb, column = (1, 0) if node.attrs.get("transB", 0) else (0, 1)
    if a.dim(ka) != b.dim(kb):
        raise NoRoom(f"its sum is over {a.dim(ka)} and over {b.dim(kb)}")
    if ka in a.axes:
        a, b = w.clean(a, ka, 0.0), w.clean(b, kb, 0.0)
    axes: Axes = {}
    for x, at, to in ((a, row, 0), (b, column, 1)):
        if at in x.axes:
            axes[to] = Growth(x.axes[at].length)
    c = inputs[2] if len(inputs) > 2 else None
    if c is not None and c.axes:
        for axis, growth in c.axes.items():
            to = axis + 2 - c.rank
            if to not in axes or axes[to].length != growth.length:
                raise NoRoom("its addend grows along another axis")
    if c is not None and any(c.dim(to - 2 + c.rank).b != 1 for to in axes if to - 2 + c.rank >= 0
                             and to - 2 + c.rank not in c.axes):  # fmt: skip
        raise NoRoom("its addend is fixed along an axis that grows")
    return w.copy(node, [a, b, *inputs[2:]], axes)


@rule("com.microsoft.MatMulNBits")
def matmul_nbits(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Rows of A times constant weights."""
    a = only(inputs)[0]
    if a.rank - 1 in a.axes or any(x is not None and x.axes for x in inputs[1:]):
        raise NoRoom("more than its rows grow")
    return w.copy(node, inputs, unknown(a.axes))


@rule("Softmax", "LogSoftmax")
def softmax(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    axis = node.attrs.get("axis", -1) % x.rank
    x = _cleaned_scores(w, x, axis)
    axes = unknown(x.axes)
    if axis in axes and node.op == "Softmax":
        axes[axis] = Growth(axes[axis].length, 0.0)
    return w.copy(node, [x], axes)


def _cleaned_scores(w: Maker, x: Extent, axis: int) -> Extent:
    """-inf beyond n; before a Cast of halves, where other masks are added too, so that attention stays to be seen."""
    cast = x.value.producer if x.value is not None else None
    growth = x.axes.get(axis)
    if cast is None or cast.op != "Cast" or growth is None or growth.rest == lowest(x.dtype):
        return w.clean(x, axis, lowest(x.dtype))
    before = cast.inputs[0]
    if before is None or before.dtype not in FLOATS:
        return w.clean(x, axis, lowest(x.dtype))
    inner = w.clean(Extent(before, unknown(x.axes)), axis, lowest(before.dtype))
    return Extent(w.cast(w.data(inner), x.dtype), {**x.axes, axis: Growth(growth.length, lowest(x.dtype))})


_IDENTITY = {
    "ReduceSum": 0.0, "ReduceMean": 0.0, "ReduceProd": 1.0, "ReduceL1": 0.0, "ReduceL2": 0.0, "ReduceSumSquare": 0.0,
    "ReduceLogSum": 0.0,
}  # fmt: skip


@rule(*_IDENTITY, "ReduceMax", "ReduceMin", "ReduceLogSumExp")
def reduce(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """A mean divides by how many there are, which n tells."""
    x = only(inputs)[0]
    over = _axes(node, inputs, x.rank)
    keep = bool(node.attrs.get("keepdims", 1))
    growing = [axis for axis in over if axis in x.axes]
    for axis in growing:
        fill = _IDENTITY.get(node.op, lowest(x.dtype, 1 if node.op == "ReduceMin" else -1))
        # a place beyond two axes is not what either says
        x = w.clean(x, axis, fill, force=len(growing) > 1)
    axes: Axes = {}
    for axis, growth in x.axes.items():
        if axis not in over:
            axes[axis if keep else axis - sum(o < axis for o in over)] = Growth(growth.length)
    if node.op != "ReduceMean" or not growing:
        return w.copy(node, [x, *inputs[1:]], axes)
    if x.dtype not in FLOATS:
        raise NoRoom("a mean of integers")
    wide = "f64" if x.dtype == "f64" else "f32"  # a mean of halves has a sum that they can't hold
    total = w.b("ReduceSum", [w.cast(w.data(x), wide), w.b.const(over)], keepdims=int(keep))
    count = how_many(w, x, over, wide)
    return [w.checked(Extent(w.cast(w.b("Div", [total, count]), x.dtype), axes))]


def how_many(w: Maker, x: Extent, over: Sequence[int], dtype: str) -> Value:
    """How many elements of x a sum over these axes, of which one grows at least, adds up in this run."""
    first = next(axis for axis in over if axis in x.axes)
    count = w.number(x.dim(first), dtype)
    for axis in over:
        if axis != first:
            count = w.b("Mul", [count, w.number(x.dim(axis), dtype)])
    return count


def _axes(node: Node, inputs: Inputs, rank: int) -> list[int]:
    """Axes that a reduction is over, in order."""
    given = inputs[1] if len(inputs) > 1 else None
    if given is None:
        return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    array = given.constant()
    if array is None:
        raise NoRoom("its axes are known at run time only")
    if not array.size:
        return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(a) % rank for a in array.reshape(-1))


@rule("ArgMax", "ArgMin")
def arg_extreme(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """The first of equals is inside, wherever others lie."""
    x = only(inputs)[0]
    axis = node.attrs.get("axis", 0) % x.rank
    if axis in x.axes and node.attrs.get("select_last_index", 0):
        raise NoRoom("the last of equals along an axis that grows")
    x = w.clean(x, axis, lowest(x.dtype, 1 if node.op == "ArgMin" else -1))
    keep = node.attrs.get("keepdims", 1)
    axes = {a if keep or a < axis else a - 1: Growth(g.length) for a, g in x.axes.items() if a != axis}
    return w.copy(node, [x], axes)


@rule("CumSum", "CumProd")
def cumulate(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, at = only(inputs, 2)
    if at.constant() is None:
        raise NoRoom("its axis is known at run time only")
    axis = int(at.constant().reshape(-1)[0]) % x.rank
    if node.attrs.get("reverse", 0):
        x = w.clean(x, axis, 0.0 if node.op == "CumSum" else 1.0)
    return w.copy(node, [x, at], unknown(x.axes))
