"""Schedules for sums of products whose factors lie along the sum in memory: vectors run along k.

Takes a spec, gives a Schedule, or None where `contraction` is the better rule. Each accumulator holds four partial
sums of one output; b is read where it lies, row by row, so there are no panels to make or to keep. With many rows
a tile does as many multiply-adds a load as one with lanes along the output; what it costs is adding up the
lanes, so short sums go the other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from nnjit.codegen.schedule.contraction import (
    Factors,
    blocked,
    factors,
    packs,
    register_tile,
    row_block,
    uneven,
)
from nnjit.codegen.schedule.facts import LANES, spread
from nnjit.codegen.schedule.steps import Order, Parallel, Partial, Schedule, Step, Tile, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

LEAST = 2 * LANES
"""Terms of a sum below which its lanes are not worth adding up."""
STREAM = 16 << 20
"""Bytes of a matrix that no cache keeps: then one row after another, as the prefetchers like it best."""
STRIP = 256 << 10
"""Bytes of b that may be read again for every strip of rows: half a second-level cache at most."""
ADD_UP = 1.5
"""Cycles to add up an accumulator's lanes and store the sum."""
STEP = 4000.0
"""Cycles of another step before this one: the call and the barrier."""


@dataclass(frozen=True, slots=True)
class InnerTile:
    """`rows` of axis `axis` ("": none) by `columns` outputs, `parts` accumulators each; `block` rows to a block."""

    axis: str
    rows: int
    columns: int
    parts: int = 1
    block: int = 0


