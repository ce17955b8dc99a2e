"""TopK: the k largest (or smallest) of each row, in order, and where they were.

Few of many are taken one after the other: by one kernel that has a short row in the cache meanwhile, from a long row by
way of blocks that each know their best, else by a loop of the plan. Many of few are counted into place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import FLOATS, LIMITS
from nnjit.codegen.expr import Expr, Index, acc, axis, cast, compare, const, local, op, select
from nnjit.codegen.spec import Axis, Stage
from nnjit.codegen.wasm.target import Target
from nnjit.graph.ir import Node, Value
from nnjit.lower.context import Context
from nnjit.lower.ops.compose import compute, const_ints, fill, layout_of, output, part, shape_of, temporary
from nnjit.lower.ops.norm import keep
from nnjit.lower.registry import Computation, Unsupported, composite
from nnjit.lower.turns import repeat

if TYPE_CHECKING:
    from nnjit.lower.build import Build

TURNS = 8
"""Extremes that one kernel takes, stage after stage."""
SHORT = 256
"""Elements of a row that such a kernel looks through, in lanes, sooner than blocks of it one by one."""
BLOCKS = 4
"""Blocks from which on a row is worth dividing."""
LOOK = 4
"""What an element of a block costs a turn, over the best of a block."""
BLOCK = 16
"""Blocks have a multiple of so many elements: whole vectors of every type."""
SELECTED = 1 << 27
"""Elements looked at, over all turns, up to which one extreme is taken after the other."""
QUADRATIC = 1 << 24
"""Comparisons up to which comparing all pairs is taken to be faster than a trip to the reference."""


@composite("TopK")
def top_k(build: Build, node: Node) -> None:
    """The way that looks at the fewest elements; on a GPU, whose threads share a row, all pairs are compared."""
    x, given = node.inputs[0], const_ints(node.inputs[1])
    assert x is not None and given is not None
    shape, k = shape_of(x), given[0]
    d = node.attrs.get("axis", -1) % len(shape)
    n, size = shape[d], x.size or 0
    if x.dtype == "bool":
        raise Unsupported("TopK of bool")
    if 0 < 2 * k < n and isinstance(build.target, Target):
        of = Order.of(x.dtype, bool(node.attrs.get("largest", 1)))
        if k <= TURNS and n <= SHORT and size * k <= SELECTED:
            return in_rows(build, node, d, k, of)
        block = BLOCK * -(-max(k + 1, math.isqrt(n // LOOK)) // BLOCK)
        if n >= BLOCKS * block and size // n * k * (n // block + 2 * block) <= SELECTED:
            return from_blocks(build, node, d, k, of, block)
        if size * k <= SELECTED:
            return one_by_one(build, node, d, k, of)
    if size * n > QUADRATIC:
        raise Unsupported(f"TopK of {n} {x.dtype} elements")
    by_rank(build, node, d, k)


@dataclass(frozen=True, slots=True)
class Order:
    """What "better" means: `better` and `best` name the comparison and the reduction, all elements lie between `last`
    and `first`. A NaN is no better than anything."""

    dtype: str
    better: str
    worse: str
    best: str
    first: float
    last: float

    @staticmethod
    def of(dtype: str, largest: bool) -> Order:
        low, high = LIMITS.get(dtype, (-math.inf, math.inf))
        best = ("p" if dtype in FLOATS else "") + ("max" if largest else "min")
        return Order(dtype, *(("gt", "lt", best, high, low) if largest else ("lt", "gt", best, low, high)))

    def behind(self, element: Expr, place: Expr, value: Expr, at: Expr) -> Expr:
        """Whether `element` at `place` comes after the one taken last, `value` at place `at`."""
        equal = op("and", compare("eq", element, value), compare("gt", place, at))
        return op("or", compare(self.worse, element, value), equal)

    def nothing(self) -> Expr:
        return const(self.last, self.dtype)


def first_place(along: Axis, wanted: Expr, place: Expr, end: int) -> tuple[tuple[Axis, ...], str, Expr, Expr]:
    """Axes, reduction, body and result of a stage that finds the first place that is wanted; one inside where none
    is, as in a row of nothing but NaNs."""
    body = select(wanted, place, const(LIMITS["i32"][1], "i32"))
    return (along,), "min", body, op("min", acc("i32"), const(end, "i32"))


# ---- one after the other, a row at a time ----


def in_rows(build: Build, node: Node, d: int, k: int, of: Order) -> None:
    """All turns of a row, two stages each: the best of what comes after the one taken last, then the first place that
    has it; of equals, the first one behind the one taken last."""
    x = node.inputs[0]
    assert x is not None
    shape = shape_of(x)
    ctx, along = Context(build), Axis("r", shape[d])
    axes, at = ctx.axes([e for i, e in enumerate(shape) if i != d])
    element, place = ctx.read(x, [*at[:d], Index.of("r"), *at[d:]]), axis(Index.of("r"))
    stages: list[Stage] = []
    found: list[tuple[Expr, Expr]] = []
    for turn in range(k):
        value, spot = local(f"best{turn}", x.dtype), local(f"place{turn}", "i32")
        left, wanted = element, compare("eq", element, value)
        if found:
            left = select(of.behind(element, place, *found[-1]), element, of.nothing())
        stages.append(keep(f"best{turn}", (along,), of.best, left, acc(x.dtype)))
        if found:
            ahead = select(compare("eq", value, found[-1][0]), found[-1][1], const(-1, "i32"))
            stages.append(Stage((), (), "", None, ahead, keep=f"ahead{turn}"))
            wanted = op("and", wanted, compare("gt", place, local(f"ahead{turn}", "i32")))
        stages.append(keep(f"place{turn}", *first_place(along, wanted, place, shape[d] - 1)))
        found.append((value, spot))
    wanted_outputs = [n for n in (0, 1) if n < len(node.outputs) and node.outputs[n].name]
    for number in wanted_outputs:
        y = output(build, node, number)
        buffer, layout = build.tensors.place(y)
        last = number == wanted_outputs[-1]
        out = -1 if last else ctx.operand(buffer, layout.offset, y.dtype, layout.span, "out")
        for turn, pair in enumerate(found):
            where = layout.index([*at[:d], Index(turn), *at[d:]])
            stages.append(Stage((), (), "", None, cast(pair[number], y.dtype), out, where))
    build.emit_stages(ctx, f"{x.dtype}_top", axes, stages, buffer, layout, [node], node.once, y.dtype)


# ---- one after the other, a loop of the plan ----


@dataclass(slots=True)
class Found:
    """What the turns of a loop leave: [k + 1, ...] values and places, the first of them ahead of all elements."""

    build: Build
    node: Node
    values: Value
    places: Value

    @staticmethod
    def ready(build: Build, node: Node, k: int, rest: Sequence[int], of: Order) -> Found:
        values = temporary(build, node, "values", of.dtype, [k + 1, *rest])
        places = temporary(build, node, "places", "i32", [k + 1, *rest])
        found = Found(build, node, values, places)
        fill(build, node, found.turn(values), lambda ctx, idx: const(of.first, of.dtype), "ahead")
        fill(build, node, found.turn(places), lambda ctx, idx: const(-1, "i32"), "ahead")
        return found

    def turn(self, value: Value) -> Value:
        return part(self.build, value, layout_of(self.build, value).sliced(0, 0, 1, 1))

    def last(self, ctx: Context, at: Sequence[Index]) -> tuple[Expr, Expr]:
        """Value and place that the turn before found."""
        value, place = (ctx.read(self.turn(v), [Index(), *at]) for v in (self.values, self.places))
        return value, place

    def emit(
        self, ctx: Context, axes: Sequence[Axis], at: Sequence[Index], stages: list[Stage], place: Expr
    ) -> None:
        """The kernel of a turn: `stages`, which keep `best`, then both stores; `place` may read their locals."""
        build, node = self.build, self.node
        buffer, layout = build.tensors.place(self.places)
        layout = layout.sliced(0, 1, 1, 1)
        out = ctx.operand(buffer, layout.offset, "i32", layout.span, "out")
        into, of = build.tensors.place(self.values)
        of = of.sliced(0, 1, 1, 1)
        dtype = self.values.dtype
        ends = [Stage((), (), "", None, place, out, layout.index([Index(), *at])),
                Stage((), (), "", None, local("best", dtype), -1, of.index([Index(), *at]))]  # fmt: skip
        build.emit_stages(ctx, f"{dtype}_top", axes, [*stages, *ends], into, of, [node], node.once, dtype)

    def loop(self, mark: int, k: int) -> None:
        """What was emitted since `mark` happens k times, each a turn further."""
        by = layout_of(self.build, self.values).strides[0]
        (into, _), (where, _) = (self.build.tensors.place(v) for v in (self.values, self.places))
        repeat(self.build, mark, k, {into: by, where: by}, frozenset())

    def outputs(self, d: int, k: int) -> None:
        """The node's outputs, with the turns along dimension `d`."""
        build, node = self.build, self.node
        for number, source in enumerate((self.values, self.places)):
            if number < len(node.outputs) and node.outputs[number].name:
                y = output(build, node, number)
                found = layout_of(build, source).sliced(0, 1, 1, k)
                order = [*range(1, d + 1), 0, *range(d + 1, len(found.shape))]
                seen = part(build, source, found.permuted(order))
                fill(build, node, y, lambda ctx, idx, s=seen, t=y.dtype: cast(ctx.read(s, idx), t), "top")  # type: ignore[misc]


