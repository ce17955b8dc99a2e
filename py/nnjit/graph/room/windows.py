"""Rules of convolutions and pooling with room: along a growing axis the input beyond n is what padding is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import Node, Value
from .extent import Axes, Extent, Growth
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, lowest, rule
from .sums import only, reduce


class Window:
    """Attributes of a convolution or a pooling, by spatial axis."""

    def __init__(self, node: Node, rank: int, sizes: Sequence[int]) -> None:
        spatial, attrs = rank - 2, node.attrs
        pad = attrs.get("auto_pad", "NOTSET")
        self.auto = pad.decode() if isinstance(pad, bytes) else pad or "NOTSET"
        self.sizes = list(sizes)
        self.strides: list[int] = list(attrs.get("strides") or [1] * spatial)
        self.dilations: list[int] = list(attrs.get("dilations") or [1] * spatial)
        self.pads: list[int] = list(attrs.get("pads") or [0] * 2 * spatial)
        self.extra: list[int] = list(attrs.get("output_padding") or [0] * spatial)
        self.ceil = bool(attrs.get("ceil_mode", 0))
        self.spatial = spatial
        self.moving: dict[int, list[int]] = {}
        """By spatial axis whose padding depends on n: the padding before it where 1, 2, ... places are left for
        the last step."""
        self.inside: dict[int, Value] = {}
        """By such an axis, once it is moved: true at the places that n has."""

    def settle(self, dims: Sequence[Length]) -> None:
        """Padding of its own in place of what follows from dims: `auto_pad`, and `ceil_mode` along fixed axes. NoRoom
        where that depends on n."""
        if self.auto.startswith("SAME"):
            for i, d in enumerate(dims):
                # ceil(d / s) windows, of which the last has 1 to s places: as much padding as that asks for
                step = self.strides[i]
                both = [max(self.reach(i) + 1 - left, 0) for left in range(1, step + 1)]
                upper = self.auto == "SAME_UPPER"
                begins = [p // 2 if upper else p - p // 2 for p in both]
                if any(c % step for _, c in d.terms) and min(begins) < max(begins):
                    self.moving[i] = begins
                    self.pads[i], self.pads[i + self.spatial] = min(begins), 0
                else:  # the same for every n, or what is missing at the end is beyond n
                    left = (d.b - 1) % step
                    self.pads[i], self.pads[i + self.spatial] = begins[left], both[left] - begins[left]
        elif self.auto == "VALID":
            self.pads = [0] * 2 * self.spatial
        if self.auto.startswith("SAME"):
            self.ceil = False  # has counted already
        for i, d in enumerate(dims):
            if self.ceil and not d.terms:
                (first, last), step = self.ends(i), self.strides[i]
                count = -(-(d.b + first + last - self.reach(i) - 1) // step) + 1
                count -= (count - 1) * step >= d.b + first  # a window begins inside or before
                end = (count - 1) * step + self.reach(i) + 1 - first - d.b
                self.pads[i + self.spatial] = max(end, 0)

    def reach(self, i: int) -> int:
        """Places that a window spans, but for one."""
        return self.dilations[i] * (self.sizes[i] - 1)

    def ends(self, i: int) -> tuple[int, int]:
        return self.pads[i], self.pads[i + self.spatial]

    def attrs(self, node: Node) -> dict[str, object]:
        """Of a node with this padding."""
        kept = {k: v for k, v in node.attrs.items() if k not in ("auto_pad", "ceil_mode")}
        return {**kept, "pads": self.pads}


@rule("Conv")
def conv(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    return _windowed(w, node, inputs, 0.0)


@rule("ConvInteger", "QLinearConv")
def integer_conv(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Padding is the zero point, a number."""
    at = 2 if node.op == "ConvInteger" else None
    scalars = [inputs[i] for i in ((at,) if at else (1, 2, 6, 7)) if i < len(inputs)]
    point = inputs[2] if len(inputs) > 2 else None
    known = np.zeros(1) if point is None else point.constant()
    if known is None or known.size != 1 or any(x is not None and x.axes for x in scalars):
        raise NoRoom("its zero point is known at run time only")
    return _windowed(w, node, inputs, float(known.reshape(-1)[0]), 3 if node.op == "QLinearConv" else 1)


