"""Schedules for windows of small integers whose lanes are neighbours of a row: depthwise convolutions of an image as
ONNX has it, taps taken four at a time.

    lane p: x[p..p+3]   one load of 16 bytes and one shuffle give four lanes their four neighbours
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.dots import product_of
from nnjit.codegen.schedule.facts import LANES, spread
from nnjit.codegen.schedule.int8 import bytewise
from nnjit.codegen.schedule.steps import Dot, Order, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

GROUP = 4
APART = 4
"""Bytes between lanes up to which four groups of four lie within 16 bytes."""
VECTORS = 10
"""Accumulators of a tile at most: beside them a weight, a vector of the image and the order of the shuffle."""
WINDOW = 12
"""Groups of a window that is unrolled whole."""


def taps(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a sum of products of bytes, one of which all lanes share; None for any other spec.

    Both factors have the last summed axis side by side, in whole groups; the lanes read overlapping groups of the
    first. Nothing is packed."""
    found = _factors(spec, target)
    if found is None:
        return None
    x, lanes = found
    s = spec.stages[0]
    k = s.reduce[-1]
    vectors = -(-lanes.extent // LANES)
    tile = LANES * -(-vectors // -(-vectors // VECTORS))
    steps: list[Step] = [Tile(lanes.name, tile), Vectorize(lanes.name, LANES), Dot(k.name, GROUP)]
    groups = k.extent // GROUP
    steps.append(Unroll(k.name, groups if groups <= WINDOW else 1))
    if prod(r.extent for r in s.reduce) // GROUP <= WINDOW:
        steps += [Unroll(r.name, r.extent) for r in s.reduce[:-1]]
    outer = [a for a in spec.axes if a is not lanes]
    # planes, then rows of a plane: from the axis that moves the image furthest to the nearest
    outer.sort(key=lambda a: -abs(x.index.coeff(a.name)))
    order = [*(a.name for a in outer), lanes.name]
    return (*steps, Order(tuple(order)), Parallel(tuple(spread(spec, order, {lanes.name: tile}, target))))


def _factors(spec: KernelSpec, target: Target) -> tuple[Access, Axis] | None:
    """The factor that differs from lane to lane, and the axis in lanes."""
    pair = product_of(spec)
    if pair is None:
        return None
    s = spec.stages[0]
    a, b = pair
    k = s.reduce[-1]
    if k.extent % GROUP or not (a.index.plain and b.index.plain and bytewise(spec, a, b, target)):
        return None
    if a.index.coeff(k.name) != 1 or b.index.coeff(k.name) != 1:
        return None
    for x, w in ((a, b), (b, a)):
        for axis in spec.axes:
            apart = x.index.coeff(axis.name)
            if w.index.coeff(axis.name) or not 0 < apart <= APART:
                continue
            if axis.extent < LANES or s.index.coeff(axis.name) != 1:
                continue
            # an axis of the other factor alone would want register tiles, which are another rule's
            if all(x.index.coeff(e.name) for e in spec.axes if w.index.coeff(e.name)):
                return x, axis
    return None
