"""The schedule of products whose tile of columns is widened into scratch memory first, then used by every row."""

from __future__ import annotations

from nnjit.codegen.schedule.contraction import register_tile
from nnjit.codegen.schedule.facts import LANES, reads, spread
from nnjit.codegen.schedule.steps import Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target

WORD = 8
UNPACKED = 4
"""Rows of the tile that are widened in one round of its loop."""


def widened(spec: KernelSpec, target: Target) -> Schedule | None:
    """Two stages, the first stores a tile to scratch memory, the second is a sum of products with it; else None."""
    if spec.scratch < 0 or len(spec.stages) != 2:
        return None
    widen, s = spec.stages
    if widen.out != spec.scratch or widen.body is not None or len(widen.axes) < 2:
        return None
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or len(s.axes) < 2 or len(s.reduce) != 1:
        return None
    column = widen.axes[-1]
    sides = [[r.operand for r in reads(x)] for x in s.body.args]
    if column not in s.axes or [spec.scratch] not in sides or column.extent % LANES:
        return None
    rows = [x for x in s.axes if x is not column and x != column]
    m = max(rows, key=lambda x: x.extent)
    mr, _, _ = register_tile(m.extent, column.extent, target, either=True)
    steps: list[Step] = [
        Tile(column.name, column.extent),
        Vectorize(column.name, LANES),
        Unroll(s.reduce[0].name, 2),
    ]
    inner = widen.axes[-2]
    # the bits of a word all at once: then each is brought down by a constant
    steps.append(Tile(inner.name, inner.extent if inner.extent <= WORD else UNPACKED))
    if mr > 1:
        steps.append(Tile(m.name, mr))
    return (*steps, Parallel(tuple(spread(spec, [a.name for a in spec.axes], {}, target))))
