"""Schedules for products with weights that are taken out of their bits in registers, a block of them by one scale.

What is unpacked serves every row of the register tile: rows first, then columns; words, scales and zero points of a
tile of columns lie in panels.
"""

from __future__ import annotations

from nnjit.codegen.expr import Expr
from nnjit.codegen.rewriting import walk
from nnjit.codegen.schedule.facts import LANES, reads, spread
from nnjit.codegen.schedule.steps import Order, Pack, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

UNPACKING = 4
"""Registers beside sums: the word, one unpacked vector, a splat and the mask; scales are two more for each vector."""


def nbits(spec: KernelSpec, target: Target) -> Schedule | None:
    """Rows of a times weights out of words; None for any other spec."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or s.body.dtype != "f32" or s.axes:
        return None
    left, right = (reads(x) for x in s.body.args)
    if len(left) != 1 or len(right) < 2 or not _unpacks(s.body.args[1]) or not s.reduce:
        return None
    if not all(spec.operands[r.operand].const and not r.guard for r in right):
        return None
    column = [
        x
        for x in spec.axes
        if all(x.name in set(r.axes()) for r in right) and x.name not in set(left[0].axes())
    ]
    if len(column) != 1:
        return None
    axis = column[0]
    rows = [x for x in spec.axes if x is not axis]
    m = max(rows, key=lambda x: x.extent, default=None)
    mr, nv = _tile(m, axis, target)
    steps: list[Step] = [Tile(axis.name, nv * LANES), Vectorize(axis.name, LANES)]
    tiles = {axis.name: nv * LANES}
    if m is not None and mr > 1:
        steps.append(Tile(m.name, mr))
        tiles[m.name] = mr
    bits = s.reduce[-1]
    steps.append(Unroll(bits.name, bits.extent))
    if axis.extent > 1:
        steps += [Pack(r.operand, axis.name) for r in right]
    order = [axis.name, *(x.name for x in rows)]
    return (*steps, Order(tuple(order)), Parallel(tuple(spread(spec, order, tiles, target))))


def _unpacks(e: Expr) -> bool:
    """Whether bits of a word are brought down by a reduced axis."""
    return any(x.op == "shr" and x.args[1].op == "axis" for x in walk(e))


def _tile(m: Axis | None, axis: Axis, target: Target) -> tuple[int, int]:
    """(rows, vectors): one row has two vectors share the reads of a; more rows share what is unpacked."""
    rows, vectors = m.extent if m is not None else 1, -(-axis.extent // LANES)
    if rows == 1:
        return 1, min(2, vectors)
    most = min(rows, target.registers - UNPACKING - 2)
    full = -(-rows // most)
    return -(-rows // full), 1
