"""Schedules for sums of products: matrix products, convolutions of every kind, attention scores, einsum.

The vector axis lies along the output, MR x NR accumulators stay in registers over the whole sum, the operand
with the vector axis is read from panels: the micro-kernel of Goto and van de Geijn (Anatomy of high-performance matrix
multiplication, 2008). Tiles come from a small cost model over the exact extents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.facts import LANES, narrow_types, reads, spread
from nnjit.codegen.schedule.steps import Block, Order, Pack, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wasm.target import Target

PACK_ROWS = 12
"""Rows of a product from which packing an activation pays: it is read once to pack, `rows` times to multiply."""
ROW_BLOCK = 672 * 1024
"""Bytes of a block of rows, beside the panel inside a second-level cache of a megabyte."""
MIN_ROWS = 150
"""Rows that a block has at least: fewer use a panel too seldom."""
WIDEST = 12
"""Vectors of a tile at most: for a single row 12 read a matrix from memory 1.2 times as fast as 8."""
FEW = 4
"""Rows of a product up to which the matrix is read from memory no faster than any tile multiplies ..."""
SPARED = 1.4
"""... so that the model may say so many times as long for panels that need not be made ..."""
SPARED_MANY = 1.1
"""... and of more rows so many times."""
SHARES = 16
"""Tiles a thread from which their number need not be a multiple of the threads."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A sum of a * b: `axis` goes into lanes and is one of b's; `rows` are the axes that b ignores, those that lie
    closest in a first."""

    spec: KernelSpec
    stage: Stage
    a: Access
    b: Access
    axis: Axis
    rows: list[Axis]

    @property
    def depthwise(self) -> bool:
        """Both factors follow the vector axis: each lane is a sum of its own."""
        return self.axis.name in set(self.a.axes())

    @property
    def batch(self) -> list[Axis]:
        """Axes of both factors: outermost loops."""
        shared = set(self.a.axes()) & set(self.b.axes())
        return [x for x in self.spec.axes if x.name in shared and x is not self.axis]


def contraction(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule of a sum of products; None for any other spec."""
    f = factors(spec)
    if f is None:
        return None
    return product(f, target)


def factors(spec: KernelSpec, guarded: bool = False) -> Factors | None:
    """A spec seen as one sum of products of two plain (or guarded) reads."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or not narrow_types(spec, s):
        return None
    if s.axes or not s.reduce:
        return None
    sides = [reads(a) for a in s.body.args]
    if any(len(r) != 1 or (r[0].guard and not guarded) for r in sides):
        return None
    a, b = sides[0][0], sides[1][0]
    axis = _vector_axis(spec, s, set(a.axes()), set(b.axes()))
    if axis is None:
        return None
    if axis.name not in set(b.axes()):
        a, b = b, a
    in_a, in_b = set(a.axes()), set(b.axes())
    rows = [x for x in spec.axes if x is not axis and x.name not in in_b and x.name in in_a]
    rows.sort(key=lambda x: abs(a.index.coeff(x.name)))
    return Factors(spec, s, a, b, axis, rows)


@dataclass(frozen=True, slots=True)
class ProductTile:
    """What a product's schedule is made of: `rows` of axis `axis` ("" if b has all axes) by `vectors` of accumulators,
    `unroll` steps of the sum at a time, `block` rows to a block (0: none), b from panels or as it lies, and which
    of the two loops is outside."""

    axis: str
    rows: int
    vectors: int
    unroll: int = 2
    block: int = 0
    pack: bool = True
    rows_outside: bool = False


def product(f: Factors, target: Target) -> Schedule:
    """MR rows by NV vectors of accumulators; the rows axis and both factors by the cost model."""
    return product_schedule(f, product_tile(f, target), target)


def product_schedule(f: Factors, t: ProductTile, target: Target) -> Schedule:
    """The schedule with exactly these parameters."""
    steps: list[Step] = [Tile(f.axis.name, t.vectors * LANES), Vectorize(f.axis.name, LANES)]
    tiles = {f.axis.name: t.vectors * LANES}
    if t.axis and t.rows > 1:
        steps.append(Tile(t.axis, t.rows))
        tiles[t.axis] = t.rows
    if t.unroll > 1:
        steps.append(Unroll(f.stage.reduce[-1].name, t.unroll))
    if t.pack:
        steps.append(Pack(f.b.operand, f.axis.name))
    inner = [x.name for x in reversed(f.rows) if x.name != t.axis] + ([t.axis] if t.axis else [])
    order, parallel = loops(f, inner, tiles, target, t.rows_outside)
    return (*steps, *(blocked(t.axis, t.block, order, parallel) if t.block else (order, parallel)))


def product_tile(f: Factors, target: Target) -> ProductTile:
    """The cost model's choice."""
    m, mr, nv = None, 1, 1
    best = float("inf")
    for x in f.rows or (None,):
        beside = prod(e.extent for e in f.spec.axes if e is not x and e is not f.axis)
        rows, vectors, cost = register_tile(x.extent if x else 1, f.axis.extent, target, beside, either=True)
        cost /= x.extent if x else 1
        if cost < best * 0.98:  # an axis whose rows lie further apart must be clearly better
            m, mr, nv, best = x, rows, vectors, cost
    pack = packs(f, prod(x.extent for x in f.rows))
    block = row_block(f, m, mr, nv * LANES, target)
    return ProductTile(m.name if m else "", mr, nv, sum_unroll(f), block, pack)


