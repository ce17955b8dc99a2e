"""Schedules for sums of products with a few columns and many rows: lanes are rows, although these lie apart in memory.

Takes a spec, gives a Schedule, or None where another rule is the better one. A network that ends in one or a few
channels, a product with a matrix of two columns: lanes along the sum would have to be added up for every output, and
what follows the sum would be done one output at a time. Four terms of four rows are read as they lie and transposed
in registers (`wasm/strided.py`); all that comes after has four outputs a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.contraction import factors
from nnjit.codegen.schedule.facts import LANES, spread, values
from nnjit.codegen.schedule.inner import inner_tiles, sum_axis
from nnjit.codegen.schedule.steps import Order, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wasm.target import Target

COLUMNS = 8
"""Outputs of a row beyond which their accumulators leave no register for the rows."""
LONG = frozenset({"exp", "decay", "log", "tanh", "erf", "sin", "cos", "atan", "pow"})
POLYNOMIAL = 15
"""Operations of one of these."""
CLEARLY = 0.75
"""Of the other rule's modelled time. Measured in Chromium, rows of 8 to 768 terms, nothing after the sum: two columns
take 0.5 of its time with 8 terms and 0.95 from 24 on, one column 0.8 with 8 and as long with 16."""


@dataclass(frozen=True, slots=True)
class Crosswise:
    """`axis` goes into lanes, `terms` is the axis of the sum that rows are contiguous along, `columns` are the axes of
    the smaller factor alone, `rows` the other axes of the larger one alone."""

    spec: KernelSpec
    axis: Axis
    terms: Axis
    columns: tuple[Axis, ...]
    rows: tuple[Axis, ...]

    @property
    def outputs(self) -> int:
        """Of a row."""
        return prod(x.extent for x in self.columns)


def crosswise(spec: KernelSpec, target: Target) -> Schedule | None:
    """The schedule with rows in lanes, where the model expects it to be the fastest."""
    c = shape_of(spec)
    f = factors(spec)
    if c is None or f is None:
        return None
    k = sum_axis(f)
    others = [cost for _, cost in inner_tiles(f, k, target)] if k is not None else []
    if not others:
        return None
    after = _operations(spec)
    points = prod(x.extent for x in spec.axes)
    along = min(others) + points * after
    vectors = min(fitting(c, target), key=lambda v: cycles(c, v))
    mine = cycles(c, vectors) + points * after / LANES / 2
    return schedule(c, vectors, target) if mine < CLEARLY * along else None


def shape_of(spec: KernelSpec) -> Crosswise | None:
    """A spec seen like that; None if it is no such sum."""
    f = factors(spec)
    if f is None or any(spec.operands[x.operand].dtype != "f32" for x in (f.a, f.b) if x.operand >= 0):
        return None
    for wide, few in ((f.a, f.b), (f.b, f.a)):
        terms = next((r for r in f.stage.reduce if wide.index.coeff(r.name) == 1), None)
        if terms is None or terms.extent < LANES or not _plain(wide) or not _plain(few):
            continue
        of_wide, of_few = set(wide.axes()), set(few.axes())
        columns = tuple(x for x in spec.axes if x.name in of_few - of_wide)
        rows = [x for x in spec.axes if x.name in of_wide - of_few]
        lanes = [x for x in rows if x.extent >= LANES and abs(wide.index.coeff(x.name)) >= LANES]
        if not lanes or prod(x.extent for x in columns) > COLUMNS or any(x.extent >= LANES for x in columns):
            continue
        axis = min(lanes, key=lambda x: abs(f.stage.index.coeff(x.name)))
        return Crosswise(spec, axis, terms, columns, tuple(x for x in rows if x is not axis))
    return None


def _plain(read: Access) -> bool:
    """Whether a place is a sum of axes, nothing that was looked up."""
    return all(isinstance(t, str) for t, _ in read.index.terms)


def schedule(c: Crosswise, vectors: int, target: Target) -> Schedule:
    """So many vectors of rows, with all of their columns."""
    tiles = {c.axis.name: vectors * LANES} | {x.name: x.extent for x in c.columns}
    steps: list[Step] = [Vectorize(c.axis.name, LANES), *(Tile(n, e) for n, e in tiles.items() if e > 1)]
    steps.append(Unroll(c.terms.name, LANES))
    last = [c.axis.name, *(x.name for x in c.columns)]
    order = [*(x.name for x in c.spec.axes if x.name not in last), *last]
    return (*steps, Order(tuple(order)), Parallel(tuple(spread(c.spec, order, tiles, target))))


def fitting(c: Crosswise, target: Target) -> list[int]:
    """Vectors whose accumulators fit beside four vectors being transposed and a weight."""
    most = min((target.registers - LANES - 1) // c.outputs, -(-c.axis.extent // LANES))
    return list(range(1, max(1, min(most, 4)) + 1))


def cycles(c: Crosswise, vectors: int) -> float:
    """Modelled: four terms of a tile are multiply-adds, shuffles (eight to transpose) and loads, two a cycle each, of
    which shuffles and multiply-adds share the pipes half of the time; four cycles of latency a term."""
    each = c.outputs * LANES
    adds, shuffles, loads = vectors * each / 2, vectors * LANES, (vectors * LANES + each) / 2
    steps = prod(r.extent for r in c.spec.stages[0].reduce) / LANES
    tiles = prod(x.extent for x in c.rows) * -(-c.axis.extent // (vectors * LANES))
    batch = prod(x.extent for x in c.spec.axes) // (
        c.axis.extent * c.outputs * prod(x.extent for x in c.rows)
    )
    return batch * tiles * (steps * max(adds + shuffles / 2, loads, 4.0 * LANES) + 8.0)


def _operations(spec: KernelSpec) -> int:
    """What is computed of each sum."""
    return sum(POLYNOMIAL if e.op in LONG else 1 for e in values(spec.stages[0].result) if e.args)


__all__ = ["Crosswise", "crosswise", "cycles", "fitting", "schedule", "shape_of"]