def _windowed(w: Maker, node: Node, inputs: Inputs, fill: float, weight_at: int = 1) -> list[Extent]:
    x, weight = only(inputs)[0], inputs[weight_at]
    if weight is None or any(v is not None and v.axes for v in inputs[1:]) or 1 in x.axes:
        raise NoRoom("its channels or weights grow")
    at = Window(node, x.rank, weight.shape[2:])
    x, axes = _fitted(w, x, at, fill)
    if not any(axis > 1 for axis in axes):
        return w.copy(node, inputs, axes)
    given = [w.data(x), *(None if v is None else w.data(v) for v in inputs[1:])]
    return w.again(node, given, axes, at.attrs(node))


def _fitted(w: Maker, x: Extent, at: Window, fill: float) -> tuple[Extent, Axes]:
    """x with `fill` beyond n, the padding of `at` such that there are windows for the output's capacity, and the axes
    of the output. Windows that begin in the last padding are left out by ceil_mode; it must not depend on n whether."""
    axes: Axes = {0: Growth(x.axes[0].length)} if 0 in x.axes else {}
    growing = [axis for axis in x.axes if axis > 1]
    if not growing:
        return x, axes
    at.settle(x.dims()[2:])
    for axis in growing:
        i = axis - 2
        (first, last), step, reach = at.ends(i), at.strides[i], at.reach(i)
        if at.auto.startswith("SAME"):
            last = reach - first  # as many windows as steps are begun
        if i in at.moving:
            x = _moved(w, x, axis, at, fill)
        more = first + last - reach - 1 + (step - 1 if at.ceil else 0)
        if at.ceil and step + last > reach + 1:
            raise NoRoom("how its last window is rounded depends on the length")
        w.at_least(x.axes[axis].length + first + last, reach + 1)
        length = (x.axes[axis].length + more) // step + 1
        if len(length.terms) == 1 and length.terms[0][1] == 1:
            w.places_of(length.terms[0][0], (x.shape[axis] + more) // step + 1)
        end = (w.cap(length) - 1) * step + reach + 1 - first - x.shape[axis]
        if (
            reach or last
        ) and i not in at.moving:  # windows look beyond n, or are computed together with some that do
            x = w.clean(x, axis, fill, force=len(growing) > 1)  # a window may lie beyond two axes
        if end < 0:
            x = shortened(w, x, axis, x.shape[axis] + end)
        at.pads[i + at.spatial] = max(end, 0)
        axes[axis] = Growth(length)
    return x, axes


def _moved(w: Maker, x: Extent, axis: int, at: Window, fill: float) -> Extent:
    """x further back by as many places as its padding is more than the least, `fill` before and behind: what is then
    padded with the least has the windows that n asks for."""
    i, length = axis - 2, x.axes[axis].length
    step, begins = at.strides[i], at.moving[i]
    least, most = min(begins), max(begins) - min(begins)
    n = w.number(length)

    def number(value: int) -> Value:
        return w.b.const(np.array(value))

    before = w.b("Div", [w.b("Sub", [n, number(1)]), number(step)])
    left = w.b("Sub", [n, w.b("Mul", [before, number(step)])])  # 1 to step
    both = w.b("Max", [w.b("Sub", [number(at.reach(i) + 1), left]), number(0)])
    begin = w.b("Div", [both if at.auto == "SAME_UPPER" else w.b("Add", [both, number(1)]), number(2)])
    by = w.cast(w.b("Sub", [begin, number(least)]), "i32")
    cap = x.shape[axis]
    flat = w.b("Sub", [w.b.const(np.arange(cap + most), "i32"), by])
    bounded = w.b("Max", [w.b("Min", [flat, w.b.const(cap - 1, "i32")]), w.b.const(0, "i32")])
    value = w.b("Gather", [w.data(x), bounded], axis=axis)
    at_place = w.b("Sub", [w.places(cap + most, x.rank - axis, 0), by])
    begun = w.b("LessOrEqual", [w.b.const(0, "i32"), at_place])
    inside = w.b("And", [begun, w.b("Less", [at_place, w.number(length, "i32")])])
    at.inside[i] = inside
    value = w.b("Where", [inside, value, w.b.const(fill, value.dtype)])
    return Extent(value, {**x.axes, axis: Growth(length, fill)})


def shortened(w: Maker, x: Extent, axis: int, places: int) -> Extent:
    """The first places of an axis; those that are left out count for no n."""
    if places < 1:
        raise NoRoom("its windows are wider than the capacity")
    cut = [w.b.const([i]) for i in (0, places, axis)]
    return Extent(w.b("Slice", [w.data(x), *cut]), x.axes)


@rule("ConvTranspose")
def conv_transpose(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """s places for each of L, padded at the end so that there are s * capacity."""
    x, weight = only(inputs, 2)
    if any(v is not None and v.axes for v in inputs[1:]) or 1 in x.axes:
        raise NoRoom("its channels or weights grow")
    axes: Axes = {0: Growth(x.axes[0].length)} if 0 in x.axes else {}
    growing = [axis for axis in x.axes if axis > 1]
    if not growing:
        return w.copy(node, inputs, axes)
    at = Window(node, x.rank, weight.shape[2:])
    if node.attrs.get("output_shape") or at.auto.startswith("SAME"):
        raise NoRoom("its output's shape is fixed")
    at.settle(x.dims()[2:])
    for axis in growing:
        i = axis - 2
        (first, last), step = at.ends(i), at.strides[i]
        more = at.reach(i) + 1 + at.extra[i] - step - first
        if more < 0:
            raise NoRoom("it is padded wider than its window along an axis that grows")
        if at.reach(i) or last or at.extra[i]:  # places beyond n are looked at
            x = w.clean(x, axis, 0.0, force=len(growing) > 1)
        at.pads[i + at.spatial] = more
        axes[axis] = Growth(x.axes[axis].length * step + more - last)
    given = [w.data(x), *(None if v is None else w.data(v) for v in inputs[1:])]
    return w.again(node, given, axes, at.attrs(node))


@rule("MaxPool", "LpPool")
def max_pool(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Padding changes no maximum and no sum of powers."""
    x = only(inputs)[0]
    if 1 in x.axes:
        raise NoRoom("its channels grow")
    if len(node.outputs) > 1 and node.outputs[1].name and set(x.axes) - {0}:
        raise NoRoom("its places are counted over axes that grow")
    at = Window(node, x.rank, node.attrs["kernel_shape"])
    x, axes = _fitted(w, x, at, lowest(x.dtype) if node.op == "MaxPool" else 0.0)
    if not any(axis > 1 for axis in axes):
        return w.copy(node, [x], axes)
    return w.again(node, [w.data(x)], axes, at.attrs(node))


@rule("AveragePool")
def average_pool(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Where padding does not count, the mean of what is there divided by the mean of ones there."""
    x = only(inputs)[0]
    if 1 in x.axes:
        raise NoRoom("its channels grow")
    at = Window(node, x.rank, node.attrs["kernel_shape"])
    at.settle(x.dims()[2:])
    counted = bool(node.attrs.get("count_include_pad", 0)) or not (
        any(at.pads) or at.ceil or at.auto.startswith("SAME")
    )
    if at.ceil and node.attrs.get("count_include_pad", 0):
        raise NoRoom("it counts padding beyond its own")
    before = x
    x, axes = _fitted(w, x, at, 0.0)
    if not any(axis > 1 for axis in axes):
        return w.copy(node, [x], axes)
    attrs = {**at.attrs(node), "count_include_pad": 1}
    made = w.again(node, [w.data(x)], axes, attrs)
    if counted:
        return made
    ones: Value = w.b.const(np.ones((1, 1, *x.shape[2:])), x.dtype)
    for axis in [axis for axis in before.axes if axis > 1]:
        here = at.inside.get(axis - 2) or w.inside(before.axes[axis].length, x.rank, axis)
        if here.shape is not None and here.shape[0] != x.shape[axis]:
            here = shortened(w, Extent(here), 0, x.shape[axis]).tensor
        ones = w.b("Where", [here, ones, w.b.const(0, x.dtype)])
    share = w.b("AveragePool", [ones], **attrs)
    return [w.checked(Extent(w.b("Div", [made[0].tensor, share]), axes))]


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    x = only(inputs)[0]
    op = "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"
    over = Extent(w.b.const(list(range(2, x.rank))))
    outputs = [Value(v.name, v.dtype) for v in node.outputs]
    like = Node(op, node.inputs, outputs, {"keepdims": 1}, name=node.name, version=18)
    return reduce(w, like, [x, over])