def product_candidates(f: Factors, target: Target) -> Iterator[Schedule]:
    """Every legal register tile with the model's other choices, best guess first; then, for the best three, the other
    unrollings, loop orders and reads of b."""
    first = product_tile(f, target)
    yield product_schedule(f, first, target)
    extents = {x.name: x.extent for x in f.rows} or {"": 1}
    axes = {x.name: x for x in f.rows}
    ranked: list[tuple[float, ProductTile]] = []
    for name, extent in extents.items():
        for rows, vectors, cost in register_tiles(extent, f.axis.extent, target, either=True):
            block = row_block(f, axes.get(name), rows, vectors * LANES, target)
            ranked.append((cost / extent, replace(first, axis=name, rows=rows, vectors=vectors, block=block)))
    ranked.sort(key=lambda c: c[0])
    for _, t in ranked:
        if t != first:
            yield product_schedule(f, t, target)
    for t in (first, *(t for _, t in ranked[:3] if t != first)):
        for unroll in (1, 2, 4, 8):
            if unroll != t.unroll and unroll <= f.stage.reduce[-1].extent:
                yield product_schedule(f, replace(t, unroll=unroll), target)
        if t.axis:
            yield product_schedule(f, replace(t, block=0, rows_outside=True), target)
        if t.block:
            yield product_schedule(f, replace(t, block=0), target)
        if packs(f, PACK_ROWS):
            yield product_schedule(f, replace(t, pack=not t.pack), target)


