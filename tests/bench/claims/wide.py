"""Spaces as a search without rules has them: every tile, order, unrolling and blocking of a sum of products.

Takes a spec of claims/specs.py, gives a Space of thousands to hundreds of millions of choices, of which many do not
fit. What a person would know at once (which axis goes into lanes, that a tile must fit the registers) it does not.
"""

from __future__ import annotations

from itertools import permutations
from math import prod

from nnjit.codegen.schedule.contraction import factors
from nnjit.codegen.schedule.facts import LANES, spread
from nnjit.codegen.schedule.rules import default_schedule
from nnjit.codegen.schedule.steps import Block, Order, Pack, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.space import Choice, Knob, Space

TILES = tuple(range(1, 17))
UNROLLS = (1, 2, 4, 8)
BLOCKS = (0, 8, 32, 128)
MOST_COPIES = 512
"""Bodies beyond this are not written: what remains of the tile is one row by one vector."""


def wide(spec: KernelSpec, target: Target) -> Space:
    """The lanes' axis, a tile of each axis, an unrolling of each sum, an order, a block of each axis, panels or not."""
    f = factors(spec, guarded=True)
    assert f is not None, spec.name
    names = [a.name for a in spec.axes]
    extents = {a.name: a.extent for a in spec.axes}
    sums = {r.name: r.extent for r in f.stage.reduce}
    lanes = tuple(n for n in names if extents[n] >= LANES)
    knobs = (
        Knob("lanes", lanes),
        *(Knob(f"tile {n}", tuple(t for t in TILES if t <= extents[n])) for n in names),
        *(Knob(f"unroll {n}", tuple(dict.fromkeys((*(u for u in UNROLLS if u <= e), *([e] if e <= 12 else [])))))
          for n, e in sums.items()),
        *(Knob(f"block {n}", tuple(b for b in BLOCKS if b < extents[n])) for n in names),
        Knob("order", tuple(permutations(names))),
        Knob("pack", (True, False)),
    )  # fmt: skip

    def build(c: Choice) -> Schedule:
        wide_axis = c["lanes"]
        tiles = {n: c[f"tile {n}"] * (LANES if n == wide_axis else 1) for n in names}
        unrolls = {n: c[f"unroll {n}"] for n in sums}
        if prod(c[f"tile {n}"] for n in names) * prod(unrolls.values()) > MOST_COPIES:
            tiles, unrolls = {n: LANES if n == wide_axis else 1 for n in names}, {}
        steps: list[Step] = [Tile(n, t) for n, t in tiles.items() if t > 1]
        steps.append(Vectorize(wide_axis, LANES))
        steps += [Unroll(n, u) for n, u in unrolls.items() if u > 1]
        if c["pack"]:
            steps.append(Pack(f.b.operand, wide_axis))
        order = list(c["order"])
        parallel = spread(spec, order, tiles, target)
        blocked = []
        for n in names:
            size = c[f"block {n}"] // tiles[n] * tiles[n]
            if size and size < extents[n]:
                steps.append(Block(n, size))
                blocked.append(n + "/")
        inside = [n for n in parallel if n + "/" not in blocked]
        return (*steps, Order((*blocked, *order)), Parallel((*blocked, *inside)))

    return Space(spec, "wide", default_schedule(spec, target), knobs, build, lambda c: 0.0)
