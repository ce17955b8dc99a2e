"""Schedules of products for GPUs: which axes are rows, columns and batches, and which tile a workgroup takes.

`product(spec, target)` is the default; `products(spec, target)` are all that are worth a try, best guess first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Access, Expr
from nnjit.codegen.schedule.dots import factor
from nnjit.codegen.schedule.facts import LANES, narrow_types, reads, values
from nnjit.codegen.schedule.group_steps import Along, Cache, Fuse, Matrix, Patch, Team, Threads, Words
from nnjit.codegen.schedule.matrix_tiles import HALF
from nnjit.codegen.schedule.matrix_tiles import ranked as matrices_ranked
from nnjit.codegen.schedule.product_tiles import SHORT, Shape, ranked
from nnjit.codegen.schedule.split import PART, Split
from nnjit.codegen.schedule.steps import Block, Pack, Schedule, Step, Tile, Unroll, Vectorize
from nnjit.codegen.schedule.words import GROUP, layout
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wgsl.target import WgslTarget

FEW_ROWS = 4
"""Up to so many rows a product is bound by reading its other factor once: nothing is gained by shared arrays."""


@dataclass(frozen=True, slots=True)
class Product:
    """The roles of a product's axes. `left` follows the rows, `right` the columns; operands they read."""

    rows: tuple[Axis, ...]
    column: Axis
    batch: tuple[Axis, ...]
    reduce: tuple[Axis, ...]
    left: tuple[Access, ...]
    right: tuple[Access, ...]

    @property
    def m(self) -> int:
        return prod(a.extent for a in self.rows)

    @property
    def k(self) -> int:
        return prod(a.extent for a in self.reduce)

    @property
    def batches(self) -> int:
        return prod(a.extent for a in self.batch)


SIDE_BY_SIDE = (
    (8, 64, 4), (16, 64, 4), (8, 32, 4), (4, 64, 4), (8, 128, 4), (8, 64, 8), (16, 32, 4), (8, 16, 4), (16, 16, 4),
    (8, 8, 2), (4, 4, 2), (2, 2, 1), (1, 1, 1),
)  # fmt: skip
"""Of few rows: threads along the columns, slices of the sum, and how many of its elements are read at once."""


