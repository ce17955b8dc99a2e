"""What a schedule of workgroups says: takes its steps, gives them by kind, and axes that are tiled as one.

`Run` is an axis, perhaps of several fused ones: `at` says where each part is at an element or a vector of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nnjit.codegen.expr import LANE, Expr, Index, axis, const
from nnjit.codegen.schedule.group_steps import Cache, Matrix, Patch
from nnjit.codegen.schedule.kinds import sort_into
from nnjit.codegen.schedule.steps import Order, Pack, Parallel, Schedule, check
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
    lanes: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(schedule: Schedule) -> Plan:
        loops = [s for s in schedule if not isinstance(s, (Order, Parallel))]
        p = sort_into(Plan(), loops, "in a schedule of workgroups")
        check(all(lanes == LANES for lanes in p.lanes.values()), f"lanes {p.lanes}")
        return p

    @property
    def vector(self) -> str:
        """The axis in vectors; "" if there is none."""
        return next(reversed(self.lanes), "")


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
