"""apply(spec, schedule): a KernelSpec and a Schedule become a loop nest, or a ScheduleError.

Spatial axes become a loop over tiles around unrolled (and vectorised) copies of the body; a tail that
does not fill a tile gets its own copy with the right constants, so no body ever tests a bound.
Reductions keep one register for each copy across their loops.
"""

from __future__ import annotations

from dataclasses import replace

from nnjit.codegen.expr import GUARD, Expr, const, op, reg
from nnjit.codegen.loops import For, Nest, Set, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.schedule.copies import Reader, copies_of, scratch_places, within
from nnjit.codegen.schedule.dots import dotted
from nnjit.codegen.schedule.group_steps import GROUP_STEPS, Along, Digits, Online, Team
from nnjit.codegen.schedule.guards import resolved
from nnjit.codegen.schedule.options import Env, Options, check_options, ordered, tile_of
from nnjit.codegen.schedule.pack import packed_spec
from nnjit.codegen.schedule.reduction import reduction
from nnjit.codegen.schedule.scratch import Scratch, scratch
from nnjit.codegen.schedule.steps import Schedule, check
from nnjit.codegen.schedule.tiling import flattened, loops
from nnjit.codegen.schedule.unchanged import changed
from nnjit.codegen.spec import Axis, KernelSpec, Reach, Stage


def apply(spec: KernelSpec, schedule: Schedule, reach: Reach = (), place: int = -1) -> Nest:
    """The loop nest of `spec` under `schedule`; raises ScheduleError where they do not fit. What is computed beyond
    `reach` may be left out. place: the operand whose memory the output has: what it would write back stays."""
    if any(isinstance(s, GROUP_STEPS) for s in schedule):
        return _by_workgroups(spec, schedule)
    o = Options.of(schedule)
    check_options(spec, o)
    limits = {f"reach.{length}": length for _, length in reach}
    o.reach = {name: reg(f"reach.{length}", "i32") for name, length in reach}
    for p in o.packs:
        spec = packed_spec(spec, p, o.tile.get(p.axis, 1))
    if o.dot is not None:
        spec = dotted(spec, o.dot)
    order = ordered(spec, o)
    outer = [a for a in order if a.name in o.parallel]
    check([a.name for a in order[: len(outer)]] == [a.name for a in outer], "parallel axes come first")
    counts = [-(-a.extent // tile_of(o, a)) for a in outer]
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
        return loops(order[len(outer) : known], o, env, some)

    where = changed(spec, place)
    if where is None or any(
        tile_of(o, a) > 1 or a.name in o.block for a in spec.axes if a.name in where.axes()
    ):
        where = None
    names = [a.name for a in order]
    known = len(outer) if where is None else max(len(outer), *(1 + names.index(n) for n in where.axes()), 0)

    def some(env: Env) -> list[Stmt]:
        body = loops(order[known:last], o, env, lambda e: _stages(spec, o, e, order[last:], memory))
        return (
            body if where is None else [Where(rewrite(where, {a: env[a].base for a in where.axes()}), body)]
        )

    body = flattened(outer, counts, o, inside)
    if spec.facts & GUARD:
        body = resolved([For("p", tiles, body, "parallel")])
        return Nest(spec.name, spec.operands, tiles, body, limits=limits)
    return Nest(spec.name, spec.operands, tiles, [For("p", tiles, body, "parallel")], limits=limits)


def _by_workgroups(spec: KernelSpec, schedule: Schedule) -> Nest:
    from nnjit.codegen.schedule.along import along  # they build on this module
    from nnjit.codegen.schedule.along_digits import along_digits
    from nnjit.codegen.schedule.grouped import grouped
    from nnjit.codegen.schedule.online import online
    from nnjit.codegen.schedule.team import teamed

    if any(isinstance(s, Online) for s in schedule):
        return online(spec, schedule)
    if any(isinstance(s, Digits) for s in schedule):
        return along_digits(spec, schedule)
    if any(isinstance(s, Along) for s in schedule):
        return along(spec, schedule)
    return teamed(spec, schedule) if any(isinstance(s, Team) for s in schedule) else grouped(spec, schedule)


def scratch_of(spec: KernelSpec, schedule: Schedule) -> Scratch:
    """How the schedule lays out the spec's scratch memory: what each thread needs of it."""
    o = Options.of(schedule)
    check_options(spec, o)
    return _memory(spec, o)


def _memory(spec: KernelSpec, o: Options) -> Scratch:
    held = {}
    for a in spec.axes:
        held[a.name] = (
            min(o.block.get(a.name, a.extent), a.extent) if a.name in o.distributed else tile_of(o, a)
        )
    return scratch(spec, held, bool(o.distributed))


def _stages(spec: KernelSpec, o: Options, env: Env, late: list[Axis], memory: Scratch) -> list[Stmt]:
    """The stages one after another, each inside the loops over its own axes and then over the `late` ones."""
    out = _limits(spec, o, env, late)
    shared = {a.name for a in spec.axes}
    for n, s in enumerate(spec.stages):

        def body(e: Env, s: Stage = s, n: int = n) -> list[Stmt]:
            return _body(s, n, o, e, shared, memory)

        out += loops([*s.axes, *late], o, env, body)
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
        out += loops(late, Options(), env, ask)
        whole = op("mul", op("div", op("sub", op("add", reg(most, "i32"), g), one), g), g)
        for name in (name for name, b in spec.useful if b == bound):
            out.append(Set(f"{most}.{name}", op("min", whole, const(extents[name], "i32")), 1))
            o.limit[name] = reg(f"{most}.{name}", "i32")
    return out


def _body(s: Stage, n: int, o: Options, env: Env, shared: set[str], memory: Scratch) -> list[Stmt]:
    copies = list(copies_of(o, env, shared))
    out: list[Stmt] = []
    wide = next((a.name for a in s.reduce if o.lanes.get(a.name, 1) > 1), "")
    lanes_of = {c.suffix: o.lanes[wide] if wide else c.lanes for c in copies}
    reader = Reader(memory, env, o, scratch_places(copies, env, o, memory))
    if s.body is not None:
        out += reader.fetched(s.body, copies, lanes_of)
        out += reduction(s, n, o, copies, wide, reader)
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
