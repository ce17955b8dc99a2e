"""Spaces of sums of products: matrix products and convolutions by register tiles, depthwise ones by windows.

Takes a spec, its default schedule and the device; gives a Space, or None for any other spec.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.schedule.contraction import Factors, factors
from nnjit.codegen.schedule.facts import LANES, spread
from nnjit.codegen.schedule.guards import borders
from nnjit.codegen.schedule.inner import InnerTile, inner_schedule, inner_tiles, sum_axis
from nnjit.codegen.schedule.int8 import small_factors
from nnjit.codegen.schedule.steps import (
    Block,
    Dot,
    Order,
    Pack,
    Parallel,
    Peel,
    Schedule,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.wasm.target import Target
from nnjit.tune.cost import spills, tile_cycles
from nnjit.tune.device import DeviceFacts
from nnjit.tune.space import Choice, Knob, Space

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 16)
VECTORS = (1, 2, 3, 4, 5, 6, 8)
"""Of four lanes, in the columns of a register tile."""
UNROLLS = (1, 2, 4, 8)
"""Steps of the sum in one loop body."""
WORST = 1.5
"""Tiles whose modelled time is beyond this multiple of the best one's are left out."""


def products(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """Register tiles of MR rows by NV vectors; which rows, the sum's unrolling, blocks of rows, loop order, panels."""
    dots = tuple(s for s in default if isinstance(s, Dot))
    f = small_factors(spec) if dots else factors(spec)
    if f is None or (f.depthwise and f.rows) or not _tiled(default, f.axis.name):
        return None
    packs = tuple(s for s in default if isinstance(s, Pack))
    rows = {x.name: x for x in f.rows}
    last = f.stage.reduce[-1]
    known = [s.axis for s in default if isinstance(s, Tile) and s.axis in rows]
    names = (*known, *(n for n in reversed(rows) if n not in known))
    row_bytes = (1 if dots else 4) * prod(r.extent for r in f.stage.reduce if f.a.index.coeff(r.name))
    blocks = _blocks(f, row_bytes, facts)
    whole = (last.extent,) if last.extent <= 12 else ()
    first = next((s.factor for s in default if isinstance(s, Unroll) and s.axis == last.name), 1)
    unrolls = tuple(dict.fromkeys((first, *(u for u in UNROLLS if u <= max(1, last.extent)), *whole)))
    knobs = (
        Knob("m", names or ("",)),
        Knob("mr", ROWS if names else (1,)),
        Knob("nv", tuple(v for v in VECTORS if v <= max(1, -(-f.axis.extent // LANES)))),
        Knob("unroll", unrolls),
        Knob("block", blocks),
        Knob("outer", ("columns", "rows") if names else ("columns",)),
        Knob("pack", (True,) if dots else (True, False) if packs else (False,)),
    )
    cycles = {
        (m, mr, nv): tile_cycles(extent, f.axis.extent, mr, nv) / extent
        for m, extent in [(x.name, x.extent) for x in f.rows] or [("", 1)]
        for mr in knobs[1].values
        for nv in knobs[2].values
        if mr <= extent and not spills(mr, nv, target.registers)
    }
    least = min(cycles.values())
    modelled = {tile: c / least for tile, c in cycles.items() if c <= WORST * least}

    def build(c: Choice) -> Schedule:
        m, mr, nv, block = c["m"], c["mr"], c["nv"], c["block"]
        tiles = {f.axis.name: nv * LANES}
        steps: list[Step] = [Tile(f.axis.name, nv * LANES), Vectorize(f.axis.name, LANES)]
        if m and mr > 1:
            steps.append(Tile(m, mr))
            tiles[m] = mr
        if c["unroll"] > 1:
            steps.append(Unroll(last.name, c["unroll"]))
        if c["pack"]:
            steps += [*dots, *packs]
        inner = [x for x in rows if x != m] + ([m] if m else [])
        batch = [x.name for x in f.batch]
        rest = [x.name for x in spec.axes if x.name not in (*batch, *inner, f.axis.name)]
        middle = [f.axis.name, *inner] if c["outer"] == "columns" else [*inner, f.axis.name]
        order = [*batch, *rest, *middle]
        parallel = spread(spec, order, tiles, target)
        if m and block:
            size = max(1, block // mr) * mr
            steps.append(Block(m, size))
            order = [m + "/", *order]
            parallel = [m + "/", *(n for n in parallel if n != m)]
        return (*steps, Order(tuple(order)), Parallel(tuple(parallel)))

    def cost(c: Choice) -> float | None:
        m, mr, nv, block = c["m"], c["mr"], c["nv"], c["block"]
        cycles = modelled.get((m, mr, nv))
        if cycles is None:
            return None
        extent = rows[m].extent if m else 1
        if block and (c["outer"] == "rows" or block >= extent or block < 2 * mr):
            return None
        if c["unroll"] * mr * nv > 96:  # the loop's body leaves the decoded instructions' cache
            return None
        cycles *= 1.0 if c["unroll"] == first else 1.01 if c["unroll"] > 1 else 1.03
        cycles *= 1.015 if block else 1.0
        cycles *= 1.04 if c["outer"] == "rows" else 1.0
        return cycles * (1.0 if c["pack"] or not packs else 1.12)

    return Space(spec, "product", default, knobs, build, cost)


def windows(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """Depthwise convolutions: outputs side by side that share inputs, vectors of channels, which loops to unroll."""
    f = factors(spec, guarded=True)
    if f is None or not f.depthwise or not f.rows or f.b.guard or not _tiled(default, f.axis.name):
        return None
    padded = f.rows if f.a.guard else []
    packs = tuple(s for s in default if isinstance(s, Pack))
    rows = {x.name: x for x in f.rows}
    known = [s.axis for s in default if isinstance(s, Tile) and s.axis in rows]
    near = min(rows.values(), key=lambda x: (abs(f.a.index.coeff(x.name)), -x.extent)).name
    names = tuple(dict.fromkeys((*known, near, *rows)))
    sums = [r for r in f.stage.reduce if f.a.index.coeff(r.name)]
    unrolled = tuple(s for s in default if isinstance(s, Unroll))
    all_of_them = tuple(Unroll(r.name, r.extent) for r in sums)
    inner = min(sums, key=lambda r: abs(f.a.index.coeff(r.name)), default=None)
    one = (Unroll(inner.name, inner.extent),) if inner else ()
    knobs = (
        Knob("m", names),
        Knob("mr", tuple(range(1, 14))),
        Knob("nv", (1, 2, 3, 4)),
        Knob("unroll", tuple(dict.fromkeys((unrolled, one, all_of_them, ())))),
        Knob("outer", ("columns", "rows")),
        Knob("pack", (True, False) if packs else (False,)),
    )

    def build(c: Choice) -> Schedule:
        m, mr, nv = c["m"], c["mr"], c["nv"]
        steps: list[Step] = [Tile(f.axis.name, nv * LANES), Vectorize(f.axis.name, LANES), *c["unroll"]]
        tiles = {f.axis.name: nv * LANES, m: mr}
        if mr > 1:
            steps.append(Tile(m, mr))
        if c["pack"]:
            steps += packs
        for x in padded:
            first, last = borders(spec, x, tiles.get(x.name, 1))
            if first or last:
                steps.append(Peel(x.name, first, last))
        across = [*(x for x in rows if x != m), m]
        batch = [x.name for x in f.batch if x.name != f.axis.name]
        rest = [x.name for x in spec.axes if x.name not in (*batch, *across, f.axis.name)]
        middle = [f.axis.name, *across] if c["outer"] == "columns" else [*across, f.axis.name]
        order = [*batch, *rest, *middle]
        return (*steps, Order(tuple(order)), Parallel(tuple(spread(spec, order, tiles, target))))

    taps = prod(r.extent for r in sums) or 1
    near_taps = inner.extent if inner else 1
    stride = abs(f.a.index.coeff(near)) // max(1, abs(f.a.index.coeff(inner.name))) if inner else 1

    def cost(c: Choice) -> float | None:
        m, mr, nv, extent = c["m"], c["mr"], c["nv"], rows[c["m"]].extent
        vectors = -(-f.axis.extent // LANES)
        copies = mr * nv * prod(u.factor for u in c["unroll"])
        if mr > extent or nv > vectors or copies > 128:
            return None
        shared = bool(c["unroll"]) and m == near
        inputs = ((mr - 1) * max(1, stride) + near_taps) if shared else mr * near_taps
        live = mr * nv + min(inputs, 4 if nv > 1 else mr) + 1
        if mr * nv > 1 and live > target.registers + (2 if nv > 1 else 0):
            return None
        full, rest = divmod(extent, mr)
        body = max(mr * near_taps / 2, (inputs + near_taps) / 2) * nv + 1.0
        total = (full * body + (rest * near_taps * nv + 1.0 if rest else 0.0)) * -(-vectors // nv)
        each = total / extent / vectors * taps / near_taps
        each *= 1.0 if c["unroll"] == unrolled else 1.05
        each *= 1.05 if c["outer"] == "columns" else 1.0
        each *= 1.0 if c["pack"] or not packs else 1.1
        return float(each)

    return Space(spec, "window", default, knobs, build, cost)


def inners(spec: KernelSpec, default: Schedule, target: Target, facts: DeviceFacts) -> Space | None:
    """Products with the summed axis in lanes: rows, columns and partial sums of a tile."""
    f = factors(spec)
    k = sum_axis(f) if f is not None else None
    if f is None or k is None or not _tiled(default, k.name):
        return None
    cycles = {(t.axis, t.rows, t.columns, t.parts): (t, c) for t, c in inner_tiles(f, k, target)}
    if not cycles:
        return None
    knobs = (
        Knob("m", tuple(x.name for x in f.rows) or ("",)),
        Knob("rows", tuple(range(1, 9))),
        Knob("columns", tuple(range(1, 13))),
        Knob("parts", (1, 2, 3, 4, 8)),
    )

    def tile(c: Choice) -> InnerTile:
        return InnerTile(c["m"], c["rows"], c["columns"], c["parts"])

    def build(c: Choice) -> Schedule:
        known = cycles.get((c["m"], c["rows"], c["columns"], c["parts"]))
        return inner_schedule(f, k, known[0] if known else tile(c), target)

    def cost(c: Choice) -> float | None:
        known = cycles.get((c["m"], c["rows"], c["columns"], c["parts"]))
        return known[1] if known else None

    return Space(spec, "inner", default, knobs, build, cost)


def _blocks(f: Factors, row_bytes: int, facts: DeviceFacts) -> tuple[int, ...]:
    """Rows in a block: none, and what half the second cache, all but a panel of it, and the first cache hold."""
    if len(f.rows) != 1 or f.batch:
        return (0,)
    extent = f.rows[0].extent
    sizes = [int(share * facts.l2_bytes / row_bytes) for share in (0.66, 0.33)]
    sizes.append(int(0.5 * facts.l1_bytes / row_bytes))
    even = [-(-extent // -(-extent // n)) for n in sizes if 8 <= n < extent]
    return tuple(dict.fromkeys((0, *even)))


def _tiled(default: Schedule, axis: str) -> bool:
    """Whether the default puts this axis in lanes: another rule may have taken the spec over."""
    return any(isinstance(s, Vectorize) and s.axis == axis for s in default)
