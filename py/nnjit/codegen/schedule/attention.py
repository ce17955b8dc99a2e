"""Schedules for attention: a product into scratch memory, stages along its rows, a product out of it.

A block of query rows goes through all stages before the next block begins, so that its scores stay in a cache.
Both products have register tiles of rows by vectors, as any product; keys and values are read from panels. Where
there are few rows (one token at a time) nothing is packed: scores are dot products along the keys' rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.contraction import PACK_ROWS, register_tiles
from nnjit.codegen.schedule.facts import LANES, narrow_types, reads, spread
from nnjit.codegen.schedule.steps import (
    Block,
    Distribute,
    Fold,
    Order,
    Pack,
    Parallel,
    Partial,
    Schedule,
    Skip,
    Step,
    Tile,
    Unroll,
    Vectorize,
)
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

SCORES = 192 * 1024
"""Bytes of scores that a block of rows may have: with a panel of keys or values inside a second-level cache."""
MOST_ROWS = 24
"""Rows of a block. Measured in Chromium at 12x384x64 and 12x1024x64: blocks of 12 to 192 rows are within 2% of each
other; with a causal mask those of 96 skip 7% less time, those of 192 17% less."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A spec seen as attention: scores[n] = sum over d of q * k; stages over `along`; sum over k of scores * v."""

    spec: KernelSpec
    first: Stage
    last: Stage
    along: tuple[Axis, ...]
    keys: Access
    values: Access
    rows: list[Axis]
    """Shared axes that keys and values ignore: the last is the longest."""

    @property
    def batch(self) -> list[str]:
        return [a.name for a in self.spec.axes if a not in self.rows]


@dataclass(frozen=True, slots=True)
class AttentionTile:
    """What a schedule for many rows is made of: `rows` by `keys` and by `values` vectors of accumulators, `block`
    rows to a block."""

    rows: int
    keys: int
    values: int
    block: int


