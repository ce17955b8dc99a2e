"""Rules of operators that move elements: shapes, views, gathers, slices, concatenations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..const import Const
from ..dtypes import NUMPY
from ..fold import EVALUATORS
from ..ir import Node, Value
from .extent import SYMBOLIC, Axes, Extent, Growth, Symbol
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, rule
from .sums import only, unknown
from .views import regroup, target


@rule("Shape")
def shape(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    dims = only(inputs)[0].dims()
    dims = dims[slice(node.attrs.get("start", 0), node.attrs.get("end", len(dims)))]
    return [_lengths(w, dims)]


@rule("Size")
def size(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    dims = only(inputs)[0].dims()
    return [w.symbol(Symbol.listed([_product(dims)], ()))]


def _lengths(w: Maker, dims: Sequence[Length]) -> Extent:
    return w.symbol(Symbol.listed(dims, (len(dims),)))


def integers(x: Extent | None) -> list[Length]:
    """The numbers of an operand that decides a shape."""
    if x is not None and x.symbol is not None:
        return x.symbol.flat()
    array = None if x is None else x.constant()
    if array is None:
        raise NoRoom("what decides its shape is known at run time only")
    if array.dtype.kind == "f" and not np.all(array == np.rint(array)):
        raise NoRoom("what decides its shape is a fraction")
    return [Length(int(d)) for d in array.reshape(-1)]


@rule("Transpose")
def transpose(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    perm = list(node.attrs.get("perm") or range(x.rank)[::-1])
    return w.copy(node, inputs, {perm.index(axis): g for axis, g in x.axes.items()})


@rule("Reshape")
def reshape(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, to = only(inputs, 2)
    dims = target(x.dims(), integers(to), bool(node.attrs.get("allowzero", 0)))
    return [_reshaped(w, node, x, dims)]


@rule("Flatten")
def flatten(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    axis = node.attrs.get("axis", 1)
    axis += x.rank if axis < 0 else 0
    return [_reshaped(w, node, x, [_product(x.dims()[:axis]), _product(x.dims()[axis:])])]


def _product(dims: Sequence[Length]) -> Length:
    found = Length(1)
    for d in dims:
        if found.terms and d.terms:
            raise NoRoom("a product of lengths")
        found = found * d.b if found.terms else d * found.b
    return found


@rule("Squeeze")
def squeeze(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    if len(inputs) < 2 or inputs[1] is None:
        raise NoRoom("which axes it takes away would depend on n")
    gone = {d.b % x.rank for d in integers(inputs[1])}
    if gone & set(x.axes):
        raise NoRoom("it takes away an axis that grows")
    return [_reshaped(w, node, x, [d for axis, d in enumerate(x.dims()) if axis not in gone])]


@rule("Unsqueeze")
def unsqueeze(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, axes = only(inputs, 2)
    new = integers(axes)
    rank = x.rank + len(new)
    at, dims = {d.b % rank for d in new}, iter(x.dims())
    return [_reshaped(w, node, x, [Length(1) if i in at else next(dims) for i in range(rank)])]


def _reshaped(w: Maker, node: Node, x: Extent, dims: Sequence[Length]) -> Extent:
    """x under other dims: each growing axis stays, or is the outermost of those that become one or that it parts in."""
    axes = {to: Growth(dims[to], x.axes[at].rest) for at, to in regroup(x.dims(), dims).items()}
    return w.checked(Extent(w.b.reshape(w.data(x), [w.cap(d) for d in dims]), axes))


@rule("Expand")
def expand(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x, to = only(inputs, 2)
    dims = integers(to)
    rank = max(x.rank, len(dims))
    have = [Length(1)] * (rank - x.rank) + x.dims()
    want = [Length(1)] * (rank - len(dims)) + dims
    found: list[Length] = []
    for a, b in zip(have, want, strict=True):
        if a != b and Length(1) not in (a, b):
            raise NoRoom(f"{a} does not expand to {b} for every n")
        found.append(b if a == Length(1) else a)
    axes: Axes = {}
    for axis, length in enumerate(found):
        if length.terms:
            old = x.axes.get(axis - rank + x.rank)
            axes[axis] = Growth(length, old.rest if old else None)
    if found == have and rank == x.rank:
        return [x]
    return [w.checked(Extent(w.b("Expand", [w.data(x), w.b.const([w.cap(d) for d in found])]), axes))]


@rule("Tile")
def tile(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """An axis of one place may be repeated n times, one that grows only once."""
    x, times = only(inputs, 2)
    dims = [_product(pair) for pair in zip(x.dims(), integers(times), strict=True)]
    repeats = [w.cap(t) if not g.terms else t.b for t, g in zip(integers(times), x.dims(), strict=True)]
    axes: Axes = {}
    for axis, (before, after) in enumerate(zip(x.dims(), dims, strict=True)):
        if before.terms and before != after:
            raise NoRoom("it repeats an axis that grows")
        if after.terms:
            axes[axis] = Growth(after, x.axes[axis].rest if before.terms else None)
    return [w.checked(Extent(w.b("Tile", [w.data(x), w.b.const(repeats)]), axes))]


@rule("ConstantOfShape")
def constant_of_shape(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    dims = integers(inputs[0])
    value = w.again(node, [w.b.const([w.cap(d) for d in dims])])[0].tensor
    fill = EVALUATORS["ConstantOfShape"](_one(node), [np.array([1])])
    rest = float(np.asarray(fill).reshape(-1)[0]) if np.asarray(fill).dtype.kind in "fiub" else None
    return [w.checked(Extent(value, {i: Growth(d, rest) for i, d in enumerate(dims) if d.terms}))]


def _one(node: Node) -> Node:
    return Node(node.op, [], [Value("one", "", (1,))], node.attrs)


@rule("Range")
def range_(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    ends = [integers(x)[0] for x in inputs]
    if len(ends) != 3 or ends[2] != Length(1):
        raise NoRoom("its step is not 1")
    start, length = ends[0], ends[1] - ends[0]
    dtype = only(inputs)[0].dtype
    if not length.terms and length.b <= SYMBOLIC:
        return [w.symbol(Symbol.listed([start + i for i in range(length.b)], (max(length.b, 0),), dtype))]
    value = w.b.const(np.arange(w.cap(length)), dtype)
    if start != Length(0):
        value = w.b("Add", [value, w.number(start, dtype)])
    return [w.checked(Extent(value, {0: Growth(length)} if length.terms else {}))]


@rule("Trilu")
def trilu(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    return w.copy(node, inputs, unknown(x.axes))


@rule("Gather")
def gather(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Indices beyond n are 0; one that counts from the end of an axis that grows counts from its length."""
    x, at = only(inputs, 2)
    axis = node.attrs.get("axis", 0) % x.rank
    where = at
    for i, growth in at.axes.items():
        dim = 1 if axis in x.axes else x.shape[axis]
        # beyond two axes at once lies what neither says
        if len(at.axes) > 1 or growth.rest is None or not -dim <= growth.rest < dim:
            where = w.clean(where, i, 0.0, force=True)
    if axis in x.axes:
        where = from_start(w, where, x.axes[axis].length)
    axes: Axes = {}
    for i, g in x.axes.items():
        if i != axis:
            axes[i if i < axis else i - 1 + at.rank] = g
    axes.update({axis + i: Growth(g.length) for i, g in at.axes.items()})
    return w.copy(node, [x, where], axes)