def inner(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule with k in lanes, where b may not or need not be packed and it is the faster one by the model."""
    f = factors(spec)
    if f is None:
        return None
    k = sum_axis(f)
    if k is None or k.extent < LEAST:
        return None
    tile, cycles = inner_tile(f, k, target)
    return inner_schedule(f, k, tile, target) if cycles < _other(f, target) else None


def in_place(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a product that reads b where it lies, at the speed of panels; None where b's rows are not
    contiguous along the sum. For a constant that another step reads too: panels would be a second copy of it."""
    f = factors(spec)
    k = sum_axis(f) if f is not None else None
    if f is None or k is None or k.extent < LEAST or f.b.index.coeff(k.name) != 1:
        return None
    return inner_schedule(f, k, inner_tile(f, k, target)[0], target)


def sum_axis(f: Factors) -> Axis | None:
    """The reduced axis that one factor, at least, is contiguous along; along both if there is one."""
    best, most = None, 0
    for r in f.stage.reduce:
        along = [x.index.coeff(r.name) for x in (f.a, f.b)]
        gathered = any(
            not isinstance(t, str) and r.name in t.axes() for x in (f.a, f.b) for t, _ in x.index.terms
        )
        if along.count(1) > most and not gathered and 0 not in along:
            best, most = r, along.count(1)
    return best


def inner_schedule(f: Factors, k: Axis, t: InnerTile, target: Target) -> Schedule:
    """The schedule with exactly these parameters."""
    steps: list[Step] = [Vectorize(k.name, LANES)]
    tiles = {f.axis.name: t.columns, t.axis: t.rows}
    steps += [Partial(k.name, t.parts)] if t.parts > 1 else []
    steps += [Tile(name, size) for name, size in tiles.items() if size > 1]
    # the side with fewer registers is the inner one: each of its values stays in one, the other's come in turn
    inside = [f.axis.name, t.axis] if t.columns >= t.rows else [t.axis, f.axis.name]
    rest = [x.name for x in f.spec.axes if x.name not in inside]
    order = [*rest, *(n for n in inside if n)]
    loops = Order(tuple(order)), Parallel(tuple(spread(f.spec, order, tiles, target)))
    return (*steps, *(blocked(t.axis, t.block, *loops) if t.block else loops))


def inner_tile(f: Factors, k: Axis, target: Target) -> tuple[InnerTile, float]:
    """The tile with the least modelled cycles, and these."""
    return min(inner_tiles(f, k, target), key=lambda c: c[1])


def inner_candidates(f: Factors, target: Target) -> Iterator[Schedule]:
    """Every legal tile, best guess first; none where no factor is contiguous along the sum."""
    k = sum_axis(f)
    if k is not None and k.extent >= LANES:
        for tile, _ in sorted(inner_tiles(f, k, target), key=lambda c: c[1]):
            yield inner_schedule(f, k, tile, target)


def inner_tiles(f: Factors, k: Axis, target: Target) -> Iterator[tuple[InnerTile, float]]:
    """Tiles that fit the registers, and cycles for the whole kernel.

    Four steps of k cost the larger of: multiply-adds at 2 a cycle, loads at 2 a cycle, and 4 cycles of latency
    through each accumulator. A factor that is not contiguous along k is read lane by lane."""
    load = [0.5 if x.index.coeff(k.name) == 1 else 2.5 for x in (f.a, f.b)]
    others = prod(r.extent for r in f.stage.reduce if r is not k)
    steps = -(-k.extent // LANES) * others
    matrix = 4 * k.extent * others * f.axis.extent
    shared = not f.depthwise
    for m in f.rows or (None,):
        extent = m.extent if m else 1
        beside = prod(x.extent for x in f.spec.axes if x is not m and x is not f.axis)
        columns = [_pieces(f.axis.extent, nr) for nr in range(1, 13)]
        for mr in range(1, min(extent, 8) + 1):
            rows = _pieces(extent, mr)
            for nr in range(1, min(f.axis.extent, 12) + 1):
                if mr > nr and extent > mr and matrix > STRIP:
                    continue  # b would pass through the caches for each strip of rows
                tiles = -(-extent // mr) * -(-f.axis.extent // nr) * beside
                longest = beside * uneven(tiles, target)
                block = -1
                for parts in (1, 2, 3, 4, 8):
                    if mr * nr * parts + min(mr, nr) + 1 > target.registers or parts * LANES > k.extent:
                        break
                    if extent == 1 and not _streams(nr, parts, f.axis.extent, matrix * beside):
                        continue
                    cycles = 0.0
                    for rm, cm in rows:
                        for cn, cc in columns[nr - 1]:
                            loads = cn * load[1] + (rm if shared else rm * cn) * load[0]
                            step = max(rm * cn / 2, loads, 4.0 / parts) + 0.16 * loads + 0.3 / parts
                            cycles += cm * cc * (steps * step + rm * cn * (ADD_UP + parts - 1) + 8.0)
                    if block < 0:
                        block = row_block(f, m, mr, nr, target) if nr >= mr else 0
                    cycles *= longest
                    yield InnerTile(m.name if m else "", mr, nr, parts, block), cycles


def _streams(columns: int, parts: int, extent: int, size: int) -> bool:
    """Tiles for a single row: measured, four rows of b side by side from a cache, one after the other from memory."""
    if size > STREAM:
        return columns == 1 and parts in (4, 8)
    return columns == min(4, extent) and parts <= 2


def _pieces(extent: int, tile: int) -> list[tuple[int, int]]:
    """(size, number) of the tiles of an axis: whole ones and the tail."""
    full, rest = divmod(extent, tile)
    return [(tile, full)] * bool(full) + [(rest, 1)] * bool(rest)


def _other(f: Factors, target: Target) -> float:
    """Modelled cycles of `contraction`'s schedule, the packing of an activation included."""
    rows = prod(x.extent for x in f.rows)
    m = max(f.rows, key=lambda x: x.extent, default=None)
    extent = m.extent if m else 1
    terms = prod(r.extent for r in f.stage.reduce)
    beside = prod(x.extent for x in f.spec.axes if x is not m and x is not f.axis)
    mr, _, cost = register_tile(extent, f.axis.extent, target, beside, either=True)
    cycles = cost * terms
    operand = f.spec.operands[f.b.operand]
    if packs(f, rows):
        # as much again for what the panels push out of the caches
        made = 0.0 if operand.const else STEP + 2 * 0.7 * operand.size
        return cycles * beside + made
    if f.b.index.coeff(f.axis.name) not in (0, 1):  # read lane by lane
        cycles += -(-extent // mr) * -(-f.axis.extent // LANES) * 2.0 * terms
    return cycles * beside


__all__ = ["InnerTile", "in_place", "inner", "inner_candidates", "inner_schedule", "inner_tile", "sum_axis"]
