"""The unrolled copies of a body in one tile, and expressions rewritten for each of them.

Takes where a tile is; gives a `Copy` for each vector or element of it, and a `Reader` that puts axes, locals and
scratch memory in their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod

from nnjit.codegen.expr import LANE, Expr, Index, axis, const, load, op, reg
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import Set, Stmt
from nnjit.codegen.rewriting import rewrite, walk
from nnjit.codegen.schedule.options import Env, Options
from nnjit.codegen.schedule.scratch import Scratch
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.template import Template

MAX_COPIES = 128
"""Copies of a body in one tile: past this the code is larger than any instruction cache likes."""


@dataclass(slots=True)  # thousands are made for a model: frozen ones take three times as long
class Copy:
    """One unrolled copy of a body: where each axis is, how many lanes are real, names for its registers."""

    env: dict[str, Index]
    lanes: int
    count: int
    shared: str  # suffix from the shared axes alone: locals are kept under it
    suffix: str


@dataclass(slots=True)
class _Position:
    """One place of a tiled axis in its tile: `lanes` elements of which `count` are real."""

    env: dict[str, Index]
    lanes: int
    count: int
    suffix: str
    shared: bool


def copies_of(o: Options, env: Env, shared: set[str]) -> list[Copy]:
    """Every copy of the body in the current tile, the axis with the fewest of them fastest, vectors where there are as
    many: what is read along it is alive all the time, of what is read along the others only one value is."""
    if o.copied is None or o.copied[0] is not env:  # stages without axes of their own have the same ones
        o.copied = env, list(_copies(o, env, shared))
    return o.copied[1]


def _copies(o: Options, env: Env, shared: set[str]) -> Iterator[Copy]:
    choices: list[list[_Position]] = []
    fixed: dict[str, Index] = {}
    for name, b in env.items():
        lanes = o.lanes.get(name, 1)
        if name.endswith("/"):
            continue
        if b.tile == 1:
            fixed[name] = b.base
            continue
        lane = Index(0, {LANE: 1} if lanes > 1 else ())
        first = b.base + lane
        # a packed operand is read from a panel, at a place in it
        panel = _divided(b.base, b.tile)
        choices.append(
            [
                _Position(
                    {name: first + i, name + ".t": panel, name + ".i": lane + i},
                    lanes,
                    min(lanes, b.count - i),
                    f".{i}",
                    name in shared,
                )
                for i in range(0, b.count, lanes)
            ]
        )
    choices.sort(key=lambda c: (-len(c), c[0].lanes))
    check(prod(map(len, choices)) <= MAX_COPIES, "too many copies of a body")
    for combo in product(*choices):
        at = dict(fixed)
        lanes, count, suffix, mine = 1, 1, "", ""
        for position in combo:
            at |= position.env
            if position.lanes > 1:
                lanes, count = position.lanes, position.count
            suffix += position.suffix
            if position.shared:
                mine += position.suffix
        yield Copy(at, lanes, count, mine, suffix)


def _divided(i: Index, d: int) -> Index:
    return Index(i.const // d, {a: c // d for a, c in i.terms})


def scratch_places(copies: list[Copy], env: Env, o: Options, memory: Scratch) -> dict[str, Index]:
    """By the suffix of a copy: the number of its point among those in scratch memory, if there is any."""
    if memory.operand < 0:
        return dict.fromkeys((c.suffix for c in copies), Index())
    origin = _origin(env, o)
    return {c.suffix: memory.place(c.env, origin) for c in copies}


def _origin(env: Env, o: Options) -> dict[str, Index]:
    """Where the points in work begin, by axis: at the block, at the axis' start or at the tile."""
    out = {}
    for name, b in env.items():
        if not name.endswith("/"):
            block = env.get(name + "/")
            out[name] = b.base if name not in o.distributed else block.base if block else Index()
    return out


@dataclass(slots=True)
class Reader:
    """Rewrites the expressions of a stage for its copies: axes, locals, scratch memory at each copy's place."""

    memory: Scratch
    env: Env
    o: Options
    places: dict[str, Index]
    have: set[str] = field(default_factory=set)

    def fetched(self, e: Expr, copies: list[Copy], lanes: dict[str, int]) -> list[Stmt]:
        """Locals that distributed stages keep in memory, brought to registers where `e` reads them."""
        out: list[Stmt] = []
        for x in walk(e) if self.memory.kept else ():
            for c in copies if x.op == "local" else ():
                name = x.attr + c.shared
                if name not in self.have:
                    self.have.add(name)
                    at = self.memory.slot(x.attr, self.places[c.suffix])
                    out.append(Set(name, load(self.memory.operand, at, x.dtype), lanes[c.suffix]))
        return out

    def value(self, e: Expr, c: Copy, at: dict[str, Index], acc: Expr | None = None) -> Expr:
        """`e` where copy `c` is, its axes at `at`; `acc` in the place of the reduction's result."""
        templates = self.memory.templates

        def leaf(x: Expr) -> Expr | None:
            if x.op == "acc":
                return acc
            if x.op == "local":
                return reg(x.attr + c.shared, x.dtype)
            if x.op == "load" and x.attr.operand == self.memory.operand:
                return load(x.attr.operand, self.index(x.attr.operand, x.attr.index, c, at), x.dtype)
            return None

        if e not in templates:  # most expressions of many stages are wanted once: not worth taking apart
            templates[e] = None
            return rewrite(e, at, leaf)
        template = templates[e]
        if template is None:
            template = templates[e] = Template(e, self._placed)
        return template(at, leaf)

    def _placed(self, e: Expr) -> bool:
        """Whether a node is another in each copy for other reasons than its axes."""
        return e.op in ("acc", "local") or (e.op == "load" and e.attr.operand == self.memory.operand)

    def index(self, operand: int, i: Index, c: Copy, at: dict[str, Index]) -> Index:
        i = i.subst(at, lambda e: self.value(e, c, at))
        return self.memory.index(i, self.places[c.suffix]) if operand == self.memory.operand else i


def within(e: Expr, count: int) -> Expr:
    """`e` for a vector of which only lanes 0..count-1 are real: scattered reads (strides, gathers) repeat the
    last real lane, because the others might lie anywhere. A contiguous read goes three elements past the end
    at most, which every buffer allows."""
    lane = op("min", axis(Index(0, {LANE: 1})), const(count - 1, "i32"))
    last = {LANE: Index(0, {lane: 1})}

    def leaf(x: Expr) -> Expr | None:
        if x.op != "load":
            return None
        i: Index = x.attr.index
        gather = any(not isinstance(a, str) and LANE in a.axes() for a, _ in i.terms)
        step = GROUPS[x.dtype][1] if x.dtype in GROUPS else 1
        return rewrite(x, last) if gather or i.coeff(LANE) not in (0, step) else None

    return rewrite(e, {}, leaf)