def from_start(w: Maker, at: Extent, length: Length) -> Extent:
    """Indices into an axis of this length, negative ones made positive; n is kept where they are inside."""
    if at.symbol is not None or at.constant() is not None:
        s = at.symbol or Symbol.of(at.constant(), at.dtype)
        moved: list[Length] = []
        for i in s.flat():
            i = i + length if w.negative(i) else i
            w.at_least(i, 0)
            w.at_least(length - i, 1)
            moved.append(i)
        return w.symbol(Symbol.listed(moved, s.shape, s.dtype))
    below = w.b("Less", [w.data(at), w.b.const(0, at.dtype)])
    ends = w.b("Add", [w.data(at), w.number(length, at.dtype)])
    return Extent(w.b("Where", [below, ends, w.data(at)]), at.axes)


@rule("Slice")
def slice_(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    starts, ends = integers(inputs[1]), integers(inputs[2])
    axes = [d.b for d in integers(inputs[3])] if len(inputs) > 3 and inputs[3] else list(range(len(starts)))
    steps = [d.b for d in integers(inputs[4])] if len(inputs) > 4 and inputs[4] else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= x.rank
        dim = x.dim(axis)
        if not (dim.terms or start.terms or end.terms):
            bounds = [w.b.const([int(i)]) for i in (start.b, end.b, axis, step)]
            x = Extent(w.b("Slice", [w.data(x), *bounds]), x.axes)
            continue
        back = step < 0
        first, last = (_clamped(w, i, dim, int(back)) for i in (start, end))
        if first == Length(-1):
            raise NoRoom("it begins before the first place")
        apart = first - last if back else last - first
        x = take(w, x, axis, first, (apart + abs(step) - 1) // abs(step), step)
    return [x]


def _clamped(w: Maker, i: Length, dim: Length, back: int = 0) -> Length:
    """A bound of a slice as a place from 0 to dim, of one that goes backwards from -1 to dim - 1; for every n."""
    if w.negative(i):
        i = i + dim
        if w.negative(i):
            return Length(-back)
    return i if w.negative(i - dim) else dim - back


def take(w: Maker, x: Extent, axis: int, start: Length, length: Length, step: int = 1) -> Extent:
    """`length` places of an axis from start on."""
    if w.negative(length - 1):
        raise NoRoom(f"a slice of {length}")
    dim, others = x.dim(axis), {i: g for i, g in x.axes.items() if i != axis}
    have = w.cap(dim)
    if step > 1 and not start.terms and len(length.terms) == 1 and length.terms[0][1] == 1:
        w.places_of(length.terms[0][0], (have - start.b + step - 1) // step)
    want = w.cap(length)
    rest = x.axes[axis].rest if axis in x.axes and step == 1 and start + length == dim else None
    axes = {**others, axis: Growth(length, rest)} if length.terms else others
    if start == Length(0) and have == want and step == 1:
        return w.checked(Extent(w.data(x), axes))
    last = start.b + (want - 1) * step
    if not start.terms and step > 0 and last < have:
        cut = [w.b.const([i]) for i in (start.b, last + 1, axis, step)]
        return w.checked(Extent(w.b("Slice", [w.data(x), *cut[: 3 + (step > 1)]]), axes))
    places = w.b.const(np.arange(want) * step + start.b)
    if start.terms:
        places = w.b("Add", [places, w.number(start - start.b, rank=1)])
    if length.terms:  # beyond its length it may read anything that is there
        bound, at = ("Min", have - 1) if step > 0 else ("Max", 0)
        places = w.b(bound, [places, w.b.const(at)])
        axes[axis] = Growth(length)
    return w.checked(Extent(w.b("Gather", [w.data(x), places], axis=axis), axes))


@rule("Concat")
def concat(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    parts = only(inputs, len(inputs))
    return [joined(w, parts, node.attrs["axis"] % parts[0].rank)]


def joined(w: Maker, parts: list[Extent], axis: int) -> Extent:
    """Tensors behind each other along an axis."""
    parts = [p for p in parts if p.dim(axis) != Length(0)]
    axes: Axes = {}
    for i in {i for p in parts for i in p.axes if i != axis}:
        dims = {p.dim(i) for p in parts}
        if len(dims) > 1:
            raise NoRoom("its operands are of other lengths along another axis")
        rests = {p.axes[i].rest for p in parts}
        axes[i] = Growth(dims.pop(), rests.pop() if len(rests) == 1 else None)
    if not any(axis in p.axes for p in parts):
        return w.checked(Extent(w.b("Concat", [w.data(p) for p in parts], axis=axis), axes))
    return _appended(w, parts, axis, axes)


def _appended(w: Maker, parts: list[Extent], axis: int, others: Axes) -> Extent:
    """Concat along a growing axis: each later part is selected where it begins, by place."""
    total = parts[0].dim(axis)
    for p in parts[1:]:
        total = total + p.dim(axis)
    cap = w.cap(total)
    growing = [i for i, p in enumerate(parts) if axis in p.axes]
    if growing == [
        len(parts) - 1
    ]:  # the others are as long as ever: they come first, places are cut at the end
        last = parts[-1].axes[axis].rest
        short = w.cap(total) - sum(p.dim(axis).b for p in parts[:-1])
        cut = w.b("Slice", [w.data(parts[-1]), *(w.b.const([i]) for i in (0, short, axis))])
        value = w.b("Concat", [*(w.data(p) for p in parts[:-1]), cut], axis=axis)
        w.growth(total)
        return w.checked(Extent(value, {**others, axis: Growth(total, last)}))
    places = w.places(cap, parts[0].rank - axis, 0)
    out, start = _widened(w, parts[0], axis, cap), parts[0].dim(axis)
    rest = parts[0].axes[axis].rest if axis in parts[0].axes else 0.0
    for p in parts[1:]:
        length = p.dim(axis)
        from_here = w.number(start, "i32")
        here = w.b("LessOrEqual", [from_here, places])
        if length == Length(1):
            here, moved = w.b("Equal", [from_here, places]), w.data(p)
        else:
            if not length.terms:
                here = w.b("And", [here, w.b("Less", [places, w.number(start + length, "i32")])])
            else:
                rest = None
            flat = w.b.const(np.arange(cap), "i32")
            back = w.b("Sub", [flat, from_here])
            back = w.b("Max", [w.b("Min", [back, w.b.const(w.cap(length) - 1, "i32")]), w.b.const(0, "i32")])
            moved = w.b("Gather", [w.data(p), back], axis=axis)
        out, start = w.b("Where", [here, moved, out]), start + length
    if growing[0] == 0 and parts[0].shape[axis] == cap:
        w.begins[out] = w.data(parts[0])
    return w.checked(Extent(out, {**others, axis: Growth(total, rest)}))


def _widened(w: Maker, x: Extent, axis: int, cap: int) -> Value:
    """x with `cap` places in an axis, zeros behind."""
    have = x.shape[axis]
    if have == cap:
        return w.data(x)
    shape = tuple(cap - have if i == axis else d for i, d in enumerate(x.shape))
    zeros = w.b.value(Const.of(np.zeros(shape, NUMPY[x.dtype]), x.dtype))
    return w.b("Concat", [w.data(x), zeros], axis=axis)