def attention(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a spec that writes scores to scratch memory first; None for any other."""
    if spec.scratch < 0 or spec.stages[0].keep:
        return None
    s = shape(spec)
    if s is None:
        return (Parallel(tuple(spread(spec, [a.name for a in spec.axes], {}, target))),) if spec.axes else ()
    if prod(a.extent for a in s.rows) < PACK_ROWS:
        return few_rows(s, target)
    return many_rows(s, tile(s, target), target)


def shape(spec: KernelSpec) -> Shape | None:
    """The parts of an attention spec in f32; None where it is something else."""
    if len(spec.stages) < 3 or not all(narrow_types(spec, s) for s in spec.stages):
        return None
    first, *middle, last = spec.stages
    if first.out != spec.scratch or len(first.axes) != 1 or len(last.axes) != 1:
        return None
    if any(len(s.reduce) != 1 or s.axes or not s.keep for s in middle):
        return None
    keys = _factor(first, first.axes[0].name)
    values = _factor(last, last.axes[0].name)
    if keys is None or values is None or len(first.reduce) != 1 or len(last.reduce) != 1:
        return None
    along = tuple(s.reduce[0] for s in middle)
    if any(a.extent < LANES for a in (first.axes[0], last.axes[0], *along)):
        return None
    known = {*keys.axes(), *values.axes()}
    rows = sorted((a for a in spec.axes if a.name not in known), key=lambda a: a.extent)
    return Shape(spec, first, last, along, keys, values, rows)


def _factor(s: Stage, axis: str) -> Access | None:
    """The factor of a sum of products that varies along the stage's own axis; None if this is no such sum."""
    if s.combine != "sum" or s.body is None or s.body.op != "mul":
        return None
    sides = [reads(a) for a in s.body.args]
    if any(
        len(r) != 1 or r[0].guard or any(not isinstance(t, str) for t, _ in r[0].index.terms) for r in sides
    ):
        return None
    found = [r[0] for r in sides if axis in set(r[0].axes())]
    return found[0] if len(found) == 1 else None


def tile(s: Shape, target: Target) -> AttentionTile:
    """The cost model's choice: of the tiles whose rows suit both products, those of the least cycles."""
    rows, n, e = s.rows[-1].extent, s.first.axes[0].extent, s.last.axes[0].extent
    best: dict[int, tuple[int, int, float]] = {}
    for mr, nv, cycles in register_tiles(rows, n, target):
        have = best.get(mr, (0, 0, float("inf")))
        if cycles * s.first.reduce[0].extent < have[2]:
            best[mr] = (nv, 0, cycles * s.first.reduce[0].extent)
    total: dict[int, tuple[int, int, float]] = {}
    for mr, nv, cycles in register_tiles(rows, e, target):
        cost = best[mr][2] + cycles * n
        if mr not in total or cost < total[mr][2]:
            total[mr] = (best[mr][0], nv, cost)
    mr = min(total, key=lambda r: total[r][2])
    return AttentionTile(mr, total[mr][0], total[mr][1], block_rows(rows, mr, 4 * n))


def block_rows(rows: int, mr: int, row_bytes: int) -> int:
    """Rows in a block: whole register tiles, as many as the scores leave room for, all blocks about equal."""
    most = max(1, min(MOST_ROWS, SCORES // row_bytes) // mr)
    blocks = -(-rows // (most * mr))
    return -(-rows // (blocks * mr)) * mr


def many_rows(s: Shape, t: AttentionTile, target: Target) -> Schedule:
    """Blocks of the longest rows axis, packed keys and values."""
    row, n, e = s.rows[-1].name, s.first.axes[0], s.last.axes[0]
    d, k = s.first.reduce[0], s.last.reduce[0]
    steps: list[Step] = [Tile(n.name, t.keys * LANES), Vectorize(n.name, LANES)]
    steps += [Tile(e.name, t.values * LANES), Vectorize(e.name, LANES), Unroll(d.name, 2), Unroll(k.name, 2)]
    if t.rows > 1:
        steps.append(Tile(row, t.rows))
    parts = 1 if t.rows >= 4 else 4
    for name in dict.fromkeys(a.name for a in s.along):
        steps.append(Vectorize(name, LANES))
        if parts > 1:
            steps.append(Partial(name, parts))
    for factor, axis in ((s.keys, n), (s.values, e)):
        if axis.extent > LANES:
            steps.append(Pack(factor.operand, axis.name))
    if s.spec.useful:
        steps.append(Skip(lcm(t.keys * LANES, parts * LANES, 2)))
        # later rows have more to do: so a thread's share of the blocks is a share of the work
        steps += [Fold(row + "/")] if target.threads > 1 else []
    outer = (*s.batch, *(a.name for a in s.rows[:-1]), row + "/")
    return (*steps, Block(row, t.block), Order((*outer, row)), Parallel(outer), Distribute((row,)))


def few_rows(s: Shape, target: Target) -> Schedule:
    """One token or a few: keys are read as they lie, along their rows; a tile of query rows shares each read."""
    n, e, d = s.first.axes[0], s.last.axes[0], s.first.reduce[0]
    row = s.rows[-1] if s.rows and s.rows[-1].extent > 1 else None
    mr = min(row.extent, 4) if row is not None else 1
    dots = s.keys.index.coeff(d.name) == 1 and d.extent >= LANES
    along = d if dots else n
    keys = _most(target, mr, 6) * (1 if dots else LANES)
    # of the value's columns a tile that divides them: measured 1.4 times faster than one that leaves a rest
    columns = -(-e.extent // LANES)
    values = max((v for v in range(1, _most(target, mr, 8) + 1) if columns % v == 0), default=1)
    steps: list[Step] = [Vectorize(along.name, LANES), Tile(n.name, keys)]
    steps += [Vectorize(e.name, LANES), Tile(e.name, LANES * values), Unroll(s.last.reduce[0].name, 2)]
    parts = 4 if mr == 1 else 2
    for name in dict.fromkeys(a.name for a in s.along):
        steps += [Vectorize(name, LANES), Partial(name, parts)]
    if s.spec.useful:
        steps.append(Skip(lcm(keys, parts * LANES, 2)))
    outer = (*s.batch, *(a.name for a in s.rows if a is not row))
    if row is None:
        return (*steps, Order(outer), Parallel(tuple(spread(s.spec, list(outer), {}, target))))
    if mr > 1:
        steps.append(Tile(row.name, mr))
    return (*steps, Order((*outer, row.name)), Parallel(outer), Distribute((row.name,)))


def _most(target: Target, rows: int, limit: int) -> int:
    """Accumulators beside each other for each of `rows`, that fit the registers with what they are made of."""
    return max(t for t in range(1, limit + 1) if t == 1 or rows * t + min(rows, t) + 1 <= target.registers)
