"""What a schedule of workgroups says: takes its steps, gives them by kind, and axes that are tiled as one.

`Run` is an axis, perhaps of several fused ones: `at` says where each part is at an element or a vector of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nnjit.codegen.expr import LANE, Expr, Index, axis, const
from nnjit.codegen.schedule.group_steps import Cache, Fuse, Matrix, Patch, Threads, Words
from nnjit.codegen.schedule.steps import (
    Block,
    Order,
    Pack,
    Parallel,
    Schedule,
    Tile,
    Unroll,
    Vectorize,
    check,
)
from nnjit.codegen.spec import Axis

LANES = 4
Env = dict[str, Index]


@dataclass(slots=True)
class Plan:
    """A schedule's steps by kind, and the axes they give roles to."""

    tile: dict[str, int] = field(default_factory=dict)
    threads: dict[str, int] = field(default_factory=dict)
    fused: dict[str, tuple[str, ...]] = field(default_factory=dict)
    block: dict[str, int] = field(default_factory=dict)
    unroll: dict[str, int] = field(default_factory=dict)
    packs: list[Pack] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    cache: Cache | None = None
    matrix: Matrix | None = None
    patch: Patch | None = None
    vector: str = ""

    @staticmethod
    def of(schedule: Schedule) -> Plan:
        p = Plan()
        for s in schedule:
            if isinstance(s, Tile):
                p.tile[s.axis] = s.factor
            elif isinstance(s, Threads):
                p.threads[s.axis] = s.count
            elif isinstance(s, Fuse):
                p.fused[s.name] = s.axes
            elif isinstance(s, Block):
                p.block[s.axis] = s.size
            elif isinstance(s, Unroll):
                p.unroll[s.axis] = s.factor
            elif isinstance(s, Pack):
                p.packs.append(s)
            elif isinstance(s, Words):
                p.words.append(s.operand)
            elif isinstance(s, Cache):
                p.cache = s
            elif isinstance(s, Matrix):
                p.matrix = s
            elif isinstance(s, Patch):
                p.patch = s
            elif isinstance(s, Vectorize):
                check(s.lanes == LANES, f"{s.lanes} lanes")
                p.vector = s.axis
            else:
                check(isinstance(s, (Order, Parallel)), f"{s} in a schedule of workgroups")
        return p


@dataclass(frozen=True, slots=True)
class Run:
    """An axis, perhaps of several fused ones: `parts` from outermost to innermost."""

    name: str
    parts: tuple[Axis, ...]

    @property
    def extent(self) -> int:
        n = 1
        for a in self.parts:
            n *= a.extent
        return n

    def at(self, base: Index, vector: bool = False) -> Env:
        """Where each part is at element `base`; `vector`: at the four from base * 4 on, lane by lane."""
        lane = Index(0, {LANE: 1})
        if len(self.parts) == 1:
            return {self.parts[0].name: base * LANES + lane if vector else base}
        # four neighbours lie in one row of the innermost part if its extent allows: one division for all
        whole = vector and self.parts[-1].extent % LANES == 0
        value = axis(base if whole or not vector else base * LANES + lane)
        out: Env = {}
        for n, a in reversed(list(enumerate(self.parts))):
            extent = a.extent // LANES if whole and n == len(self.parts) - 1 else a.extent
            divisor = const(extent, "i32")
            rest = value if n == 0 else Expr("rem", "i32", (value, divisor))
            out[a.name] = Index(0, {rest: 1})
            if whole and n == len(self.parts) - 1:
                out[a.name] = out[a.name] * LANES + lane
            value = Expr("div", "i32", (value, divisor))
        return out
