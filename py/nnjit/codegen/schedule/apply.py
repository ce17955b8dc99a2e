"""apply(spec, schedule): a KernelSpec and a Schedule become a loop nest, or a ScheduleError.

Spatial axes become a loop over tiles around unrolled (and vectorised) copies of the body; a tail that
does not fill a tile gets its own copy with the right constants, so no body ever tests a bound.
Reductions keep one register for each copy across their loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, load, op, reg, rewrite, select, walk
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import Decode, For, If, Nest, Set, Stmt, Store, Where
from nnjit.codegen.schedule.dots import dotted
from nnjit.codegen.schedule.group_steps import GROUP_STEPS, Online, Team
from nnjit.codegen.schedule.guards import resolved
from nnjit.codegen.schedule.pack import fitting, packed_spec
from nnjit.codegen.schedule.scratch import Scratch, scratch
from nnjit.codegen.schedule.steps import (
    Block,
    Distribute,
    Dot,
    Order,
    Pack,
    Parallel,
    Partial,
    Peel,
    Schedule,
    ScheduleError,
    Skip,
    Tile,
    Unroll,
    Vectorize,
    check,
)
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.template import Template

MAX_COPIES = 128
"""Copies of a body in one tile: past this the code is larger than any instruction cache likes."""


@dataclass(slots=True)
class Options:
    """A schedule by kind of step."""

    tile: dict[str, int] = field(default_factory=dict)
    block: dict[str, int] = field(default_factory=dict)
    lanes: dict[str, int] = field(default_factory=dict)
    unroll: dict[str, int] = field(default_factory=dict)
    partial: dict[str, int] = field(default_factory=dict)
    peel: dict[str, Peel] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    parallel: tuple[str, ...] = ()
    packs: list[Pack] = field(default_factory=list)
    dot: Dot | None = None
    distributed: tuple[str, ...] = ()
    granule: int = 0
    limit: dict[str, Expr] = field(default_factory=dict)
    """Where the loops over an axis end in the current block, found while the nest is built: whole granules, or
    all of the axis."""

    @staticmethod
    def of(schedule: Schedule) -> Options:
        o = Options()
        for s in schedule:
            if isinstance(s, Tile):
                o.tile[s.axis] = s.factor
            elif isinstance(s, Block):
                o.block[s.axis] = s.size
            elif isinstance(s, Vectorize):
                o.lanes[s.axis] = s.lanes
            elif isinstance(s, Unroll):
                o.unroll[s.axis] = s.factor
            elif isinstance(s, Partial):
                o.partial[s.axis] = s.count
            elif isinstance(s, Peel):
                o.peel[s.axis] = s
            elif isinstance(s, Order):
                o.order = s.axes
            elif isinstance(s, Parallel):
                o.parallel = s.axes
            elif isinstance(s, Dot):
                o.dot = s
            elif isinstance(s, Distribute):
                o.distributed = s.axes
            elif isinstance(s, Skip):
                o.granule = s.granule
            elif isinstance(s, Pack):
                o.packs.append(s)
            else:
                raise ScheduleError(f"{s} is for workgroups")
        return o


@dataclass(frozen=True, slots=True)
class Bound:
    """One axis at one place of the nest: its tile starts at `base` and holds `count` elements."""

    base: Index
    count: int
    tile: int


Env = dict[str, Bound]


def apply(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The loop nest of `spec` under `schedule`; raises ScheduleError where they do not fit."""
    if any(isinstance(s, GROUP_STEPS) for s in schedule):
        return _by_workgroups(spec, schedule)
    o = Options.of(schedule)
    _check(spec, o)
    for p in o.packs:
        spec = packed_spec(spec, p, o.tile.get(p.axis, 1))
    if o.dot is not None:
        spec = dotted(spec, o.dot)
    order = _ordered(spec, o)
    outer = [a for a in order if a.name in o.parallel]
    check([a.name for a in order[: len(outer)]] == [a.name for a in outer], "parallel axes come first")
    counts = [-(-a.extent // _tile(o, a)) for a in outer]
    tiles = 1
    for c in counts:
        tiles *= c

    last = len(order) - len(o.distributed)
    memory = _memory(spec, o)
    if memory.operand >= 0:
        operands = list(spec.operands)
        operands[memory.operand] = replace(operands[memory.operand], size=memory.size)
        spec = replace(spec, operands=tuple(operands))

    def inside(env: Env) -> list[Stmt]:
        return _loops(order[len(outer) : last], o, env, lambda e: _stages(spec, o, e, order[last:], memory))

    body = _flattened(outer, counts, o, inside)
    if any(e.op == "load" and e.attr.guard for e in spec.exprs()):
        body = resolved([For("p", tiles, body, "parallel")])
        return Nest(spec.name, spec.operands, tiles, body)
    return Nest(spec.name, spec.operands, tiles, [For("p", tiles, body, "parallel")])


def _by_workgroups(spec: KernelSpec, schedule: Schedule) -> Nest:
    from nnjit.codegen.schedule.online import online  # they build on this module
    from nnjit.codegen.schedule.team import teamed
    from nnjit.codegen.schedule.workgroup import grouped

    if any(isinstance(s, Online) for s in schedule):
        return online(spec, schedule)
    return teamed(spec, schedule) if any(isinstance(s, Team) for s in schedule) else grouped(spec, schedule)


def scratch_of(spec: KernelSpec, schedule: Schedule) -> Scratch:
    """How the schedule lays out the spec's scratch memory: what each thread needs of it."""
    o = Options.of(schedule)
    _check(spec, o)
    return _memory(spec, o)


def _memory(spec: KernelSpec, o: Options) -> Scratch:
    held = {}
    for a in spec.axes:
        held[a.name] = (
            min(o.block.get(a.name, a.extent), a.extent) if a.name in o.distributed else _tile(o, a)
        )
    return scratch(spec, held, bool(o.distributed))


def _check(spec: KernelSpec, o: Options) -> None:
    shared = {a.name for a in spec.axes}
    own = {a.name for s in spec.stages for a in s.axes}
    reduced = {a.name for s in spec.stages for a in s.reduce}
    blocks = {name + "/" for name in o.block}
    for name in (*o.tile, *o.block, *o.lanes, *o.unroll, *o.partial, *o.peel):
        check(name in shared | own | reduced, f"no axis {name} in {spec.name}")
    check(all(n in shared | own for n in o.tile), "only spatial axes are tiled; unroll a reduced one")
    check(all(n in reduced for n in (*o.unroll, *o.partial)), "only reduced axes are unrolled")
    loops = shared | blocks
    check(set(o.order) <= loops and set(o.parallel) <= loops, "order and parallel name shared axes")
    groups = [p.group for p in o.packs if p.group > 1]
    check(groups == ([o.dot.group] if o.dot else []), "a dot goes with one operand packed in its groups")
    check(o.dot is None or o.lanes.get(o.dot.axis, 1) == 1, "the axis of a dot has no lanes of its own")
    for name, size in o.block.items():
        check(name in shared and size % o.tile.get(name, 1) == 0, f"a block of {name} is whole tiles of it")
        at = [n for n in o.order if n.rstrip("/") == name]
        check(at == [name + "/", name], f"order needs {name}/ before {name}")
        check(name not in o.parallel, f"of a blocked {name} only the blocks can be parallel")
    check(all(n in shared and n not in o.block for n in o.peel), "shared axes without blocks are peeled")
    check(
        all(f >= 1 for f in (*o.tile.values(), *o.unroll.values(), *o.partial.values())), "factors are >= 1"
    )
    for name, lanes in o.lanes.items():
        check(lanes in (1, 4), f"{lanes} lanes")  # no emitter has vectors of two
        if name not in reduced or name in o.tile:
            check(o.tile.get(name, 1) % lanes == 0, f"a tile of {name} is not a multiple of {lanes} lanes")
    check(
        set(o.distributed) <= shared and not set(o.distributed) & set(o.parallel),
        "shared loops are distributed",
    )
    check(
        o.order[len(o.order) - len(o.distributed) :] == o.distributed,
        "distributed axes come last in the order",
    )
    check(not o.granule or spec.useful != (), f"nothing of {spec.name} may be skipped")
    for s in spec.stages:
        wide = [a.name for a in (*spec.axes, *s.axes, *s.reduce) if o.lanes.get(a.name, 1) > 1]
        check(len(wide) <= 1, f"two vectorised axes {wide} in one stage")


def _ordered(spec: KernelSpec, o: Options) -> list[Axis]:
    """Shared axes in loop order: parallel ones first unless the schedule's order says otherwise. The loop
    over the blocks of an axis is an axis of its own, whose tile is the block."""
    by_name = {a.name: a for a in spec.axes}
    by_name |= {name + "/": Axis(name + "/", by_name[name].extent) for name in o.block}
    names = list(o.order) or list(o.parallel)
    names += [n for n in by_name if n not in names]
    return [by_name[n] for n in names]


def _tile(o: Options, a: Axis) -> int:
    if a.name.endswith("/"):
        return o.block[a.name[:-1]]
    tile = o.tile.get(a.name, 1)
    return max(o.lanes.get(a.name, 1), fitting(tile, a.extent))


def _flattened(
    outer: list[Axis], counts: list[int], o: Options, inside: Callable[[Env], list[Stmt]]
) -> list[Stmt]:
    """Inside the parallel loop: its variable taken apart into the outer axes' tiles."""
    if not outer:
        return inside({})
    stmts: list[Stmt] = []
    div, names = 1, [f"{a.name}.o" for a in outer]
    decodes: list[Stmt] = []
    for i in range(len(outer) - 1, -1, -1):
        if counts[i] > 1:
            decodes.append(Decode(names[i], "p", div, counts[i] if i else 0))
        div *= counts[i]
    stmts += decodes

    def bind(i: int, env: Env) -> list[Stmt]:
        if i == len(outer):
            return inside(env)
        a, t = outer[i], _tile(o, outer[i])
        full, rem = divmod(a.extent, t)
        at = Index(0, {names[i]: t} if counts[i] > 1 else ())
        # copies for the peeled tiles, those between them and the tail, each up to its last tile
        cases = [(first + n, Bound(at, t, t)) for first, n in _runs(o, a, full, rem)]
        if rem:
            cases.append((counts[i], Bound(Index(full * t), rem, t)))
        out = bind(i + 1, {**env, a.name: cases[-1][1]})
        for end, bound in reversed(cases[:-1]):
            out = [If(names[i], end, bind(i + 1, {**env, a.name: bound}), out)]
        return out

    return stmts + bind(0, {})


def _runs(o: Options, a: Axis, full: int, rem: int) -> list[tuple[int, int]]:
    """(first, number) of the whole tiles of an axis that share a copy of the body; a tail is the last peeled one."""
    peel = o.peel.get(a.name)
    if peel is None:
        return [(0, full)] if full else []
    first = min(peel.first, full)
    last = min(max(0, peel.last - (1 if rem else 0)), full - first)
    runs = ((0, first), (first, full - first - last), (full - last, last))
    return [(at, n) for at, n in runs if n]


def _loops(axes: list[Axis], o: Options, env: Env, inside: Callable[[Env], list[Stmt]]) -> list[Stmt]:
    """Serial loops over the tiles of `axes` (of their current block), with a copy for each tail."""
    if not axes:
        return inside(env)
    a, rest = axes[0], axes[1:]
    t = _tile(o, a)
    block = env.get(a.name + "/")
    start = block.base if block else Index(0)
    full, rem = divmod(block.count if block else a.extent, t)
    out: list[Stmt] = []
    for first, n in _runs(o, a, full, rem):
        if n == 1:
            out += _loops(rest, o, {**env, a.name: Bound(start + first * t, t, t)}, inside)
        else:
            var = f"{a.name}.o"
            bound = Bound(start + Index(first * t, {var: t}), t, t)
            out.append(For(var, n, _loops(rest, o, {**env, a.name: bound}, inside), limit=_trips(o, a, t)))
    if rem:
        tail = _loops(rest, o, {**env, a.name: Bound(start + full * t, rem, t)}, inside)
        out += _beyond(o, a, full * t, tail)
    return out


def _trips(o: Options, a: Axis, step: int) -> Expr | None:
    """How many groups of `step` a loop over a skipped axis does; None for all."""
    limit = o.limit.get(a.name)
    if limit is None:
        return None
    check(
        o.granule % step == 0 and a.name not in o.peel,
        f"steps of {step} along {a.name} do not fill a granule",
    )
    return op("div", limit, const(step, "i32"))


def _beyond(o: Options, a: Axis, start: int, rest: list[Stmt]) -> list[Stmt]:
    """What comes at `start` and after it, if the loop gets there."""
    limit = o.limit.get(a.name)
    return rest if limit is None or not start else [Where(compare("gt", limit, const(start, "i32")), rest)]


def _stages(spec: KernelSpec, o: Options, env: Env, late: list[Axis], memory: Scratch) -> list[Stmt]:
    """The stages one after another, each inside the loops over its own axes and then over the `late` ones."""
    out = _limits(spec, o, env, late)
    shared = {a.name for a in spec.axes}
    for n, s in enumerate(spec.stages):

        def body(e: Env, s: Stage = s, n: int = n) -> list[Stmt]:
            return _body(s, n, o, e, shared, memory)

        out += _loops([*s.axes, *late], o, env, body)
    return out


def _limits(spec: KernelSpec, o: Options, env: Env, late: list[Axis]) -> list[Stmt]:
    """Registers with the ends of the loops that `useful` bounds: the most that any point of the block asks for, in
    whole granules."""
    o.limit = {}
    out: list[Stmt] = []
    if not o.granule:
        return out
    extents = {a.name: a.extent for s in spec.stages for a in (*s.axes, *s.reduce)}
    one, g = const(1, "i32"), const(o.granule, "i32")
    for n, bound in enumerate(dict.fromkeys(bound for _, bound in spec.useful)):
        most = f"useful{n}"

        def ask(e: Env, bound: Expr = bound, most: str = most) -> list[Stmt]:
            single = all(e[x].tile == 1 for x in bound.axes() if x in e)
            check(single, "what a point asks for depends on an axis with tiles that are not distributed")
            wanted = rewrite(bound, {name: b.base for name, b in e.items() if not name.endswith("/")})
            return [Set(most, op("max", reg(most, "i32"), wanted), 1)]

        out.append(Set(most, one, 1))
        out += _loops(late, Options(), env, ask)
        whole = op("mul", op("div", op("sub", op("add", reg(most, "i32"), g), one), g), g)
        for name in (name for name, b in spec.useful if b == bound):
            out.append(Set(f"{most}.{name}", op("min", whole, const(extents[name], "i32")), 1))
            o.limit[name] = reg(f"{most}.{name}", "i32")
    return out


@dataclass(frozen=True, slots=True)
class Copy:
    """One unrolled copy of a body: where each axis is, how many lanes are real, names for its registers."""

    env: dict[str, Index]
    lanes: int
    count: int
    shared: str  # suffix from the shared axes alone: locals are kept under it
    suffix: str


@dataclass(frozen=True, slots=True)
class _Position:
    """One place of a tiled axis in its tile: `lanes` elements of which `count` are real."""

    env: dict[str, Index]
    lanes: int
    count: int
    suffix: str
    shared: bool


def _copies(o: Options, env: Env, shared: set[str]) -> Iterator[Copy]:
    """Every copy of the body in the current tile, the axis with the fewest of them fastest, vectors where there are as
    many: what is read along it is alive all the time, of what is read along the others only one value is."""
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


def _body(s: Stage, n: int, o: Options, env: Env, shared: set[str], memory: Scratch) -> list[Stmt]:
    copies = list(_copies(o, env, shared))
    out: list[Stmt] = []
    wide = next((a.name for a in s.reduce if o.lanes.get(a.name, 1) > 1), "")
    lanes_of = {c.suffix: o.lanes[wide] if wide else c.lanes for c in copies}
    reader = _Reader(memory, env, o, _scratch_places(copies, env, o, memory))
    if s.body is not None:
        out += reader.fetched(s.body, copies, lanes_of)
        out += _reduction(s, n, o, copies, wide, reader)
    out += reader.fetched(s.result, copies, lanes_of)
    for c in copies:
        lanes = lanes_of[c.suffix]
        acc = reg(f"acc{n}{c.suffix}", s.body.dtype) if s.body is not None else None
        value = reader.value(s.result, c, c.env, acc)
        if not wide and c.count < lanes:
            value = within(value, c.count)
        # a horizontal reduction leaves its value in every lane: one is stored
        count = 1 if wide else c.count
        if s.keep and s.keep in memory.kept:
            out.append(
                Store(memory.operand, memory.slot(s.keep, reader.places[c.suffix]), value, lanes, count)
            )
        elif s.keep:
            out.append(Set(s.keep + c.shared, value, lanes))
        else:
            out.append(Store(s.out, reader.index(s.out, s.index, c, c.env), value, lanes, count))
    return out


def _scratch_places(copies: list[Copy], env: Env, o: Options, memory: Scratch) -> dict[str, Index]:
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
class _Reader:
    """Rewrites the expressions of a stage for its copies: axes, locals, scratch memory at each copy's place."""

    memory: Scratch
    env: Env
    o: Options
    places: dict[str, Index]
    have: set[str] = field(default_factory=set)
    templates: dict[Expr, Template] = field(default_factory=dict)

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
        def leaf(x: Expr) -> Expr | None:
            if x.op == "acc":
                return acc
            if x.op == "local":
                return reg(x.attr + c.shared, x.dtype)
            if x.op == "load" and x.attr.operand == self.memory.operand:
                return load(x.attr.operand, self.index(x.attr.operand, x.attr.index, c, at), x.dtype)
            return None

        template = self.templates.get(e)
        if template is None:
            template = self.templates[e] = Template(e, self._placed)
        return template(at, leaf)

    def _placed(self, e: Expr) -> bool:
        """Whether a node is another in each copy for other reasons than its axes."""
        return e.op in ("acc", "local") or (e.op == "load" and e.attr.operand == self.memory.operand)

    def index(self, operand: int, i: Index, c: Copy, at: dict[str, Index]) -> Index:
        i = i.subst(at, lambda e: self.value(e, c, at))
        return self.memory.index(i, self.places[c.suffix]) if operand == self.memory.operand else i


def _reduction(s: Stage, n: int, o: Options, copies: list[Copy], wide: str, reader: _Reader) -> list[Stmt]:
    """Registers set to the identity, the loops over reduced axes, then partials and lanes combined."""
    assert s.body is not None
    dtype, body = s.body.dtype, s.body
    zero = identity(s.combine, dtype)
    lanes = o.lanes[wide] if wide else 0
    parts = o.partial.get(wide, 1)
    check(not (s.running and wide), "the terms of a running total come one after the other")
    out: list[Stmt] = []
    for c in copies:
        for p in range(parts):
            out.append(Set(_part(f"acc{n}{c.suffix}", p), zero, lanes or c.lanes))

    whole = combined(s.combine, Expr("acc", dtype, (), "acc"), body)

    def step(at: dict[str, Index], part: int, valid: int) -> list[Stmt]:
        stmts: list[Stmt] = []
        for c in copies:
            here = {**c.env, **at}
            real = valid if lanes else c.count
            if real == (lanes or c.lanes) and s.terms is None:
                name = _part(f"acc{n}{c.suffix}", part)
                stmts.append(Set(name, reader.value(whole, c, here, reg(name, dtype)), lanes or c.lanes))
                continue
            term = reader.value(body, c, here)
            if real < (lanes or c.lanes):
                term = within(term, real)
            if s.running:
                name, width = f"acc{n}{c.suffix}", lanes or c.lanes
                place = reader.index(s.terms[0], s.terms[1], c, here)  # type: ignore[index]
                store = Store(s.terms[0], place, reg(name, dtype), width, real)  # type: ignore[index]
                update = Set(name, combined(s.combine, reg(name, dtype), term), width)
                stmts += [update, store] if s.running == "after" else [store, update]
                continue
            if s.terms is not None:
                stmts.append(Set(f"term{n}", term, lanes or c.lanes))
                term = reg(f"term{n}", dtype)
                place = reader.index(s.terms[0], s.terms[1], c, here)
                stmts.append(Store(s.terms[0], place, term, lanes or c.lanes, real))
            if lanes and valid < lanes:
                term = select(compare("lt", axis(Index(0, {LANE: 1})), const(valid, "i32")), term, zero)
            name = _part(f"acc{n}{c.suffix}", part)
            stmts.append(Set(name, combined(s.combine, reg(name, dtype), term), lanes or c.lanes))
        return stmts

    def loops(axes: tuple[Axis, ...], at: dict[str, Index]) -> list[Stmt]:
        if not axes:
            return step(at, 0, lanes)
        a, rest = axes[0], axes[1:]
        if a.name == wide:
            check(not rest, f"vectorised reduction over {wide} must be the innermost")
            return _lanewise(a, o, at, step)
        return _unrolled(a, o, at, lambda e: loops(rest, e))

    inner = sorted(s.reduce, key=lambda a: a.name == wide)
    out += loops(tuple(inner), {})
    for c in copies:
        name = f"acc{n}{c.suffix}"
        total = reg(name, dtype)
        for p in range(1, parts):
            total = combined(s.combine, total, reg(_part(name, p), dtype))
        if lanes:
            total = Expr(f"lanes_{s.combine}", dtype, (total,), lanes)
        if lanes or parts > 1:
            out.append(Set(name, total, lanes or c.lanes))
    return out


def _part(name: str, part: int) -> str:
    return f"{name}|{part}" if part else name


def _unrolled(
    a: Axis, o: Options, at: dict[str, Index], inside: Callable[[dict[str, Index]], list[Stmt]]
) -> list[Stmt]:
    u = min(o.unroll.get(a.name, 1), a.extent)
    full, rem = divmod(a.extent, u)
    out: list[Stmt] = []
    if full > 1:
        body: list[Stmt] = []
        for i in range(u):
            body += inside({**at, a.name: Index(i, {a.name: u})})
        out.append(For(a.name, full, body, limit=_trips(o, a, u)))
    else:
        for i in range(u):
            out += inside({**at, a.name: Index(i)})
    rest: list[Stmt] = []
    for i in range(rem):
        rest += inside({**at, a.name: Index(full * u + i)})
    return out + (_beyond(o, a, full * u, rest) if rest else [])


def _lanewise(
    a: Axis, o: Options, at: dict[str, Index], step: Callable[[dict[str, Index], int, int], list[Stmt]]
) -> list[Stmt]:
    """A reduced axis in vectors: whole groups of partial sums' vectors in a loop, then what is left."""
    lane, lanes, parts = Index(0, {LANE: 1}), o.lanes[a.name], o.partial.get(a.name, 1)
    group = lanes * parts
    full, rem = divmod(a.extent, group)
    out: list[Stmt] = []
    if full > 1:
        body: list[Stmt] = []
        for p in range(parts):
            body += step({**at, a.name: Index(p * lanes, {a.name: group}) + lane}, p, lanes)
        out.append(For(a.name, full, body, limit=_trips(o, a, group)))
    elif full == 1:
        for p in range(parts):
            out += step({**at, a.name: lane + p * lanes}, p, lanes)
    start, rest = full * group, list[Stmt]()
    for i in range(0, rem, lanes):
        rest += step({**at, a.name: lane + (start + i)}, i // lanes % parts, min(lanes, rem - i))
    return out + (_beyond(o, a, start, rest) if rest else [])


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


def identity(combine: str, dtype: str) -> Expr:
    """The value that leaves a reduction as it is."""
    if combine in ("any", "all"):
        return const(combine == "all", "bool")
    if combine in ("sum", "prod"):
        return const(combine == "prod", dtype)
    low, high = LIMITS.get(dtype, (float("-inf"), float("inf")))
    return const(low if combine in ("max", "pmax") else high, dtype)


def combined(combine: str, a: Expr, b: Expr) -> Expr:
    """One step of a reduction; a sum of products becomes a fused multiply-add where the target has it."""
    if combine == "sum" and b.op == "mul" and b.dtype == "f32":
        return Expr("fma", "f32", (b.args[0], b.args[1], a))
    if combine == "sum" and b.op == "dot":
        return Expr("dot", b.dtype, (*b.args, a))
    name = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(combine, combine)
    return Expr(name, a.dtype, (a, b))
