"""The schedule of running totals: terms one after the other, four rows (or columns) at a time in the lanes.

Takes a spec, gives a Schedule, or None where no stage keeps a running total. Where the totals lie side by side in
memory, lanes are the rows next to each other: reads and stores of four steps are then 4x4 blocks, transposed in
registers.
"""

from __future__ import annotations

from nnjit.codegen.schedule.facts import LANES, narrow_types, reads, spread
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

CHAINS = 12
"""Vectors of totals side by side at most: that many registers, and longer pieces of each row."""


def scan(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a running reduction, None for any other spec: terms in order, lanes across rows or columns."""
    stage = next((s for s in spec.stages if s.running), None)
    if stage is None or stage.terms is None:
        return None
    (along,) = stage.reduce
    order = [a.name for a in spec.axes]
    lanes = _lanes(spec, stage, along)
    steps: list[Step] = [Unroll(along.name, LANES)]
    tiles: dict[str, int] = {}
    if lanes is not None:
        vectors = lanes.extent // LANES
        if abs(stage.terms[1].coeff(lanes.name)) != 1:  # blocks to transpose take registers
            tile = LANES * min(2, vectors)
        else:  # the number that leaves the fewest columns over
            tile = LANES * min(
                range(min(CHAINS, vectors), 0, -1), key=lambda n: vectors % n if n >= 4 else vectors
            )
        tiles[lanes.name] = tile
        order = [n for n in order if n != lanes.name] + [lanes.name]
        steps += [Tile(lanes.name, tile), Vectorize(lanes.name, LANES)]
    return (*steps, Order(tuple(order)), Parallel(tuple(spread(spec, order, tiles, target))))


def _lanes(spec: KernelSpec, stage: Stage, along: Axis) -> Axis | None:
    """The shared axis with the smallest step in memory, where the types fit four lanes and no place is known
    at run time only."""
    assert stage.terms is not None and stage.body is not None
    gathers = any(not isinstance(x, str) for r in reads(stage.body) for x, _ in r.index.terms)
    guards = any(r.guard for r in reads(stage.body))
    if gathers or guards or not all(narrow_types(spec, s) for s in spec.stages):
        return None
    index = stage.terms[1]
    long = [a for a in spec.axes if a.extent >= LANES and index.coeff(a.name)]
    return min(long, key=lambda a: abs(index.coeff(a.name)), default=None)


__all__ = ["scan"]
