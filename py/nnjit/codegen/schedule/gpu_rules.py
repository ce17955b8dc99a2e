"""gpu_schedule(spec, target): the first rule that knows the spec answers, from the same steps as on the CPU.

    RULES = [contraction, rows, elementwise]

A GPU wants what a core does not: every shared axis in the parallel loop, and neighbouring invocations on
neighbouring elements, so the axis that is contiguous in the output is the last one of the order. Tiles are small
enough to leave the device as many invocations as keep it busy; registers are what remains to be spent.
"""

from __future__ import annotations

from math import prod

from nnjit.codegen.expr import Access
from nnjit.codegen.schedule.facts import LANES, narrow_types, reads
from nnjit.codegen.schedule.steps import Order, Pack, Parallel, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wgsl.target import WgslTarget

TILES = ((8, 8), (8, 4), (4, 4), (2, 4), (1, 4))
"""Rows and columns of accumulators in an invocation, best reuse first: 64 f32 are a quarter of a GPU's registers."""


def gpu_schedule(spec: KernelSpec, target: WgslTarget) -> Schedule:
    """A good schedule without measuring."""
    for rule in (contraction, rows):
        found = rule(spec, target)
        if found is not None:
            return found
    return elementwise(spec, target)


def plain(spec: KernelSpec) -> Schedule:
    """An element an invocation: what fits every spec."""
    order = tuple(a.name for a in spec.axes)
    return (Order(order), Parallel(order)) if order else ()


def contraction(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """sum(a * b): a tile of accumulators, vectors along the contiguous output axis."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or s.axes or not narrow_types(spec, s):
        return None
    sides = [reads(a) for a in s.body.args]
    if any(len(r) != 1 for r in sides):
        return None
    column = _contiguous_output(spec, s)
    if column is None or column.extent < LANES:
        return None
    along = [r[0] for r in sides if column.name in set(r[0].axes())]
    rows_of = [
        a for a in spec.axes if any(a.name in set(r[0].axes()) for r in sides) and a.name != column.name
    ]
    row = max((a for a in rows_of if _shares(a, along)), key=lambda a: a.extent, default=None)
    mr, nr = _tile(spec, row, column, target)
    steps: list[Step] = [Tile(column.name, nr), Vectorize(column.name, LANES)]
    if row is not None and mr > 1:
        steps.append(Tile(row.name, mr))
    last = s.reduce[-1]
    steps.append(Unroll(last.name, last.extent if last.extent <= 4 else 4))
    steps += [Pack(r.operand, column.name) for r in along if _packable(spec, r, column)]
    order = [a.name for a in spec.axes if a.name != column.name] + [column.name]
    return (*steps, Order(tuple(order)), Parallel(tuple(order)))


def _shares(a: Axis, along: list[Access]) -> bool:
    """Whether a tile of `a` reuses what is read along the vector axis."""
    return any(a.name not in set(r.axes()) for r in along)


def _contiguous_output(spec: KernelSpec, s: Stage) -> Axis | None:
    return next((a for a in spec.axes if s.index.coeff(a.name) == 1), None)


def _tile(spec: KernelSpec, row: Axis | None, column: Axis, target: WgslTarget) -> tuple[int, int]:
    """The largest tile that fits the extents and leaves enough invocations; the smallest if none does."""
    rest = prod(a.extent for a in spec.axes if a is not row and a is not column)
    rows = row.extent if row is not None else 1
    fitting = [(m, n) for m, n in TILES if m <= max(rows, 1) and n <= -(-column.extent // LANES) * LANES]
    for m, n in fitting:
        if rest * -(-rows // m) * -(-column.extent // n) >= target.invocations:
            return m, n
    return fitting[-1]


def _packable(spec: KernelSpec, r: Access, column: Axis) -> bool:
    """A constant read across its rows becomes panels, so that a vector is one read."""
    gather = any(not isinstance(a, str) for a, _ in r.index.terms)
    return spec.operands[r.operand].const and not r.guard and not gather and r.index.coeff(column.name) != 1


def rows(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """Reductions, softmax, norms: an invocation does a row, in lanes where its elements are neighbours."""
    if all(s.body is None for s in spec.stages):
        return None
    shared = tuple(a.name for a in spec.axes)
    steps: list[Step] = []
    inner = {a.name: a for s in spec.stages for a in (s.reduce or s.axes)[-1:]}
    for name, a in inner.items():
        if a.extent >= LANES and all(narrow_types(spec, s) and _steps_by_one(s, name) for s in spec.stages):
            steps += [Vectorize(name, LANES)]
            if any(name == x.name for s in spec.stages for x in s.axes):
                steps += [Tile(name, LANES)]
    if len({s.axis for s in steps if isinstance(s, Vectorize)}) > 1:
        steps = []
    return (*steps, Order(shared), Parallel(shared))


def _steps_by_one(s: Stage, axis: str) -> bool:
    """Whether a stage reads and stores along `axis` one element after the other, or not at all."""
    group = s.reduce or s.axes
    if any(a.name == axis for a in group[:-1]):
        return False
    stored = s.keep == "" and axis in set(s.index.axes())
    accesses = [r for root in (s.body, s.result) for r in reads(root)]
    return all(not r.guard and r.index.coeff(axis) in (0, 1) for r in accesses) and (
        not stored or s.index.coeff(axis) == 1
    )


def elementwise(spec: KernelSpec, target: WgslTarget) -> Schedule:
    """A vector an invocation along the contiguous axis, or an element where there is none."""
    last = spec.stages[-1]
    axis = _contiguous_output(spec, last)
    own = any(s.axes for s in spec.stages)
    order = [a.name for a in spec.axes]
    if axis is None or own or axis.extent < LANES or not all(narrow_types(spec, s) for s in spec.stages):
        return (Order(tuple(order)), Parallel(tuple(order))) if order else ()
    order = [n for n in order if n != axis.name] + [axis.name]
    vector = (Tile(axis.name, LANES), Vectorize(axis.name, LANES))
    return (*vector, Order(tuple(order)), Parallel(tuple(order)))
