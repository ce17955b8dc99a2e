"""Rules of Resize, DepthToSpace and SpaceToDepth along growing axes: whole factors, so that a place depends on its
neighbours and not on the length."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..ir import Node
from .extent import Axes, Extent, Growth
from .lengths import Length, NoRoom
from .maker import Inputs, Maker, rule
from .moves import integers
from .sums import only, unknown


def _text(node: Node, name: str, default: str) -> str:
    value = node.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


@rule("Resize")
def resize(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """By a whole number, or a whole part. What lies behind the end is the last place, as Resize itself has it."""
    x = only(inputs)[0]
    scales, sizes = (inputs[i] if i < len(inputs) else None for i in (2, 3))
    sizes = sizes if scales is None or not scales.shape or scales.shape[0] == 0 else None
    axes = [a % x.rank for a in node.attrs.get("axes") or range(x.rank)]
    if sizes is not None and _text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NoRoom("its factor depends on the length")
    if sizes is None and (scales is None or scales.constant() is None):
        raise NoRoom("its factors are known at run time only")
    want = integers(sizes) if sizes is not None else []
    known = scales.constant() if sizes is None and scales is not None else None
    grown: Axes = {axis: Growth(g.length) for axis, g in x.axes.items() if axis not in axes}
    target = [Length(d) for d in x.shape]
    for i, axis in enumerate(axes):
        dim = x.dim(axis)
        if not dim.terms:
            target[axis] = want[i] if want else dim
            if target[axis].terms:
                raise NoRoom("a fixed axis becomes one that grows")
            continue
        factor = Fraction(float(known[i])) if known is not None else _factor(dim, want[i])
        x, length = _scaled(w, node, x, axis, factor, known is not None)
        target[axis], grown[axis] = length, Growth(length)
    given = [w.data(x), *(None if v is None else w.data(v) for v in inputs[1:3])]
    if sizes is not None:
        given = [w.data(x), given[1], given[2], w.b.const([w.cap(target[axis]) for axis in axes])]
    return w.again(node, given, grown)


def _factor(dim: Length, to: Length) -> Fraction:
    v, c = dim.terms[0]
    factor = Fraction(to.factor(v), c)
    if factor.denominator != 1 or dim * int(factor) != to:
        raise NoRoom(f"it makes {to} of {dim}")
    return factor


def _scaled(
    w: Maker, node: Node, x: Extent, axis: int, factor: Fraction, floor: bool
) -> tuple[Extent, Length]:
    """x with its last place repeated beyond n, and the axis' length by a factor."""
    if factor == 1:
        return x, x.dim(axis)
    if 1 not in (factor.numerator, factor.denominator) or factor <= 0:
        raise NoRoom(f"it is scaled by {factor} along an axis that grows")
    place = _text(node, "coordinate_transformation_mode", "half_pixel")
    if place not in ("half_pixel", "pytorch_half_pixel", "asymmetric", "half_pixel_symmetric"):
        raise NoRoom(f"places of {place} depend on the length")
    if node.attrs.get("exclude_outside", 0) or (node.attrs.get("antialias", 0) and factor < 1):
        raise NoRoom("its weights depend on the length")
    dim = x.dim(axis)
    length = dim * factor.numerator // factor.denominator
    if factor < 1:
        if place == "half_pixel_symmetric":
            raise NoRoom(f"places of {place} depend on the length")
        if len(length.terms) == 1:
            w.places_of(length.terms[0][0], x.shape[axis] // factor.denominator)
    if place == "pytorch_half_pixel":
        w.at_least(length, 2)  # one place is the first
    whole = _text(node, "mode", "nearest") == "nearest" and factor > 1 and (
        (place == "asymmetric" and _text(node, "nearest_mode", "round_prefer_floor") == "floor")
        or (place != "asymmetric" and _text(node, "nearest_mode", "round_prefer_floor").startswith("round"))
    )  # fmt: skip
    if whole:  # the places after the last are multiplied by 0 where the reference does it
        x = w.clean(x, axis, 0.0, force=len(x.axes) > 1)
    else:
        last = w.number(dim - 1, rank=1)
        places = w.b("Min", [w.b.const(np.arange(x.shape[axis])), last])
        x = Extent(w.b("Gather", [w.data(x), places], axis=axis), unknown(x.axes))
    return x, length


@rule("DepthToSpace", "SpaceToDepth")
def blocks(w: Maker, node: Node, inputs: Inputs) -> list[Extent]:
    """Whole blocks: a length that is a multiple for some n only has no room."""
    x, size = only(inputs)[0], node.attrs["blocksize"]
    if 1 in x.axes:
        raise NoRoom("its channels grow")
    axes: Axes = {}
    for axis, g in x.axes.items():
        length = g.length
        if axis > 1 and node.op == "DepthToSpace":
            length = length * size
        elif axis > 1:
            length = length // size
            if length * size != g.length:
                raise NoRoom(f"{g.length} are no whole blocks of {size}")
        axes[axis] = Growth(length)
    return w.copy(node, inputs, axes)
