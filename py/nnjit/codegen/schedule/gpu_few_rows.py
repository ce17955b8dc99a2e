"""Products of a row or a few for GPUs: schedules that read the other factor once, as fast as memory gives it.

`few_rows(spec, p, target)` are those worth a try, best guess first.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from nnjit.codegen.expr import Expr
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.gpu_roles import Product
from nnjit.codegen.schedule.group_steps import Along, Fuse, Team, Threads
from nnjit.codegen.schedule.steps import Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget

BLOCK = 32
"""Weights of a few bits that usually share a scale."""
SIDE_BY_SIDE = (
    (8, 64, 4), (16, 64, 4), (8, 32, 4), (4, 64, 4), (8, 128, 4), (8, 64, 8), (16, 32, 4), (8, 16, 4), (16, 16, 4),
    (8, 8, 2), (4, 4, 2), (2, 2, 1), (1, 1, 1),
)  # fmt: skip
"""Of few rows: threads along the columns, slices of the sum, and how many of its elements are read at once."""


def few_rows(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
    """A row or a few: the other factor is read once, as fast as memory gives it. Where its neighbours lie along the
    sum a team takes each column, else threads lie side by side along the columns and in slices along the sum."""
    yield from _teams_of_columns(spec, p, target)
    along = all(r.index.coeff(p.reduce[-1].name) == 1 for r in p.right)
    across = all(r.index.coeff(p.column.name) == 1 for r in p.right)
    if along and not across and p.k >= 32:
        whole = p.reduce[-1].extent % LANES == 0
        wide: tuple[Step, ...] = (Vectorize(p.reduce[-1].name),) if whole and _steps(p) else ()
        vectors = p.k // (LANES if wide else 1)
        for threads in (64, 32, 128, 256):
            if threads <= target.max_workgroup and (threads <= 32 or threads <= vectors):
                yield (Team(threads, target.lockstep), *wide)
        return
    if p.column.extent < LANES:
        return
    row: list[Step] = []
    if p.m > 1:
        name = p.rows[0].name
        if len(p.rows) > 1:
            name = "rows"
            row.append(Fuse(tuple(a.name for a in p.rows), name))
        row.append(Tile(name, p.m))
    elif p.rows:
        return
    k = p.reduce[-1].name
    if len(p.reduce) > 1:
        k = "sum"
        row.append(Fuse(tuple(a.name for a in p.reduce), k))
    for side, slices, unroll in _side_by_side(spec, p, target):
        sums = 16 * p.m * side * (slices - 1)
        fits = side * slices <= target.max_workgroup and sums <= target.max_shared_bytes
        if fits and (slices * unroll <= p.k or slices == 1):
            own = (Threads(k, slices),) if slices > 1 else ()
            yield (
                *row, Tile(p.column.name, LANES * side), Threads(p.column.name, side), Vectorize(p.column.name), *own,
                Unroll(k, unroll),
            )  # fmt: skip


def _side_by_side(spec: KernelSpec, p: Product, target: WgslTarget) -> list[tuple[int, int, int]]:
    """SIDE_BY_SIDE, first what keeps most threads in one turn of the device: 1,024 in a workgroup for a long sum by not
    too many columns; of f16 more columns side by side, so that a row's read is as long as of f32."""
    half = any(spec.operands[r.operand].dtype in ("f16", "bf16") for r in p.right)
    wide = -(-p.column.extent // (LANES * 8)) * 1024 > 16 * target.invocations
    first = (8, 128, 4) if p.k >= 2048 else (8, 64, 4)
    if wide:
        first = (16, 64, 4) if half else (8, 64, 4)
    return [first, *(s for s in SIDE_BY_SIDE if s != first)]


def _teams_of_columns(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
    """Teams that do some columns at once, where the weights lie along the sum, or words of them do: columns, threads,
    elements of a span, spans read ahead."""
    last, body = p.reduce[-1], spec.stages[0].body
    assert body is not None
    if last.extent % LANES or any(r.index.coeff(p.column.name) == 1 for r in p.right):
        return
    if all(r.index.coeff(last.name) == 1 and not r.guard for r in p.right):
        spans = (s for s in (LANES, 2 * LANES, 4 * LANES) if last.extent % s == 0)
        teams = [(c, n, s, 1, False) for s in spans for c in (2, 1, 4) for n in (32, 64, 128)]
    elif len(p.reduce) > 1 and any(r.index.coeff(p.reduce[-2].name) == 1 for r in p.right):
        word, block = last.extent, p.reduce[-2].extent * last.extent
        few = [(8, 128), (8, 64), (4, 128), (4, 64), (2, 128), (4, 32), (1, 32)]
        teams = [(c, n, block, 2, False) for c, n in few] if block <= 4 * BLOCK else []
        if teams:
            # of bytes a thread reads as much of the rows as of a column's words: worth reading in order
            at, staged_team = (0, (8, 64)) if word == LANES else (1, (8, 128))
            teams.insert(at, (*staged_team, block, 1, True))
        narrow = ((4, 128), (4, 256), (2, 128), (8, 128), (4, 64), (4, 32), (1, 32))
        teams += [(c, n, word, 4, False) for c, n in narrow]
    else:
        return
    for columns, threads, span, ahead, staged in teams:
        many = threads > 32 and threads * span > p.k
        if (
            threads <= target.max_workgroup
            and p.m * columns <= 32
            and columns <= p.column.extent
            and not many
            and (not staged or _stageable(p, body, span, threads, target))
        ):
            turns = max(1, min(ahead, p.k // (span * threads)))
            yield (Along(p.column.name, columns, threads, span, target.lockstep, turns, staged),)


def _stageable(p: Product, body: Expr, span: int, threads: int, target: WgslTarget) -> bool:
    """Whether the rows can go through a shared array, see `along`: spans that threads would read far apart."""
    rows = [e for e in body.args if e.op == "load" and e.attr in p.left]
    at, stride, inner = p.left[0].index, 1, list[Axis]()
    for a in reversed(p.reduce):
        if stride >= span:
            break
        inner.append(a)
        stride *= a.extent
    strides = [prod(x.extent for x in inner[:n]) for n in range(len(inner))]
    run = stride == span and all(at.coeff(a.name) == n for a, n in zip(inner, strides, strict=True))
    nbytes = 4 * p.m * (threads * (span + LANES) + 32 * 32)
    return (
        len(rows) == 1 and len(p.left) == 1 and not p.left[0].guard and run
        and span > LANES and threads % (span // LANES) == 0 and nbytes <= target.max_shared_bytes
    )  # fmt: skip


def _steps(p: Product) -> bool:
    """Whether both factors step by one or not at all along the innermost reduced axis."""
    name = p.reduce[-1].name
    return all(r.index.coeff(name) in (0, 1) and not r.guard for r in (*p.left, *p.right))
