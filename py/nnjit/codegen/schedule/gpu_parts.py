"""Sums of products in parts: kernels side by side on a device that one would not fill, and one that adds up.

`split_of(spec, target)` is what the rules choose, `splits` are all ways with the times to expect of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import inf

from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.gpu_roles import FEW_ROWS, Product, lies_along, matrices, roles
from nnjit.codegen.schedule.matrix_tiles import ranked as matrices_ranked
from nnjit.codegen.schedule.product_tiles import ranked
from nnjit.codegen.schedule.split import PART, Split
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget

PARTS = (2, 3, 4, 6, 8, 12, 16)
WORTH = 0.95
"""What a split must come to at most."""
DEEP = 128
"""Elements of a sum that each of its parts has at least."""
LAUNCH = 3.5
"""Microseconds that a kernel more takes, with what it costs to dispatch it."""
STREAM = 2.5e6
"""Bytes that it reads in a microsecond."""


def split_of(spec: KernelSpec, target: WgslTarget) -> Split | None:
    """How the sum of a product with too few tiles to keep the device busy is divided into kernels side by side; None
    where adding up what they found would take longer than that saves."""
    best, ratio = best_split(spec, target)
    return best if ratio < WORTH else None


@lru_cache(64)  # a lowering asks what the rule is, and then what it could be instead
def best_split(spec: KernelSpec, target: WgslTarget) -> tuple[Split | None, float]:
    """The division of a product's sum to expect the most of, and the part of one kernel's time that it should take."""
    found = [(each / whole, split) for split, each, whole in splits(spec, target) if whole < inf]
    if not found:
        return None, inf
    ratio, split = min(found, key=lambda one: one[0])
    return split, ratio


def splits(spec: KernelSpec, target: WgslTarget) -> Iterator[tuple[Split, float, float]]:
    """All ways to divide the sum of a product, the microseconds of each with the kernel that adds up, and those of the
    product in one kernel; none for other specs."""
    p = roles(spec)
    if p is None or p.m <= FEW_ROWS or spec.useful or any(a.name == PART for a in spec.axes):
        return
    body = spec.stages[0].body
    if body is None or body.dtype != "f32":
        return
    sums = matrices(body, target)
    along = lies_along(p)

    def least(of: Product) -> float:
        size = of.m, of.k, of.column.extent, of.batches
        if sums:
            return next((us for us, _ in matrices_ranked(*size, sums, target)), inf)
        return next((us for us, t in ranked(*size, target) if along or not t.turned), inf)

    whole = least(p)
    points = 4 * p.m * p.column.extent * p.batches
    for axis in p.reduce:
        for parts in PARTS:
            length = axis.extent // parts
            if (
                axis.extent % (parts * LANES)
                or p.k // parts < DEEP
                or parts * points > target.max_binding_bytes
            ):
                continue
            part = replace(
                p,
                batch=(Axis(PART, parts), *p.batch),
                reduce=tuple(Axis(a.name, length) if a is axis else a for a in p.reduce),
            )
            yield Split(axis.name, parts), least(part) + LAUNCH + parts * points / STREAM, whole
