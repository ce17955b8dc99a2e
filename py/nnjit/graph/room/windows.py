"""Rules of convolutions with room: along a growing axis the input is zero beyond n, as padding is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ir import Node
from .extent import Axes, Extent, Growth, Length, NoRoom
from .maker import Inputs, Maker, rule
from .sums import only


class Window:
    """A convolution's attributes, by spatial axis."""

    def __init__(self, node: Node, rank: int, weight: Sequence[int]) -> None:
        spatial, attrs = rank - 2, node.attrs
        if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", ""):
            raise NoRoom("its padding depends on the length")
        self.sizes = list(weight[2:])
        self.strides: list[int] = list(attrs.get("strides") or [1] * spatial)
        self.dilations: list[int] = list(attrs.get("dilations") or [1] * spatial)
        self.pads: list[int] = list(attrs.get("pads") or [0] * 2 * spatial)
        self.extra: list[int] = list(attrs.get("output_padding") or [0] * spatial)
        self.spatial = spatial

    def reach(self, i: int) -> int:
        """Places that a window spans, but for one."""
        return self.dilations[i] * (self.sizes[i] - 1)

    def ends(self, i: int) -> tuple[int, int]:
        return self.pads[i], self.pads[i + self.spatial]


@rule("Conv")
def conv(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Of step 1: padded at the end so that the capacity stays, it gives L + pads - reach places that count."""

    def passed(at: Window, i: int, length: Length) -> tuple[Length, int]:
        first, last = at.ends(i)
        if at.strides[i] != 1:
            raise NoRoom("its steps along an axis that grows are wider than one place")
        return length + Length(0, first + last - at.reach(i)), at.reach(i) - first

    return _windowed(w, node, inputs, passed)


@rule("ConvTranspose")
def conv_transpose(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """s places for each of L, padded at the end so that there are s * capacity."""
    if node.attrs.get("output_shape"):
        raise NoRoom("its output's shape is fixed")

    def passed(at: Window, i: int, length: Length) -> tuple[Length, int]:
        (first, last), step = at.ends(i), at.strides[i]
        more = at.reach(i) + 1 + at.extra[i] - step - first
        return Length(step * length.a, step * length.b + more - last), more

    return _windowed(w, node, inputs, passed)


Passed = Callable[[Window, int, Length], tuple[Length, int]]
"""Of a spatial axis: the output's length, and the padding behind that makes its capacity a multiple of the input's."""


def _windowed(w: Maker, node: Node, inputs: Inputs, passed: Passed) -> list[Extent]:
    x, weight = only(inputs, 2)
    if any(v is not None and v.axes for v in inputs[1:]) or 1 in x.axes:
        raise NoRoom("its channels or weights grow")
    axes: Axes = {0: Growth(x.axes[0].length)} if 0 in x.axes else {}
    growing = [axis for axis in x.axes if axis > 1]
    if not growing:
        return w.copy(node, inputs, axes)
    at = Window(node, x.rank, weight.shape)
    for axis in growing:
        length, end = passed(at, axis - 2, x.axes[axis].length)
        if end < 0:
            raise NoRoom("it is padded wider than its window along an axis that grows")
        if at.reach(axis - 2) or at.ends(axis - 2)[1] or at.extra[axis - 2]:  # places beyond n are looked at
            x = w.clean(x, axis, 0.0, force=len(growing) > 1)  # a window may lie beyond two axes
        at.pads[axis - 2 + at.spatial] = end
        axes[axis] = Growth(length)
    padded = {**node.attrs, "pads": at.pads}
    return w.again(node, [w.data(x), *(None if v is None else w.data(v) for v in inputs[1:])], axes, padded)
