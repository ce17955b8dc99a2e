"""Schedules of products for GPUs: which tile a workgroup takes, and what its threads multiply with.

`product(spec, target)` is the default; `products(spec, target)` are all that are worth a try, best guess first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nnjit.codegen.schedule.dots import factor
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.gpu_few_rows import few_rows
from nnjit.codegen.schedule.gpu_roles import FEW_ROWS, Product, lies_along, matrices, roles
from nnjit.codegen.schedule.group_steps import Cache, Fuse, HalfSums, Matrix, Patch, Threads, Words
from nnjit.codegen.schedule.matrix_tiles import HALF, USUAL, configuration
from nnjit.codegen.schedule.matrix_tiles import ranked as matrices_ranked
from nnjit.codegen.schedule.product_tiles import SHORT, Shape, ranked, soon
from nnjit.codegen.schedule.steps import Block, Pack, Schedule, ScheduleError, Step, Tile, Unroll, Vectorize
from nnjit.codegen.schedule.words import GROUP, layout
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget


def product(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """A good schedule without measuring, None where the spec is no product."""
    return next(iter(products(spec, target)), None)


def products(spec: KernelSpec, target: WgslTarget) -> Iterator[Schedule]:
    """All schedules worth a try, best guess first."""
    p = roles(spec)
    if p is None:
        return
    if p.m <= FEW_ROWS:
        yield from few_rows(spec, p, target)
        return
    yield from _in_words(spec, p, target)
    yield from _in_matrices(spec, p, target)
    along, size = lies_along(p), (p.m, p.k, p.column.extent, p.batches)
    first = soon(*size, target) if along else None
    if first is not None:
        yield scheduled(spec, p, first)
    for time, shape in ranked(*size, target):
        if shape != first and (along or not shape.turned):
            yield scheduled(spec, p, shape)
            rolled = replace(shape, rolled=True)
            if shape.turned and time < SHORT and rolled != first:
                yield scheduled(spec, p, rolled)


def _in_matrices(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
    """Factors of f16 on a device that multiplies subgroup matrices of them."""
    body = spec.stages[0].body
    sums = matrices(body, target) if body is not None else ""
    if sums:
        yield from summed_in(spec, p, sums, target)


def summed_in(spec: KernelSpec, p: Product, sums: str, target: WgslTarget) -> Iterator[Schedule]:
    """The same with sums of one type, "f32" or "f16"; the device has such matrices."""
    for _, t in matrices_ranked(p.m, p.k, p.column.extent, p.batches, sums, target):
        yield in_matrices(spec, p, Shape(t.rows, t.down, t.columns, t.across, t.depth), target, sums)


def in_matrices(
    spec: KernelSpec, p: Product, shape: Shape, target: WgslTarget, sums: str = "f32", elements: int = USUAL
) -> Schedule:
    """The steps of a product of f16 in subgroup matrices; threads of the shape count subgroups. elements: so many are
    summed up in f16, if sums are that."""
    size = configuration(sums, target)
    if size is None:
        raise ScheduleError(f"this device has no matrices of f16 with sums of {sums}")
    steps = (*scheduled(spec, p, shape), Matrix(*size, target.subgroup))
    return (*steps, HalfSums(elements)) if sums == "f16" else steps


def in_words(spec: KernelSpec, p: Product, shape: Shape, target: WgslTarget) -> Schedule:
    """The same of i8 in words; the shape's depth counts elements of f16 in as many bytes."""
    size, body = configuration("i32", target), spec.stages[0].body
    if size is None:
        raise ScheduleError("this device has no matrices of i8 with sums of i32")
    sides = [factor(e) for e in body.args] if body is not None else []
    words = tuple(Words(e.attr.operand) for e in sides if e is not None)
    own = replace(shape, depth=shape.depth * HALF // GROUP)
    return (*_tiled(_of_words(p), own), Matrix(*size, target.subgroup), *words)


def _of_words(p: Product) -> Product:
    """The same product whose sum counts words."""
    last = p.reduce[-1]
    return replace(p, reduce=(*p.reduce[:-1], Axis(last.name, -(-last.extent // GROUP))))


WORDS = 8
"""Words of a sum from which they are worth making."""


def _in_words(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
    """Factors of i8, four to a word: in subgroup matrices where the device multiplies such, else by dot products."""
    body = spec.stages[0].body
    sides = [factor(e) for e in body.args] if body is not None else []
    operands = [e.attr.operand for e in sides if e is not None and e.dtype == "i8"]
    gathers = any(not isinstance(a, str) for r in (*p.left, *p.right) for a, _ in r.index.terms)
    last = p.reduce[-1]
    if len(set(operands)) != 2 or gathers or last.extent < WORDS * GROUP:
        return
    if any(layout(spec, n).size * GROUP > 2 * spec.operands[n].size for n in operands):
        return  # windows that overlap would be written out
    words = tuple(Words(n) for n in operands)
    deep = _of_words(p)
    for _, t in matrices_ranked(p.m, deep.k * GROUP, p.column.extent, p.batches, "i32", target):
        yield in_words(spec, p, Shape(t.rows, t.down, t.columns, t.across, t.depth), target)
    for _, shape in ranked(deep.m, deep.k, p.column.extent, p.batches, target):
        if not shape.turned:
            yield (*_tiled(deep, shape), *words)


def scheduled(spec: KernelSpec, p: Product, shape: Shape) -> Schedule:
    """The steps that tile a product so, and pack what lies badly for it."""
    return (*_tiled(p, shape), *_packs(spec, p))


def _tiled(p: Product, shape: Shape) -> Schedule:
    """The steps that tile a product so."""
    steps: list[Step] = []
    row, k = p.rows[0].name, p.reduce[-1].name
    if len(p.rows) > 1:
        row = "rows"
        steps.append(Fuse(tuple(a.name for a in p.rows), row))
    if len(p.reduce) > 1:
        k = "sum"
        steps.append(Fuse(tuple(a.name for a in p.reduce), k))
    steps += [Tile(row, shape.rows), Threads(row, shape.down)]
    steps += [
        Tile(p.column.name, shape.columns),
        Threads(p.column.name, shape.across),
        Vectorize(p.column.name),
    ]
    if shape.slices > 1:
        steps.append(Threads(k, shape.slices))
    if shape.turned:
        steps += unrolled(k, shape)
    ahead = shape.ahead and p.k > shape.depth
    steps.append(Cache(k, shape.depth, ahead, shape.twice, shape.turned))
    tiles = -(-p.m // shape.rows)
    block = next((b for b in (8, 6, 4, 3, 2) if tiles % b == 0 and tiles > b), 1)
    if block > 1 and -(-p.column.extent // shape.columns) > 1:
        steps.append(Block(row, block * shape.rows))
    return tuple(steps)


def unrolled(k: str, shape: Shape) -> list[Step]:
    """What goes with a left array that is turned."""
    own = [] if shape.rolled else [Unroll(k, shape.depth // LANES // shape.slices)]
    return [Patch(4, 8), *own]


def _packs(spec: KernelSpec, p: Product) -> list[Step]:
    """A constant that is not contiguous along the columns is put into panels; bytes in words stay as they are, because
    panels of them would take four times the memory."""
    if len(p.right) != 1:
        return []
    (r,) = p.right
    plain = not r.guard and all(isinstance(a, str) for a, _ in r.index.terms)
    contiguous = r.index.coeff(p.column.name) == 1 and p.column.extent % LANES == 0
    o = spec.operands[r.operand]
    if not o.const or o.packed or not plain or contiguous:
        return []
    return [Pack(r.operand, p.column.name)]
