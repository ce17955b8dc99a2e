"""Where the scratch memory of a point lies, and what distributed stages keep in it.

A block of points has its rows one after another, then a number for each point of every local that is kept:

    [row of point 0][row of point 1] ... [kept 0 of every point][kept 1 of every point] ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from nnjit.codegen.expr import Expr, Index, load
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.spec import KernelSpec
from nnjit.codegen.template import Template


@dataclass(frozen=True, slots=True)
class Scratch:
    """`operand` (-1: the spec has none) holds rows of `row` elements for the points that are in work at a time.

    held: shared axis -> how many of its positions those are. kept: local -> its number, where locals go through
    memory because the stages are distributed. templates: the stages' expressions taken apart, for all bodies of a
    kernel: which of their nodes are special depends on `operand` alone."""

    operand: int
    row: int
    held: tuple[tuple[str, int], ...]
    kept: Mapping[str, int]
    dtype: str = ""
    templates: dict[Expr, Template | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def points(self) -> int:
        return prod(n for _, n in self.held)

    @property
    def size(self) -> int:
        """Elements that one thread needs."""
        return self.points * (self.row + len(self.kept))

    def place(self, at: Mapping[str, Index], origin: Mapping[str, Index]) -> Index:
        """The number of a point among those in work: `at` is where its axes are, `origin` where the block begins."""
        out, step = Index(), 1
        for name, n in reversed(self.held):
            if n > 1:
                out = out + (at[name] + origin[name] * -1) * step
            step *= n
        return out

    def index(self, i: Index, place: Index) -> Index:
        """An index of the point's own row, in the block."""
        return i + place * self.row

    def slot(self, name: str, place: Index) -> Index:
        """Where the local `name` of a point is kept."""
        return place + self.points * (self.row + self.kept[name])

    def moved(self, place: Index, inner: Callable[[Index], Index]) -> Callable[[Expr], Expr | None]:
        """A leaf for `rewrite`: reads of scratch memory at the point's own row; `inner` rewrites the index."""

        def leaf(e: Expr) -> Expr | None:
            if e.op != "load" or e.attr.operand != self.operand:
                return None
            return load(self.operand, self.index(inner(e.attr.index), place), e.dtype)

        return leaf


def scratch(spec: KernelSpec, held: Mapping[str, int], distributed: bool) -> Scratch:
    """The layout for a spec whose blocks hold `held` positions of each shared axis; ScheduleError where what is
    kept cannot go through memory."""
    operand = spec.scratch
    kept: dict[str, int] = {}
    if distributed:
        for s in spec.stages:
            if s.keep:
                kept.setdefault(s.keep, len(kept))
        check(operand >= 0 or not kept, "stages that keep locals are distributed through a scratch operand")
    o = spec.operands[operand] if operand >= 0 else None
    for s in spec.stages:
        if s.keep in kept:
            check(
                o is not None and s.result.dtype == o.dtype,
                f"{s.keep} is of another type than the scratch memory",
            )
    row = o.size if o is not None else 0
    return Scratch(operand, row, tuple(held.items()), kept, o.dtype if o is not None else "")
