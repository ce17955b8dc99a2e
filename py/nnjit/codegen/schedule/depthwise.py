"""Schedules for depthwise convolutions: sums of products in which each lane is a channel of its own.

Nothing is shared between lanes, so what a tile can reuse is the window: neighbouring outputs read the same inputs.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.schedule.contraction import Factors, factors, packs
from nnjit.codegen.schedule.facts import LANES, spread
from nnjit.codegen.schedule.guards import borders
from nnjit.codegen.schedule.steps import Order, Pack, Parallel, Peel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

WINDOW = 9
"""A window of at most this many points is unrolled whole."""
AROUND = 2.0
"""Cycles of a tile beside its multiply-adds."""


def depthwise(spec: KernelSpec, target: Target) -> Schedule | None:
    """Neighbours along the fastest spatial axis share the reads of their windows.

    The window is unrolled along that axis, so that each input vector is loaded once for all the outputs of
    the tile it belongs to: t outputs of a window of w read (t - 1) * stride + w vectors, not t * w."""
    f = factors(spec, guarded=True)
    if f is None or not f.depthwise or not f.rows or f.b.guard:
        return None
    m = min(f.rows, key=lambda x: (abs(f.a.index.coeff(x.name)), -x.extent))
    window = [r for r in f.stage.reduce if f.a.index.coeff(r.name)]
    near = min(window, key=lambda r: abs(f.a.index.coeff(r.name)), default=None)
    steps: list[Step] = [Tile(f.axis.name, LANES), Vectorize(f.axis.name, LANES)]
    mr = 1
    if near is not None and near.extent <= WINDOW:
        mr = _window_tile(m, near, f, target)
        steps.append(Unroll(near.name, near.extent))
        others = [r for r in f.stage.reduce if r is not near]
        if near.extent * prod(r.extent for r in others) <= WINDOW:
            steps += [Unroll(r.name, r.extent) for r in others]
    else:
        mr = min(m.extent, 6)
    tiles = {f.axis.name: LANES, m.name: mr}
    if mr > 1:
        steps.append(Tile(m.name, mr))
    if packs(f, prod(x.extent for x in f.rows)):
        steps.append(Pack(f.b.operand, f.axis.name))
    for x in f.rows if f.a.guard else ():
        first, last = borders(spec, x, tiles.get(x.name, 1))
        if first or last:
            steps.append(Peel(x.name, first, last))
    return (*steps, *_order(f, m, tiles, target))


def _order(f: Factors, m: Axis, tiles: dict[str, int], target: Target) -> tuple[Order, Parallel]:
    """Channels are innermost: a cache line holds those of four vectors, and an image is read from front to back.
    The weights of a window are read again for each tile whatever the order is."""
    outer = [x.name for x in reversed(f.rows) if x is not m]
    batch = [x.name for x in f.batch]
    rest = [x.name for x in f.spec.axes if x.name not in (*batch, *outer, m.name, f.axis.name)]
    order = [*batch, *rest, *outer, m.name, f.axis.name]
    return Order(tuple(order)), Parallel(tuple(spread(f.spec, order, tiles, target)))


def _window_tile(m: Axis, near: Axis, f: Factors, target: Target) -> int:
    """Outputs in a tile: the fewest cycles for the whole axis while they, and an input for each, fit the registers."""
    step, tap = f.a.index.coeff(m.name), f.a.index.coeff(near.name)
    lines = prod(r.extent for r in f.stage.reduce if r is not near)
    best, cost = 1, float("inf")
    for t in range(1, min(m.extent, (target.registers - 1) // 2) + 1):
        inputs = {i * step + k * tap for i in range(t) for k in range(near.extent)}
        full, rest = divmod(m.extent, t)
        cycles = lines * max(t * near.extent / 2, (len(inputs) + near.extent) / 2) + AROUND
        total = full * cycles + (lines * rest * near.extent + AROUND if rest else 0.0)
        if total < 0.99 * cost:
            best, cost = t, total
    return best
