"""What a schedule of workgroups says: takes its steps, gives them by kind, and axes that are tiled as one.

`Run` is an axis, perhaps of several fused ones: `at` says where each part is at an element or a vector of it; `placed`
puts an expression there, and joins the parts again where they lie in memory as they were fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnjit.codegen.expr import LANE, Access, Expr, Index, axis, const
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.group_steps import Cache, HalfSums, Matrix, Patch
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
    half_sums: HalfSums | None = None
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


def joined(i: Index) -> Index:
    """The same element without taking apart what the index puts together: c * n * (x / n) + c * (x % n) is c * x."""
    for atom, c in i.terms:
        if isinstance(atom, str) or atom.op != "rem" or atom.args[1].op != "const":
            continue
        quotient = Expr("div", atom.dtype, atom.args)
        if i.coeff(quotient) == c * atom.args[1].attr:
            whole = atom.args[0]
            rest = Index(i.const, tuple([t for t in i.terms if t[0] not in (atom, quotient)]))
            return joined(rest + (whole.attr if whole.op == "axis" else Index(0, {whole: 1})) * c)
    return i


def placed(e: Expr, env: Env, leaf: Callable[[Expr], Expr | None] | None = None) -> Expr:
    """As `rewrite`, with indices joined."""
    if all(i.plain for i in env.values()):
        return rewrite(e, env, leaf)
    return _Placed(env, leaf, {}).inner(e)


@dataclass(slots=True, eq=False)
class _Placed:
    """The leaf of a rewriting that joins the index of each load."""

    env: Env
    leaf: Callable[[Expr], Expr | None] | None
    memo: dict[Expr, Expr]

    def __call__(self, x: Expr) -> Expr | None:
        new = self.leaf(x) if self.leaf is not None else None
        if new is not None or x.op != "load":
            return new
        guard = tuple((i.subst(self.env, self.inner), n) for i, n in x.attr.guard)
        access = Access(x.attr.operand, joined(x.attr.index.subst(self.env, self.inner)), guard)
        return Expr("load", x.dtype, tuple(self.inner(a) for a in x.args), access)

    def inner(self, x: Expr) -> Expr:
        return rewrite(x, self.env, self, self.memo)
