"""The space of a KernelSpec on a GPU: workgroup and register tiles, depth, slices of the sum, double buffering.

`gpu_space(spec, target)` gives a Space like those for WebAssembly: knobs, what rules and a cost model leave of them,
the rules' own schedule first. Products are tiled anew from the schedule that the rules made, whatever else it says
(fused axes, words, subgroup matrices, panels).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from math import inf, log2, prod
from typing import Any

from nnjit.codegen.schedule import (
    gpu_attention,
    gpu_products,
    gpu_roles,
    gpu_rules,
    matrix_tiles,
    product_tiles,
)
from nnjit.codegen.schedule.along import EARLY, shared_bytes
from nnjit.codegen.schedule.along_digits import HELD
from nnjit.codegen.schedule.attention import shape as attention_shape
from nnjit.codegen.schedule.digits import COUNT
from nnjit.codegen.schedule.facts import LANES
from nnjit.codegen.schedule.gpu_roles import Product
from nnjit.codegen.schedule.group_steps import (
    Along,
    Cache,
    Digits,
    HalfSums,
    Matrix,
    Online,
    Patch,
    Team,
    Threads,
    Words,
)
from nnjit.codegen.schedule.legal import fits
from nnjit.codegen.schedule.matrix_tiles import HALF, MatrixTile, configuration
from nnjit.codegen.schedule.product_tiles import Shape
from nnjit.codegen.schedule.steps import Block, Schedule, Step, Tile, Unroll
from nnjit.codegen.schedule.words import GROUP
from nnjit.codegen.spec import Axis, KernelSpec
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.tune.space import Choice, Knob, Space

MOST_SUMS = 128
"""Sums that a thread keeps in registers, at most."""
STRETCHES = (0, 64, 32, 128)
"""Elements that matrices may sum up in f16, where a session allows that; 0: sums are f32 throughout."""
DIGITS_FOR = 32
"""Columns that a team's digits of a row should serve: a guess: one takes as much as eight of its products."""


def gpu_space(spec: KernelSpec, target: WgslTarget) -> Space:
    """The schedules of `spec` that may be worth a try on a device, the rules' own first.

    Raises UnsupportedExpr for a spec that has no schedule there at all."""
    default = gpu_rules.gpu_schedule(spec, target)
    for found in (
        _attention(spec, default, target),
        _tiled(spec, default, target),
        _side_by_side(spec, default, target),
        _along(default, spec, target),
    ):
        if found is not None:
            return found
    return _rows(spec, default, target)


# ---- products through shared arrays ----


@dataclass(frozen=True, slots=True)
class _Retiled:
    """A schedule of a product taken apart: the axes it tiles, and the steps that stay as they are."""

    row: str
    column: str
    depth: str
    schedule: Schedule
    matrix: Matrix | None
    """None where sums are in registers of their own."""

    @staticmethod
    def of(schedule: Schedule) -> _Retiled | None:
        cache = next((s for s in schedule if isinstance(s, Cache)), None)
        tiles = [s.axis for s in schedule if isinstance(s, Tile)]
        if cache is None or len(tiles) != 2:
            return None
        matrix = next((s for s in schedule if isinstance(s, Matrix)), None)
        return _Retiled(tiles[0], tiles[1], cache.axis, schedule, matrix)

    def build(self, shape: Shape, block: int, matrix: Matrix | None, stretch: int) -> Schedule:
        """The same schedule with another tile; block: tiles of rows that stand together, 1 for none; stretch: elements
        that its matrices sum up in f16."""
        steps: list[Step] = []
        for s in self.schedule:
            if isinstance(s, Tile):
                s = replace(s, factor=shape.rows if s.axis == self.row else shape.columns)
            elif isinstance(s, Threads):
                if s.axis == self.depth:
                    continue
                s = replace(s, count=shape.down if s.axis == self.row else shape.across)
            elif isinstance(s, Cache):
                if shape.slices > 1:
                    steps.append(Threads(self.depth, shape.slices))
                if shape.turned:
                    steps += gpu_products.unrolled(self.depth, shape)
                s = replace(s, depth=shape.depth, ahead=shape.ahead, twice=shape.twice, turned=shape.turned)
            elif isinstance(s, (Block, Patch, Unroll, HalfSums)):
                continue
            elif isinstance(s, Matrix) and matrix is not None:
                s = matrix
            steps.append(s)
        if stretch:
            steps.append(HalfSums(stretch))
        if block > 1:
            steps.append(Block(self.row, block * shape.rows))
        return tuple(steps)

    def shape(self) -> Shape:
        """The tile that the schedule has."""
        tile = {s.axis: s.factor for s in self.schedule if isinstance(s, Tile)}
        threads = {s.axis: s.count for s in self.schedule if isinstance(s, Threads)}
        cache = next(s for s in self.schedule if isinstance(s, Cache))
        return Shape(
            tile[self.row], threads.get(self.row, 1), tile[self.column], threads.get(self.column, 1), cache.depth,
            threads.get(self.depth, 1), cache.ahead, cache.twice, cache.turned,
            cache.turned and not any(isinstance(s, Unroll) for s in self.schedule),
        )  # fmt: skip


