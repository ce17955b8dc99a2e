"""Schedules for sums of products of small integers: quantised matrix products and convolutions.

The reduced axis is taken in groups that one instruction multiplies and sums: four bytes where the engine's relaxed
dot is exact for them (`Target.dot`), else pairs of 16 bits. The other factor comes from panels that keep the bytes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.contraction import Factors, loops, register_tile
from nnjit.codegen.schedule.dots import product_of
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.steps import Dot, Pack, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

ROWS = 4
"""Rows from which an activation is packed into panels: it is read once to pack, `rows` times to multiply."""

SHORT = 6
"""Groups along the last two summed axes that are unrolled together."""


def int8(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a sum of products of small integers; None for any other spec.

    Per group of k, MR x NV dot products take MR splats and NV vectors from the panels: the register tile is that
    of a float product. A pair product needs one more register, for what is added to the sum."""
    f = small_factors(spec)
    if f is None:
        return None
    k = f.stage.reduce[-1]
    group = 4 if bytewise(spec, f.a, f.b, target) and k.extent > 2 else 2
    room = target if group == 4 else replace(target, registers=target.registers - 1)
    m, mr, nv, best = None, 1, 1, float("inf")
    for x in f.rows or (None,):
        high, wide, cost = register_tile(x.extent if x else 1, f.axis.extent, room)
        cost /= x.extent if x else 1
        if cost < best * 0.98:
            m, mr, nv, best = x, high, wide, cost
    tiles = {f.axis.name: nv * LANES}
    steps: list[Step] = [Tile(f.axis.name, nv * LANES), Vectorize(f.axis.name, LANES)]
    if m is not None and mr > 1:
        steps.append(Tile(m.name, mr))
        tiles[m.name] = mr
    groups = -(-k.extent // group)
    steps += [Dot(k.name, group), Unroll(k.name, groups if groups <= 3 else 2)]
    if groups <= 2 and len(f.stage.reduce) > 1 and groups * f.stage.reduce[-2].extent <= SHORT:
        steps.append(Unroll(f.stage.reduce[-2].name, f.stage.reduce[-2].extent))
    steps.append(Pack(f.b.operand, f.axis.name, group))
    inner = [x.name for x in reversed(f.rows) if x is not m] + ([m.name] if m else [])
    return (*steps, *loops(f, inner, tiles, target))


def small_factors(spec: KernelSpec) -> Factors | None:
    """A spec seen as a sum of products of small integers: `b` can be packed, `a` has the last reduced axis
    contiguous, and the vector axis is b's alone."""
    pair = product_of(spec)
    if pair is None:
        return None
    s = spec.stages[0]
    found: Factors | None = None
    best = 0.0
    for a, b in (pair, pair[::-1]):
        f = _seen(spec, a, b)
        if f is None:
            continue
        points = 1.0 + 2.0 * spec.operands[b.operand].const + (s.index.coeff(f.axis.name) == 1)
        if points > best:
            found, best = f, points
    return found


def _seen(spec: KernelSpec, a: Access, b: Access) -> Factors | None:
    s = spec.stages[0]
    k = s.reduce[-1].name
    in_a, in_b = set(a.axes()), set(b.axes())
    gathers = any(not isinstance(x, str) for i in (a.index, b.index) for x, _ in i.terms)
    if gathers or a.index.coeff(k) != 1 or not b.index.coeff(k):
        return None
    own = [x for x in spec.axes if x.name in in_b and x.name not in in_a and x.extent > 1]
    rows: list[Axis] = [x for x in spec.axes if x.name in in_a and x.name not in in_b]
    rows.sort(key=lambda x: abs(a.index.coeff(x.name)))
    if not own or not (spec.operands[b.operand].const or prod(x.extent for x in rows) >= ROWS):
        return None
    axis = max(own, key=lambda x: (s.index.coeff(x.name) == 1, x.extent))
    return Factors(spec, s, a, b, axis, rows)


def bytewise(spec: KernelSpec, a: Access, b: Access, target: Target) -> bool:
    """Whether the engine has an exact dot product for bytes of these two signednesses."""
    types = sorted(spec.operands[x.operand].dtype for x in (a, b))
    return types == {"u8": ["i8", "u8"], "s8": ["i8", "i8"]}.get(target.dot, [])