def one_by_one(build: Build, node: Node, d: int, k: int, of: Order) -> None:
    """Each turn looks at the whole row twice: for the best that comes after the last one taken, and for its place."""
    x = node.inputs[0]
    assert x is not None
    shape = shape_of(x)
    rest = [e for i, e in enumerate(shape) if i != d]
    found = Found.ready(build, node, k, rest, of)
    ctx, along = Context(build), Axis("r", shape[d])
    axes, at = ctx.axes(rest)
    element, place = ctx.read(x, [*at[:d], Index.of("r"), *at[d:]]), axis(Index.of("r"))
    behind = of.behind(element, place, *found.last(ctx, at))
    best = keep("best", (along,), of.best, select(behind, element, of.nothing()), acc(x.dtype))
    is_best = op("and", behind, compare("eq", element, local("best", x.dtype)))
    where = keep("place", *first_place(along, is_best, place, shape[d] - 1))
    mark = len(build.steps)
    found.emit(ctx, axes, at, [best, where], local("place", "i32"))
    found.loop(mark, k)
    found.outputs(d, k)


# ---- one after the other, from blocks ----


def from_blocks(build: Build, node: Node, d: int, k: int, of: Order, size: int) -> None:
    """Blocks of `size` elements know their best; a turn takes the best of these and looks for the next of its block
    only. That is some sqrt(n) elements a turn in place of n.

    A block is longer than k, so that none but the last is used up: what stands for nothing then is the worst value
    there is, and of equals the first block is taken."""
    x = node.inputs[0]
    assert x is not None
    shape = shape_of(x)
    n, rest = shape[d], [e for i, e in enumerate(shape) if i != d]
    count = -(-n // size)
    peaks = temporary(build, node, "peaks", x.dtype, [*rest, count])
    _first_peaks(build, node, d, peaks, size, of)
    found = Found.ready(build, node, k, rest, of)
    ctx = Context(build)
    axes, at = ctx.axes(rest)
    blocks, along = Axis("b", count), Axis("r", size)
    peak = ctx.read(peaks, [*at, Index.of("b")])
    last, last_place = found.last(ctx, at)
    best, number = local("best", x.dtype), local("block", "i32")
    top = keep("best", (blocks,), of.best, peak, acc(x.dtype))
    block = keep("block", *first_place(blocks, compare("eq", peak, best), axis("b"), count - 1))
    # the last block is looked at from so far back that it is whole; what lies ahead of it does not count
    begin = op("mul", number, const(size, "i32"))
    start = op("min", begin, const(n - size, "i32"))
    spot = Index(0, {"r": 1, start: 1})
    element, place = ctx.read(x, [*at[:d], spot, *at[d:]]), axis(spot)
    taken = select(compare("eq", last, best), last_place, const(-1, "i32"))
    taken = op("max", taken, op("sub", begin, const(1, "i32")))
    ahead = Stage((), (), "", None, taken, keep="ahead")
    fresh = op("and", compare("eq", element, best), compare("gt", place, local("ahead", "i32")))
    where = keep("place", *first_place(along, fresh, place, n - 1))
    left = of.behind(element, place, best, local("place", "i32"))
    if n % size:
        left = op("and", compare("ge", place, begin), left)
    buffer, layout = build.tensors.place(peaks)
    out = ctx.operand(buffer, layout.offset, x.dtype, layout.span, "out")
    again = Stage((), (along,), of.best, select(left, element, of.nothing()), acc(x.dtype), out,
                  layout.index([*at, Index(0, {number: 1})]))  # fmt: skip
    mark = len(build.steps)
    found.emit(ctx, axes, at, [top, block, ahead, where, again], local("place", "i32"))
    found.loop(mark, k)
    found.outputs(d, k)


def _first_peaks(build: Build, node: Node, d: int, peaks: Value, size: int, of: Order) -> None:
    """The best of each block: the whole ones, then what is left over."""
    x = node.inputs[0]
    assert x is not None
    shape, layout = shape_of(x), layout_of(build, peaks)
    n, rest = shape[d], [e for i, e in enumerate(shape) if i != d]
    for first, count, long in ((0, n // size, size), (n // size, 1, n % size)):
        if not long:
            continue

        def best(ctx: Context, first: int = first, count: int = count, long: int = long) -> Computation:
            axes, at = ctx.axes([*rest, count])
            spot = at[-1] * size + Index(first * size, {"r": 1})
            element = ctx.read(x, [*at[:d], spot, *at[d:-1]])
            return Computation(axes, at, acc(x.dtype), reduce=[Axis("r", long)], combine=of.best, body=element,
                               name="peaks")  # fmt: skip

        compute(build, node, part(build, peaks, layout.sliced(len(rest), first, 1, count)), best)


# ---- many of a short row ----


def by_rank(build: Build, node: Node, d: int, k: int) -> None:
    """Each element's rank is how many come before it (larger, or equal and earlier); those below k are stored
    at their rank. The others go to a row past the end, which nobody reads."""
    x = node.inputs[0]
    assert x is not None
    shape = list(shape_of(x))
    ranks = temporary(build, node, "rank", "i32", shape)

    def rank(ctx: Context) -> Computation:
        axes, idx = ctx.axes(shape)
        other = list(idx)
        other[d] = Index.of("j")
        mine, its = ctx.read(x, idx), ctx.read(x, other)
        before = compare("gt" if node.attrs.get("largest", 1) else "lt", its, mine)
        tie = op("and", compare("eq", its, mine), compare("lt", axis("j"), axis(idx[d])))
        body = select(op("or", before, tie), const(1, "i32"), const(0, "i32"))
        return Computation(
            axes, idx, acc("i32"), reduce=[Axis("j", shape[d])], combine="sum", body=body, name="rank"
        )

    if k:
        compute(build, node, ranks, rank)
    for number, name in enumerate(("values", "indices")):
        if number >= len(node.outputs) or not node.outputs[number].name:
            continue
        y = node.outputs[number]
        longer = temporary(build, node, name, y.dtype, [k + 1 if i == d else e for i, e in enumerate(shape)])

        def place(ctx: Context, number: int = number) -> Computation:
            axes, idx = ctx.axes(shape)
            at = list(idx)
            at[d] = Index(0, ((op("min", ctx.read(ranks, idx), const(k, "i32")), 1),))
            value = ctx.read(x, idx) if number == 0 else axis(idx[d], "i64")
            # elements past k share a place: along d they follow one another on one thread
            own = [a for a in axes if a.name == f"i{d}"]
            return Computation([a for a in axes if a not in own], at, value, own=own, name="place")

        if k:
            compute(build, node, longer, place)
        buffer, layout = build.tensors.place(longer)
        build.tensors.put(y, buffer, layout.sliced(d, 0, 1, k))
