"""Rules of the remaining operators: splits, gathers of elements, tables, windows of one place, Einsum."""

from __future__ import annotations

import numpy as np

from ..ir import Node
from .extent import Axes, Extent, Growth, Symbol
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, lowest, rule
from .moves import from_start, integers, joined
from .sums import only, unknown


def fixed(axis: int, x: Extent) -> int:
    """An axis that does not grow, from 0 on."""
    axis %= x.rank
    if axis in x.axes:
        raise NoRoom("it works along an axis that grows")
    return axis


@rule("Split")
def split(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    fixed(node.attrs.get("axis", 0), x)
    return w.copy(node, inputs, x.axes)


@rule("GatherElements")
def gather_elements(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Axes other than its own are those of both operands."""
    x, at = only(inputs, 2)
    axis = node.attrs.get("axis", 0) % x.rank
    if any(x.dim(i) != at.dim(i) for i in range(x.rank) if i != axis and (i in x.axes or i in at.axes)):
        raise NoRoom("its operands grow along other axes")
    for i, growth in at.axes.items():
        if len(at.axes) > 1 or growth.rest != 0.0:
            at = w.clean(at, i, 0.0, force=True)
    where = from_start(w, at, x.axes[axis].length) if axis in x.axes else at
    return w.copy(node, [x, where], unknown(at.axes))


@rule("GatherND")
def gather_nd(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """As Gather; indices are rows of places along the first axes of the data."""
    x, at = only(inputs, 2)
    last = at.rank - 1
    if node.attrs.get("batch_dims", 0) or last in at.axes:
        raise NoRoom("what it gathers by grows")
    count, axes = at.shape[last], dict(at.axes)
    known = at.constant()
    if known is None or not ((known >= 0) & (known < np.array(x.shape[:count]))).all():
        for i in axes:
            at = w.clean(at, i, 0.0, force=len(axes) > 1)
        if any(i in x.axes for i in range(count)):
            dims = Symbol.listed([x.dim(i) for i in range(count)], (count,), at.dtype)
            below = w.b("Less", [w.data(at), w.b.const(0, at.dtype)])
            ends = w.b("Add", [w.data(at), w.numbers(dims)])
            at = Extent(w.b("Where", [below, ends, w.data(at)]), axes)
    grown = unknown(axes)
    grown.update({i - count + last: g for i, g in x.axes.items() if i >= count})
    return w.copy(node, [x, at], grown)


@rule("OneHot")
def one_hot(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs, 3)[0]
    if any(v is not None and (v.axes or v.symbol is not None) for v in inputs[1:]):
        raise NoRoom("its depth is known at run time only")
    axis = node.attrs.get("axis", -1) % (x.rank + 1)
    return w.copy(node, inputs, {i + (i >= axis): Growth(g.length) for i, g in x.axes.items()})


@rule("TopK")
def top_k(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """The first of equals is inside, wherever others lie."""
    x, count = only(inputs, 2)
    axis = node.attrs.get("axis", -1) % x.rank
    if axis in x.axes:
        if count.constant() is None:
            raise NoRoom("how many it takes is known at run time only")
        w.at_least(x.dim(axis), int(count.constant().reshape(-1)[0]))
        x = w.clean(x, axis, lowest(x.dtype, -1 if node.attrs.get("largest", 1) else 1))
    return w.copy(node, [x, count], {i: Growth(g.length) for i, g in x.axes.items() if i != axis})


@rule("Pad")
def pad(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """An axis that grows may get more places behind: they are there already, and hold what is put in."""
    x, pads = only(inputs, 2)
    sizes = integers(pads)
    given = inputs[3] if len(inputs) > 3 else None
    axes = list(range(x.rank)) if given is None else [d.b % x.rank for d in integers(given)]
    left = [0] * (2 * x.rank)
    for i, axis in enumerate(axes):
        first, last = sizes[i], sizes[i + len(axes)]
        if first.terms or last.terms:
            raise NoRoom("how much it adds depends on n")
        if axis not in x.axes or (first.b == 0 and last.b == 0):
            left[axis], left[axis + x.rank] = first.b, last.b
        else:
            x = _widened(w, node, inputs, x, axis, first.b, last.b)
    if not any(left):
        return [w.checked(x)]
    value = w.again(
        node, [w.data(x), w.b.const(left), *(None if v is None else w.data(v) for v in inputs[2:3])]
    )
    return [w.checked(Extent(value[0].value, unknown(x.axes)))]


def _widened(w: Maker, node: Node, inputs: Inputs, x: Extent, axis: int, first: int, last: int) -> Extent:
    """x with `first` places before and `last` behind a growing axis."""
    fill = inputs[2].constant() if len(inputs) > 2 and inputs[2] is not None else np.zeros(1)
    if fill is None or node.attrs.get("mode", "constant") not in ("constant", b"constant"):
        raise NoRoom("it adds what is not known to an axis that grows")
    if first < 0 or last < 0:
        raise NoRoom("it takes places from an axis that grows")
    number = float(fill.reshape(-1)[0])
    if first:
        shape = tuple(first if i == axis else d for i, d in enumerate(x.shape))
        more = Extent(
            w.b.const(np.full(shape, number), x.dtype), {i: g for i, g in x.axes.items() if i != axis}
        )
        x = joined(w, [more, x], axis)
    if last:
        x = w.clean(x, axis, number, force=len(x.axes) > 1)
    # what another axis holds beyond n need not be what comes in here
    return Extent(
        x.value,
        {**unknown(x.axes), axis: w.growth(x.axes[axis].length + last, number if last else None)},
    )


@rule("LRN", "GlobalLpPool")
def batch_only(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    if set(x.axes) - {0} or any(v is not None and (v.axes or v.symbol is not None) for v in inputs[1:]):
        raise NoRoom("more than its batch grows")
    return w.copy(node, inputs, unknown(x.axes))


@rule("DynamicQuantizeLinear")
def dynamic_quantise(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Its range always takes in 0, so that zeros beyond n change nothing."""
    x = only(inputs)[0]
    for axis in x.axes:
        x = w.clean(x, axis, 0.0, force=len(x.axes) > 1)
    made = w.copy(node, [x])
    return [w.checked(Extent(made[0].value, unknown(x.axes))), *made[1:]]


@rule("Einsum")
def einsum(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """A letter that grows does so in every operand that has it; one that is summed is zero beyond n in all."""
    equation = node.attrs["equation"]
    equation = equation.decode() if isinstance(equation, bytes) else equation
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation or not arrow or any(len(set(t)) != len(t) for t in terms):
        raise NoRoom("its equation has an ellipsis, no result or a diagonal")
    parts = only(inputs, len(terms))
    lengths: dict[str, Length] = {}
    for term, x in zip(terms, parts, strict=True):
        for axis, letter in enumerate(term):
            if lengths.setdefault(letter, x.dim(axis)) != x.dim(axis):
                raise NoRoom(f"{letter} is {lengths[letter]} and {x.dim(axis)} long")
    cleaned: Inputs = []
    for term, x in zip(terms, parts, strict=True):
        gone = [axis for axis, letter in enumerate(term) if letter not in out and axis in x.axes]
        for axis in gone:
            x = w.clean(x, axis, 0.0, force=len(gone) > 1)
        cleaned.append(x)
    axes: Axes = {i: Growth(lengths[letter]) for i, letter in enumerate(out) if lengths[letter].terms}
    return w.copy(node, cleaned, axes)


@rule("Loop", "Scan", "If", "NonMaxSuppression")
def in_turns(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    raise NoRoom("how often it goes round would depend on n")