def roles(spec: KernelSpec) -> Product | None:
    """None where the spec is no product of two factors of which one follows the columns and the other the rows."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or s.axes or not in_lanes(spec, s):
        return None
    if s.body.dtype not in ("f32", "i32", "u32"):
        return None
    column = next((a for a in spec.axes if s.index.coeff(a.name) == 1), None)
    if column is None:
        return None
    factors = [_axes(e) for e in s.body.args]
    follows = [column.name in f for f in factors]
    if follows[0] == follows[1]:
        return None
    left, right = (factors[1], factors[0]) if follows[0] else (factors[0], factors[1])
    e_left, e_right = (s.body.args[1], s.body.args[0]) if follows[0] else s.body.args
    rows = tuple(a for a in spec.axes if a.name in left and a.name not in right)
    batch = tuple(a for a in spec.axes if a is not column and a not in rows)
    return Product(rows, column, batch, s.reduce, tuple(reads(e_left)), tuple(reads(e_right)))


def _is_half(e: Expr) -> bool:
    """f32(load) of an f16."""
    return e.op == "cast" and e.args[0].op == "load" and e.args[0].dtype == "f16" and not e.args[0].attr.guard


def in_lanes(spec: KernelSpec, s: Stage) -> bool:
    """Whether a stage fits vectors of four: 64 bits are read there only for their low word."""
    if not narrow_types(spec, s) or (not s.keep and spec.operands[s.out].dtype in WIDE):
        return False
    for root in (s.body, s.result):
        for e in values(root) if root is not None else ():
            low = e.op == "cast" and e.dtype in ("i32", "u32")
            if not low and any(a.dtype in WIDE for a in e.args):
                return False
    return True


def _axes(e: Expr) -> frozenset[str]:
    return e.axes()


def product(spec: KernelSpec, target: WgslTarget) -> Schedule | None:
    """A good schedule without measuring, None where the spec is no product."""
    return next(iter(products(spec, target)), None)


def products(spec: KernelSpec, target: WgslTarget) -> Iterator[Schedule]:
    """All schedules worth a try, best guess first."""
    p = roles(spec)
    if p is None:
        return
    if p.m <= FEW_ROWS:
        yield from _few_rows(spec, p, target)
        return
    yield from _in_words(spec, p, target)
    yield from _in_matrices(spec, p, target)
    along = lies_along(p)
    for time, shape in ranked(p.m, p.k, p.column.extent, p.batches, target):
        if along or not shape.turned:
            if shape.turned and time < SHORT:
                yield scheduled(spec, p, replace(shape, rolled=True))
            yield scheduled(spec, p, shape)


PARTS = (2, 3, 4, 6, 8, 12, 16)
WORTH = 0.95
"""What a split must come to at most."""
DEEP = 128
"""Elements of a sum that each of its parts has at least."""
LAUNCH = 3.5
"""Microseconds that a kernel more takes, with what it costs to dispatch it."""
STREAM = 2.5e6
"""Bytes that it reads in a microsecond."""


def split_of(spec: KernelSpec, target: WgslTarget) -> Split | None:
    """How the sum of a product with too few tiles to keep the device busy is divided into kernels side by side; None
    where adding up what they found would take longer than that saves."""
    best, ratio = best_split(spec, target)
    return best if ratio < WORTH else None


def best_split(spec: KernelSpec, target: WgslTarget) -> tuple[Split | None, float]:
    """The division of a product's sum to expect the most of, and the part of one kernel's time that it should take."""
    found = [(each / whole, split) for split, each, whole in splits(spec, target) if whole < inf]
    if not found:
        return None, inf
    ratio, split = min(found, key=lambda one: one[0])
    return split, ratio


def splits(spec: KernelSpec, target: WgslTarget) -> Iterator[tuple[Split, float, float]]:
    """All ways to divide the sum of a product, the microseconds of each with the kernel that adds up, and those of the
    product in one kernel; none for other specs."""
    p = roles(spec)
    if p is None or p.m <= FEW_ROWS or spec.useful or any(a.name == PART for a in spec.axes):
        return
    body = spec.stages[0].body
    if body is None or body.dtype != "f32":
        return
    halves = _matrices(body, target)

    along = lies_along(p)

    def least(of: Product) -> float:
        size = of.m, of.k, of.column.extent, of.batches
        if halves:
            return next((us for us, _ in matrices_ranked(*size, False, target)), inf)
        return next((us for us, t in ranked(*size, target) if along or not t.turned), inf)

    whole = least(p)
    points = 4 * p.m * p.column.extent * p.batches
    for axis in p.reduce:
        for parts in PARTS:
            length = axis.extent // parts
            if (
                axis.extent % (parts * LANES)
                or p.k // parts < DEEP
                or parts * points > target.max_binding_bytes
            ):
                continue
            part = replace(
                p,
                batch=(Axis(PART, parts), *p.batch),
                reduce=tuple(Axis(a.name, length) if a is axis else a for a in p.reduce),
            )
            yield Split(axis.name, parts), least(part) + LAUNCH + parts * points / STREAM, whole


def _matrices(body: Expr, target: WgslTarget) -> bool:
    """Whether the device multiplies such factors in subgroup matrices."""
    usable = target.half and ("f16", "f32", 16, 16, 16) in target.matrices and target.subgroup == 32
    return usable and all(_is_half(e) for e in body.args)


def _in_matrices(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
    """Factors of f16 on a device that multiplies subgroup matrices of them with sums in f32."""
    body = spec.stages[0].body
    if body is None or not _matrices(body, target):
        return
    for _, t in matrices_ranked(p.m, p.k, p.column.extent, p.batches, False, target):
        yield in_matrices(spec, p, Shape(t.rows, t.down, t.columns, t.across, t.depth), target)


def in_matrices(spec: KernelSpec, p: Product, shape: Shape, target: WgslTarget) -> Schedule:
    """The steps of a product of f16 in subgroup matrices; threads of the shape count subgroups."""
    return (*scheduled(spec, p, shape), Matrix(16, 16, 16, target.subgroup))


def in_words(spec: KernelSpec, p: Product, shape: Shape, target: WgslTarget) -> Schedule:
    """The same of i8 in words; the shape's depth counts elements of f16 in as many bytes."""
    body = spec.stages[0].body
    sides = [factor(e) for e in body.args] if body is not None else []
    words = tuple(Words(e.attr.operand) for e in sides if e is not None)
    own = replace(shape, depth=shape.depth * HALF // GROUP)
    return (*_tiled(_of_words(p), own), Matrix(16, 16, 32, target.subgroup), *words)


def _of_words(p: Product) -> Product:
    """The same product whose sum counts words."""
    last = p.reduce[-1]
    return replace(p, reduce=(*p.reduce[:-1], Axis(last.name, -(-last.extent // GROUP))))


BLOCK = 32
"""Weights of a few bits that usually share a scale."""
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
    if ("i8", "i32", 16, 16, 32) in target.matrices and target.subgroup == 32:
        for _, t in matrices_ranked(p.m, deep.k * GROUP, p.column.extent, p.batches, True, target):
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


def lies_along(p: Product) -> bool:
    """Whether the left factor's neighbours in memory lie along the sum."""
    return all(r.index.coeff(p.reduce[-1].name) == 1 for r in p.left)


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


def _few_rows(spec: KernelSpec, p: Product, target: WgslTarget) -> Iterator[Schedule]:
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