def _tiled(spec: KernelSpec, default: Schedule, target: WgslTarget) -> Space | None:
    p, tiled = gpu_roles.roles(spec), _Retiled.of(default)
    if p is None or tiled is None:
        return None
    words = any(isinstance(s, Words) for s in default)
    if words:
        last = p.reduce[-1]
        p = replace(p, reduce=(*p.reduce[:-1], Axis(last.name, -(-last.extent // GROUP))))
    own, kinds = tiled.shape(), _matrices(spec, tiled, words, target)
    matrices = tiled.matrix is not None
    stretch = next((s.elements for s in default if isinstance(s, HalfSums)), 0)
    best = own  # a short product starts in a tile that is compiled soon
    if not matrices:
        best = product_tiles.ranked(p.m, p.k, p.column.extent, p.batches, target)[0][1]
    blocks = [s.size // own.rows for s in default if isinstance(s, Block)]

    def knob(name: str, first: Any, others: Iterable[Any]) -> Knob:
        return Knob(name, tuple(dict.fromkeys((first, *others))))

    knobs = (
        knob("rows", own.rows, (32, 64, 96, 128) if matrices else (best.rows, 8, 16, 32, 64, 128)),
        knob("down", own.down, (1, 2, 4) if matrices else (best.down, 2, 4, 8, 16)),
        knob("columns", own.columns, (32, 64, 96, 128) if matrices else (best.columns, 32, 64, 128)),
        knob("across", own.across, (1, 2, 4) if matrices else (8, 16)),
        knob("depth", own.depth, ((16, 32) if words else (16, 32, 64)) if matrices else (8, 16, 32)),
        knob("slices", own.slices, () if matrices else (1, 2, 4)),
        knob("ahead", own.ahead, (True, False)),
        knob("twice", own.twice, (False, True)),
        knob("turned", own.turned, () if matrices or not gpu_roles.lies_along(p) else (True, False)),
        knob("rolled", own.rolled, () if matrices or not gpu_roles.lies_along(p) else (False, True)),
        knob("block", blocks[0] if blocks else 1, (1, 8, 4)),
        knob("stretch", stretch, (n for n in STRETCHES if ("f16" if n else "f32") in kinds)),
    )

    def shape_of(c: Choice) -> Shape:
        return Shape(**{name: c[name] for name in Shape.__dataclass_fields__})

    def build(c: Choice) -> Schedule:
        return tiled.build(shape_of(c), c["block"], kinds.get(sums_of(c)), c["stretch"])

    def sums_of(c: Choice) -> str:
        return "i32" if words else "f16" if c["stretch"] else "f32"

    def cost(c: Choice) -> float | None:
        s = shape_of(c)
        tiles = -(-p.m // s.rows)
        blocked = c["block"] > 1 and (tiles % c["block"] or tiles <= c["block"])
        if (
            blocked
            or not (
                _matrices_possible(s, sums_of(c), kinds.get(sums_of(c)), target)
                if matrices
                else _possible(s, target)
            )
            or ((s.ahead or s.twice) and p.k <= s.depth)
        ):
            return None
        if (s.twice and not s.ahead) or (s.rolled and not s.turned):
            return None  # the same as without
        if c["stretch"] and (s.twice or c["stretch"] % s.depth or c["stretch"] >= 2 * max(p.k, STRETCHES[2])):
            return None  # or the same as a shorter one
        if (p.m <= s.rows // 2 and s.rows > 16) or (p.column.extent <= s.columns // 2 and s.columns > 32):
            return None  # half of each tile would be nothing
        size = p.m, p.k, p.column.extent, p.batches
        found = (
            _matrix_cost(p, s, sums_of(c), target, c["stretch"])
            if matrices
            else product_tiles.microseconds(s, *size, target)
        )
        if found == inf:
            return None
        # with blocks the factors of a tile's neighbours are in the caches: that changed times by a hundredth at most
        return found * (1.0 if (c["block"] > 1) == (tiles > 8) else 1.04)

    return Space(spec, "matrices" if matrices else "tiles", default, knobs, build, cost, _tile_groups)


def _tile_groups(c: Choice) -> tuple[Hashable, ...]:
    """A tile with its threads; the same tile by any threads."""
    tile = c["rows"], c["columns"], c["slices"]
    return (*tile, c["down"], c["across"]), tile


def _matrices(spec: KernelSpec, tiled: _Retiled, words: bool, target: WgslTarget) -> dict[str, Matrix]:
    """The matrices that a product may be multiplied in, by the type of their sums; none for one in registers."""
    if tiled.matrix is None:
        return {}
    if words:
        return {"i32": tiled.matrix}
    sizes = {sums: configuration(sums, target) for sums in ("f32", "f16")}
    return {sums: Matrix(*size, target.subgroup) for sums, size in sizes.items() if size is not None}


def _possible(s: Shape, target: WgslTarget) -> bool:
    """Whether a workgroup of the device can have the tile."""
    if not 32 <= s.threads <= target.max_workgroup or s.shared_bytes() > target.max_shared_bytes:
        return False
    if s.rows % s.down or s.columns % (LANES * s.across) or s.depth % (LANES * s.slices):
        return False
    return s.rows // s.down * (s.columns // s.across) <= MOST_SUMS and (not s.turned or s.turnable())


def _matrix_tile(s: Shape, sums: str) -> MatrixTile:
    """Depth of i8 counts words here."""
    return MatrixTile(
        s.rows, s.down, s.columns, s.across, s.depth * GROUP // HALF if sums == "i32" else s.depth
    )


def _matrices_possible(s: Shape, sums: str, matrix: Matrix | None, target: WgslTarget) -> bool:
    """Whether a workgroup of the device can have the tile, put together from such matrices."""
    if matrix is None:
        return False
    size, tile = (matrix.rows, matrix.columns, matrix.depth), _matrix_tile(s, sums)
    if not tile.fits(size, target.subgroup, sums):
        return False
    return tile.shared_bytes(sums, size, target.subgroup, 2 if s.twice else 1) <= target.max_shared_bytes


def _matrix_cost(p: Product, s: Shape, sums: str, target: WgslTarget, stretch: int) -> float:
    """Microseconds, by what measured tiles take; infinite where it does not fit. sums of i32: p's sum counts words."""
    each, tile = GROUP if sums == "i32" else 1, _matrix_tile(s, sums)
    late = 1.0 if s.ahead else 1.02
    size = p.m, p.k * each, p.column.extent, p.batches
    return late * matrix_tiles.microseconds(tile, *size, sums, target, stretch)


# ---- products of a few rows ----


def _side_by_side(spec: KernelSpec, default: Schedule, target: WgslTarget) -> Space | None:
    """Threads along the columns, slices of the sum, elements of it that are read at once."""
    p = gpu_roles.roles(spec)
    tile = [s for s in default if isinstance(s, Tile)]
    unroll = next((s for s in default if isinstance(s, Unroll)), None)
    if p is None or p.m > gpu_roles.FEW_ROWS or unroll is None or not tile or tile[-1].axis != p.column.name:
        return None
    threads = {s.axis: s.count for s in default if isinstance(s, Threads)}
    side, slices = threads.get(p.column.name, 1), threads.get(unroll.axis, 1)
    column = p.column.name
    knobs = (
        Knob("side", tuple(dict.fromkeys((side, 2, 4, 8, 16, 32, 64)))),
        Knob("slices", tuple(dict.fromkeys((slices, 1, 2, 4, 8, 16, 32, 64)))),
        Knob("unroll", tuple(dict.fromkeys((unroll.factor, 1, 2, 4, 8)))),
    )

    def build(c: Choice) -> Schedule:
        steps: list[Step] = []
        for s in default:
            if isinstance(s, Tile) and s.axis == column:
                s = replace(s, factor=LANES * c["side"])
            elif isinstance(s, Threads) and s.axis == column:
                s = replace(s, count=c["side"])
            elif isinstance(s, Threads):
                continue
            elif isinstance(s, Unroll):
                if c["slices"] > 1:
                    steps.append(Threads(unroll.axis, c["slices"]))
                s = replace(s, factor=c["unroll"])
            steps.append(s)
        return tuple(steps)

    def cost(c: Choice) -> float | None:
        side, slices, each = c["side"], c["slices"], c["unroll"]
        if (
            not 32 <= side * slices <= target.max_workgroup
            or 16 * p.m * side * slices > target.max_shared_bytes
        ):
            return None
        if slices * each > p.k and slices > 1:
            return None
        groups = p.batches * -(-p.column.extent // (LANES * side))
        # bytes under way hide the latency of memory; a segment of 128 bytes is the least that is read
        waiting: int = groups * side * slices * each
        found: float = (
            max(1.0, 4 * target.invocations / waiting) * max(1.0, 8 / side) * (1 + 0.02 * slices / 8)
        )
        return found

    return Space(spec, "row", default, knobs, build, cost)


def _along(default: Schedule, spec: KernelSpec, target: WgslTarget) -> Space | None:
    """Columns that a team does at once, threads of a team, spans whose weights are read before the first is used;
    weights of few bits as floats or by digits of the rows, and those for how many rounds of columns."""
    own = default[0] if len(default) == 1 else None
    if not isinstance(own, Along):
        return None
    columns = tuple(dict.fromkeys((own.columns, 1, 2, 4)))
    block = _digits_of(spec, own)
    knobs = (
        Knob("columns", tuple(dict.fromkeys((*columns, 8, 16))) if block else columns),
        Knob("threads", tuple(dict.fromkeys((own.threads, 16, 32, 64, 128, 256)))),
        Knob("turns", tuple(dict.fromkeys((own.turns, 1, 2, 4)))),
        Knob("staged", (True, False) if own.staged or block else (False,)),
        Knob("early", (False, True) if block else (False,)),
        Knob("digits", (0, 1, 2, 4, 8) if block else (0,)),
    )
    across = next(a.extent for a in spec.axes if a.name == own.axis)
    body = spec.stages[0].body
    assert body is not None  # or no rule had said Along
    apart = body.args[0].axes() ^ body.args[1].axes()  # axes of both are batches
    rows = prod(a.extent for a in spec.axes if a.name != own.axis and a.name in apart)
    terms = prod(a.extent for a in spec.stages[0].reduce)

    def step_of(c: Choice) -> Along:
        step = replace(own, **{k: c[k] for k in ("columns", "threads", "turns", "staged", "early")})
        return replace(step, span=block) if c["digits"] else step

    def build(c: Choice) -> Schedule:
        return (step_of(c), Digits(c["digits"])) if c["digits"] else (step_of(c),)

    def cost(c: Choice) -> float | None:
        """How far it is from the rules' own: nothing better is known. Digits are made once for all columns of a team,
        so those want many; but not so many that the device is idle."""
        if c["early"] and (c["staged"] or rows * step_of(c).span // LANES * c["turns"] > EARLY):
            return None
        if c["threads"] > target.max_workgroup or shared_bytes(step_of(c), rows) > target.max_shared_bytes:
            return None
        if c["digits"]:
            together, spans = c["columns"] * c["digits"], -(-terms // (block * c["threads"]))
            held = spans * block * rows * COUNT // 4 if c["digits"] > 1 else 0
            if c["columns"] < 4 or rows * c["columns"] > 32 or held > HELD or c["turns"] > max(spans, 1):
                return None
            if c["early"] and c["digits"] > 1 and c["turns"] > 1:
                return None  # one span ahead in any case
            idle = target.invocations / (c["threads"] * -(-across // together))
            far = abs(log2(together / DIGITS_FOR)) + 1.5 * abs(log2(c["threads"] / own.threads))
            away: float = far + log2(max(idle, 1.0)) + 1.5 * log2(c["turns"]) + (0.0 if c["staged"] else 0.2)
            return 0.5 + away + (0.25 if c["early"] else 0.0)
        if c["columns"] not in columns or (c["staged"] and not own.staged):
            return None
        far = float(c["staged"] != own.staged) + (0.25 if c["early"] else 0.0)
        return far + sum(abs(log2(c[k] / getattr(own, k))) for k in ("columns", "threads", "turns"))

    return Space(spec, "along", default, knobs, build, cost)


def _digits_of(spec: KernelSpec, own: Along) -> int:
    """Elements of a block of weights of few bits, which digits of the rows can be multiplied with; else 0."""
    reduce = spec.stages[0].reduce
    if len(reduce) < 2:
        return 0
    block = reduce[-1].extent * reduce[-2].extent
    plain = replace(own, columns=1, span=block, turns=1, staged=False)
    return block if fits(spec, (plain, Digits())) else 0


# ---- attention ----


def _attention(spec: KernelSpec, default: Schedule, target: WgslTarget) -> Space | None:
    online = next((s for s in default if isinstance(s, Online)), None)
    s = attention_shape(spec) if spec.scratch >= 0 else None
    if online is None or s is None:
        return None
    knobs = (
        Knob("rows", tuple(dict.fromkeys((online.rows, 8, 16, 32, 64, 128)))),
        Knob("down", tuple(dict.fromkeys((online.down, 2, 4, 8, 16)))),
        Knob("keys", tuple(dict.fromkeys((online.keys, 32, 64, 128)))),
        Knob("across", tuple(dict.fromkeys((online.across, 8, 16)))),
        Knob("depth", tuple(dict.fromkeys((online.depth, 8, 16, 32)))),
    )

    def step(c: Choice) -> Online:
        return Online(online.axis, c["rows"], c["down"], c["keys"], c["across"], c["depth"])

    def cost(c: Choice) -> float | None:
        t = step(c)
        wide = -(-s.last.axes[0].extent // LANES // t.across) or 1
        if t.rows % t.down or t.keys % (LANES * t.across) or t.keys % t.depth or t.depth % LANES:
            return None
        if t.rows // t.down * (t.keys // LANES // t.across + wide) > 48 or t.down * t.across < 32:
            return None
        if (
            t.down * t.across > target.max_workgroup
            or gpu_attention.shared_bytes(t, s) > target.max_shared_bytes
        ):
            return None
        return gpu_attention.cost(s, t, target)

    return Space(spec, "attention", default, knobs, lambda c: (step(c),), cost)


# ---- reductions, norms, element-wise kernels ----


def _rows(spec: KernelSpec, default: Schedule, target: WgslTarget) -> Space:
    """What each rule would make of it: a team of threads a row, a row or a vector of results an invocation; and teams
    of other sizes."""
    ways: dict[Schedule, None] = {default: None}
    if spec.scratch < 0:
        for rule in (gpu_rules.team, gpu_rules.columns, gpu_rules.rows):
            found = rule(spec, target)
            if found is not None:
                ways[found] = None
        ways[gpu_rules.elementwise(spec, target)] = None
    for way in list(ways):
        team = next((s for s in way if isinstance(s, Team)), None)
        if team is None:
            continue
        for threads in (team.threads // 2, 2 * team.threads, team.threads // 4, 4 * team.threads):
            if 16 <= threads <= target.max_workgroup:
                ways[tuple(replace(s, threads=threads) if isinstance(s, Team) else s for s in way)] = None
    listed = tuple(ways)

    def build(c: Choice) -> Schedule:
        way: Schedule = c["way"]
        return way

    return Space(
        spec, "rows", default, (Knob("way", listed),), build, lambda c: float(listed.index(c["way"]))
    )
