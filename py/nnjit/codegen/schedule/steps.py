"""Schedule: a tuple of small frozen steps that say how a KernelSpec becomes a loop nest.

Each step names axes of the spec. Where an axis occurs in several stages the step holds in each.
`ScheduleError` means "this schedule does not fit this spec": a search skips it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nnjit.codegen.schedule.group_steps import GROUP_STEPS, GroupStep


class ScheduleError(Exception):
    """The schedule is not legal for the spec (or the target); the candidate is skipped."""


def check(legal: bool, message: str) -> None:
    if not legal:
        raise ScheduleError(message)


@dataclass(frozen=True, slots=True)
class Tile:
    """Each iteration computes `factor` neighbours along a spatial axis, held in registers.

    for m in 37: ...   ->   for m.o in 6: (six copies of ...);  then one tail of 1
    """

    axis: str
    factor: int


@dataclass(frozen=True, slots=True)
class Block:
    """The tiles of a shared axis run in blocks of `size` elements; the loop over blocks is called `axis/`.

    A block of rows that fits a cache is used with every column before the next block is touched:

    for n: for m.o: ...   ->   Order(("m/", "n", "m")):   for m/: for n: for m.o in this block: ...
    """

    axis: str
    size: int


@dataclass(frozen=True, slots=True)
class Vectorize:
    """`axis` runs over SIMD lanes inside its tile; on a reduced axis, lanes are summed up at the end.

    for n in 8: y[n] = f(n)   ->   y[0..3] = f(0..3); y[4..7] = f(4..7)
    """

    axis: str
    lanes: int = 4


@dataclass(frozen=True, slots=True)
class Unroll:
    """`factor` iterations of a reduced axis in one loop body, with the same accumulators.

    for k in 8: acc += f(k)   ->   for k in 4: acc += f(2k); acc += f(2k+1)
    """

    axis: str
    factor: int


@dataclass(frozen=True, slots=True)
class Partial:
    """`count` accumulators along a vectorised reduced axis, combined at the end: breaks the latency chain."""

    axis: str
    count: int


@dataclass(frozen=True, slots=True)
class Peel:
    """The `first` and `last` tiles of a shared axis get copies of their own, where guards become constants.

    for q: body   ->   body at q = 0;  for q in 1..n-2: body;  body at q = n-1
    """

    axis: str
    first: int = 1
    last: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    """The shared axes' loops, outermost first.

    for m: for n: ...   ->   Order(("n", "m")):   for n: for m: ...
    """

    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parallel:
    """These outermost shared axes are flattened into the parallel loop, whose iterations (tiles) threads share out.

    for m in 4: for n.o in 8: ...   ->   parallel for p in 32: m = p / 8; n.o = p % 8; ...
    """

    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pack:
    """Operand is read from panels: [other spatial axes][tiles of `axis`][reduced axes][inside the tile].

    The panels are made once at load for a constant operand, by a step before this one otherwise. With a `group`, that
    many neighbours along the last reduced axis lie side by side, filled up with zeros, for a `Dot`:
    [...][groups][inside the tile][group].
    """

    operand: int
    axis: str
    group: int = 1


@dataclass(frozen=True, slots=True)
class Dot:
    """`group` neighbours along the last reduced axis are multiplied and summed by one instruction in each lane.

    acc += i32(a[k]) * i32(b[k])   ->   acc = dot(a[2k..2k+1], b[2k..2k+1], acc)

    One factor is packed in the same groups, the other has k contiguous in memory."""

    axis: str
    group: int


@dataclass(frozen=True, slots=True)
class Distribute:
    """The loops of these shared axes, which come last in the order, go inside each stage and inside its own loops:

    for m/: for m: (stage 1; stage 2)   ->   for m/: (for n: for m: stage 1); (for m: stage 2)

    What is kept, and the scratch operand, has a row for each point of a block, or of the whole axis."""

    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """Loops over an axis that the spec bounds by `useful` end there, rounded up to whole `granule`s: the block's
    distributed points are asked for theirs, and the largest holds for all."""

    granule: int


@dataclass(frozen=True, slots=True)
class Fold:
    """The tiles of a parallel loop are taken from both ends in turn, 0, n - 1, 1, n - 2, ...: where work grows along
    the loop, as under a causal mask, neighbours in that order hold equal shares of it."""

    axis: str


Step: TypeAlias = (
    Tile
    | Block
    | Vectorize
    | Unroll
    | Partial
    | Peel
    | Order
    | Parallel
    | Pack
    | Dot
    | Distribute
    | Skip
    | Fold
    | GroupStep
)
Schedule: TypeAlias = tuple[Step, ...]


def describe(schedule: Schedule) -> str:
    """One line a person can read: `n tile 8 · n x4 · m tile 6 · k unroll 2 · parallel n · pack $1 by n`."""
    out = []
    for s in schedule:
        if isinstance(s, GROUP_STEPS):
            out.append(str(s))
        elif isinstance(s, Tile):
            out.append(f"{s.axis} tile {s.factor}")
        elif isinstance(s, Block):
            out.append(f"{s.axis} block {s.size}")
        elif isinstance(s, Vectorize):
            out.append(f"{s.axis} x{s.lanes}")
        elif isinstance(s, Unroll):
            out.append(f"{s.axis} unroll {s.factor}")
        elif isinstance(s, Partial):
            out.append(f"{s.axis} partial {s.count}")
        elif isinstance(s, Peel):
            out.append(f"{s.axis} peel {s.first}+{s.last}")
        elif isinstance(s, Order):
            out.append("order " + ",".join(s.axes))
        elif isinstance(s, Parallel):
            out.append("parallel " + ",".join(s.axes))
        elif isinstance(s, Distribute):
            out.append("stages over " + ",".join(s.axes))
        elif isinstance(s, Skip):
            out.append(f"skip by {s.granule}")
        elif isinstance(s, Fold):
            out.append(f"{s.axis} from both ends")
        elif isinstance(s, Dot):
            out.append(f"{s.axis} dot {s.group}")
        else:
            out.append(f"pack ${s.operand} by {s.axis}" + (f" in {s.group}s" if s.group > 1 else ""))
    return " · ".join(out)
