"""Schedules for sums of products of small integers: quantised matrix products and convolutions.

The reduced axis is taken in groups that one instruction multiplies and sums: four bytes where the engine's relaxed
dot is exact for them (`Target.dot`), else pairs of 16 bits. The other factor comes from panels that keep the bytes.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.contraction import Factors, factors, loops, register_tile
from nnjit.codegen.schedule.dots import factor
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.steps import Dot, Pack, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target

ROWS = 4
"""Rows from which an activation is packed into panels: it is read once to pack, `rows` times to multiply."""


def int8(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a sum of products of small integers; None for any other spec.

    Per group of k, MR x NV dot products take MR splats and NV vectors from the panels: the register tile is that
    of a float product. A pair product needs one more register, for what is added to the sum."""
    f = factors(spec)
    if f is None or f.stage.body is None or any(factor(a) is None for a in f.stage.body.args):
        return None
    k = f.stage.reduce[-1]
    rows = prod(x.extent for x in f.rows)
    if f.depthwise or f.a.index.coeff(k.name) != 1 or not f.b.index.coeff(k.name) or not _packs(f, rows):
        return None
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
    steps.append(Pack(f.b.operand, f.axis.name, group))
    inner = [x.name for x in f.rows if x is not m] + ([m.name] if m else [])
    return (*steps, *loops(f, inner, tiles, target))


def bytewise(spec: KernelSpec, a: Access, b: Access, target: Target) -> bool:
    """Whether the engine has an exact dot product for bytes of these two signednesses."""
    types = sorted(spec.operands[x.operand].dtype for x in (a, b))
    return types == {"u8": ["i8", "u8"], "s8": ["i8", "i8"]}.get(target.dot, [])


def _packs(f: Factors, rows: int) -> bool:
    """Whether b can be read from panels: no gather, and a constant or an activation of enough rows."""
    if f.b.operand < 0 or any(not isinstance(x, str) for x, _ in f.b.index.terms):
        return False
    return f.spec.operands[f.b.operand].const or rows >= ROWS