def other_panels(spec: KernelSpec, target: Target) -> Iterator[Schedule]:
    """Schedules like `contraction`'s with panels of other widths, for constants that have such panels in memory: those
    that hardly take longer by the model, best first."""
    f = factors(spec)
    if f is None:
        return
    first = product_tile(f, target)
    m = next((x for x in f.rows if x.name == first.axis), None)
    extent, rows = m.extent if m else 1, prod(x.extent for x in f.rows)
    beside = prod(e.extent for e in spec.axes if e is not m and e is not f.axis)
    widths: dict[int, tuple[float, int]] = {}
    for mr, nv, cycles in register_tiles(extent, f.axis.extent, target, either=True):
        tiles = -(-extent // mr) * -(-f.axis.extent // (nv * LANES)) * beside
        cost = cycles * uneven(tiles, target)
        if rows <= FEW or mr > 1:  # many rows one at a time would read the panel as often
            widths[nv] = min((cost, mr), widths.get(nv, (cost, mr)))
    if first.vectors not in widths:
        return
    least = widths.pop(first.vectors)[0]
    for nv, (cost, mr) in sorted(widths.items(), key=lambda w: w[1]):
        if cost <= least * (SPARED if rows <= FEW else SPARED_MANY):
            block = row_block(f, m, mr, nv * LANES, target)
            yield product_schedule(f, replace(first, rows=mr, vectors=nv, block=block), target)


def sum_unroll(f: Factors) -> int:
    """Steps of the sum in one loop body: all of a very short one; measured best for 6x8 on x86, two of a long one."""
    n = f.stage.reduce[-1].extent
    return n if n <= 3 else 4 if n % 4 == 0 and n <= 16 else 2


def row_block(f: Factors, m: Axis | None, mr: int, columns: int, target: Target) -> int:
    """Rows in a block that stays in the second cache while all columns pass by, a tile of `columns` at a time; 0 for no
    blocks. Threads get equally many of the blocks' tiles.

    Measured in Chromium: 640 rows of 3 KiB 5% faster in blocks of 216. 384 such rows, or rows of 12 KiB, of
    which too few fit to use a panel often enough, are faster without."""
    if m is None or len(f.rows) != 1 or f.batch or f.axis.extent <= max(columns, 4 * LANES):
        return 0
    row = 4 * prod(r.extent for r in f.stage.reduce if f.a.index.coeff(r.name))
    if m.extent * row <= 2 * ROW_BLOCK or MIN_ROWS * row > ROW_BLOCK:
        return 0
    least = -(-m.extent * row // ROW_BLOCK)
    across = -(-f.axis.extent // columns)
    blocks = min(range(least, least + target.threads), key=lambda n: uneven(n * across, target))
    return -(-m.extent // (blocks * mr)) * mr


def loops(
    f: Factors, inner: list[str], tiles: dict[str, int], target: Target, rows_outside: bool = False
) -> tuple[Order, Parallel]:
    """Batch axes, then tiles of the vector axis (its panel stays in cache over the rows), then rows."""
    batch = [x.name for x in f.batch]
    rest = [x.name for x in f.spec.axes if x.name not in (*batch, *inner, f.axis.name)]
    order = [*batch, *rest, *((*inner, f.axis.name) if rows_outside else (f.axis.name, *inner))]
    return Order(tuple(order)), Parallel(tuple(spread(f.spec, order, tiles, target)))


def blocked(axis: str, block: int, order: Order, parallel: Parallel) -> Schedule:
    """The loops with one over blocks of `axis` around them; of the parallel ones those outside `axis` stay."""
    outer = takewhile(lambda n: n != axis, parallel.axes)
    return Block(axis, block), Order((axis + "/", *order.axes)), Parallel((axis + "/", *outer))


def packs(f: Factors, rows: int) -> bool:
    """Whether b is read from panels: always a constant, an activation if enough rows use it, and no gather.
    Panels that would equal the source (one tile of it) are not copied."""
    if f.b.operand < 0 or any(not isinstance(x, str) for x, _ in f.b.index.terms):
        return False
    if not f.spec.operands[f.b.operand].const and rows < PACK_ROWS:
        return False
    return not (f.b.index.coeff(f.axis.name) == 1 and f.axis.extent <= LANES)


def _vector_axis(spec: KernelSpec, s: Stage, in_a: set[str], in_b: set[str]) -> Axis | None:
    """The shared axis to put in lanes: contiguous in the output first, then contiguous in either factor."""
    assert s.body is not None
    best, score = None, 0.0
    for x in spec.axes:
        if x.name not in in_a | in_b or x.extent < 2:
            continue
        points = min(x.extent, 64) / 64
        points += 2.0 if s.index.coeff(x.name) == 1 else 0.0
        if x.extent < LANES:
            points -= 2.0
        b_index = next(r.index for arg in s.body.args for r in reads(arg) if x.name in set(r.axes()))
        points += 1.0 if spec.operands[_operand(s, x.name)].const or b_index.coeff(x.name) == 1 else 0.0
        if (x.name in in_a) != (x.name in in_b):
            points += 0.25
        if points > score:
            best, score = x, points
    return best


def _operand(s: Stage, axis: str) -> int:
    assert s.body is not None
    ops = [r.operand for arg in s.body.args for r in reads(arg) if axis in set(r.axes())]
    return ops[-1]


def register_tile(
    rows_extent: int, columns: int, target: Target, beside: int = 1, either: bool = False
) -> tuple[int, int, float]:
    """(rows, vectors, cycles) of the accumulator tile with the least modelled time over the whole extent.

    beside: how many such extents there are. Where all of that is only a few tiles, one that threads share evenly
    is better: two threads do three tiles no faster than four."""
    best, cost = (1, 1), float("inf")
    for mr, nv, total in register_tiles(rows_extent, columns, target, either):
        tiles = -(-rows_extent // mr) * -(-columns // (nv * LANES)) * beside
        total *= 1.0 if tiles >= SHARES * target.threads else uneven(tiles, target)
        if total < cost * 0.999:
            best, cost = (mr, nv), total
    return (*best, cost)


def uneven(tiles: int, target: Target) -> float:
    """How much longer the longest share takes than an even one would; shares of many tiles are even enough."""
    return 1.0 if tiles >= SHARES * target.threads else -(-tiles // target.threads) * target.threads / tiles


def register_tiles(
    rows_extent: int, columns: int, target: Target, either: bool = False
) -> Iterator[tuple[int, int, float]]:
    """Every accumulator tile that, with its operands, fits the registers that do not spill: (rows, vectors, cycles).

    Beside the accumulators a tile needs its vectors of b and one number of a or, with `either`, its numbers of a and
    one vector of b, if these are fewer.

    A step of k costs the larger of: multiply-adds at 2 a cycle, loads at 2 a cycle, and 4 cycles of latency
    through each accumulator; beside that, each load costs a little, a number of a more than a vector of b (2x6 was 1
    to 3% faster than 6x2), and so does the loop. Cycles are for one step of k over the whole extent, tails by their own
    size."""
    widest = -(-columns // LANES)
    most = min(widest, WIDEST)
    for nv in range(most, 0, -1) if either else range(1, most + 1):
        for mr in range(1, min(rows_extent, 13) + 1):
            held = min(mr, nv) if either or mr == 1 else nv
            if mr * nv > 1 and mr * nv + held + 1 > target.registers:
                break
            total = 0.0
            full_m, tail_m = divmod(rows_extent, mr)
            full_n, tail_n = divmod(widest, nv)
            for rm, cm in ((mr, full_m), (tail_m, 1 if tail_m else 0)):
                for rn, cn in ((nv, full_n), (tail_n, 1 if tail_n else 0)):
                    step = max(rm * rn / 2, (rn + rm) / 2, 4.0)
                    total += cm * cn * (step + 0.06 * rn + 0.1 * rm + 0.3)
            yield mr, nv, total
