"""The loops over reduced axes: a register for each copy of the body, kept across them, combined at the end.

Takes a stage, its options and copies; returns statements that leave the reduction in the copies' registers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan, prod

from nnjit.codegen.dtypes import LIMITS
from nnjit.codegen.expr import LANE, Expr, Index, axis, compare, const, op, reg, select
from nnjit.codegen.loops import For, Set, Stmt, Store
from nnjit.codegen.schedule.copies import Copy, Reader, within
from nnjit.codegen.schedule.options import Options
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.schedule.tiling import beyond, trips
from nnjit.codegen.spec import Axis, Stage

MANY = 8
"""Terms from which a maximum has its NaNs looked for beside it."""


def reduction(s: Stage, n: int, o: Options, copies: list[Copy], wide: str, reader: Reader) -> list[Stmt]:
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
    apart = _nans_apart(s, [lanes or c.lanes for c in copies])
    combine = f"p{s.combine}" if apart else s.combine
    if apart:
        out += [Set(f"nan{n}{c.suffix}", const(False, "bool"), lanes or c.lanes) for c in copies]

    whole = combined(s.combine, Expr("acc", dtype, (), "acc"), body)

    def step(at: dict[str, Index], part: int, valid: int) -> list[Stmt]:
        stmts: list[Stmt] = []
        for c in copies:
            here = {**c.env, **at}
            real = valid if lanes else c.count
            if real == (lanes or c.lanes) and s.terms is None and not apart:
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
            if apart:
                found, width = f"nan{n}{c.suffix}", lanes or c.lanes
                stmts.append(Set(f"term{n}", term, width))
                term = reg(f"term{n}", dtype)
                stmts.append(Set(found, op("or", reg(found, "bool"), compare("ne", term, term)), width))
            name = _part(f"acc{n}{c.suffix}", part)
            stmts.append(Set(name, combined(combine, reg(name, dtype), term), lanes or c.lanes))
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
            total = combined(combine, total, reg(_part(name, p), dtype))
        if apart:
            total = select(reg(f"nan{n}{c.suffix}", "bool"), const(nan, dtype), total)
        if lanes:
            total = Expr(f"lanes_{s.combine}", dtype, (total,), lanes)
        if lanes or parts > 1 or apart:
            out.append(Set(name, total, lanes or c.lanes))
    return out


def _nans_apart(s: Stage, widths: list[int]) -> bool:
    """Whether a maximum or minimum is of the terms that are numbers, and a second register says in which lanes there
    was another. One that keeps NaNs by itself is eight instructions of x86 that wait for each other; apart they are
    three, of which one waits."""
    assert s.body is not None
    terms = prod(a.extent for a in s.reduce)
    plain = s.terms is None and not s.running and s.body.dtype == "f32" and min(widths) > 1
    return plain and s.combine in ("max", "min") and terms >= MANY


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
        out.append(For(a.name, full, body, limit=trips(o, a, u)))
    else:
        for i in range(u):
            out += inside({**at, a.name: Index(i)})
    rest: list[Stmt] = []
    for i in range(rem):
        rest += inside({**at, a.name: Index(full * u + i)})
    return out + (beyond(o, a, full * u, rest) if rest else [])


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
        out.append(For(a.name, full, body, limit=trips(o, a, group)))
    elif full == 1:
        for p in range(parts):
            out += beyond(o, a, p * lanes, step({**at, a.name: lane + p * lanes}, p, lanes))
    check(a.name not in o.limit or o.granule % lanes == 0, f"vectors along {a.name} do not fill a granule")
    start = full * group
    for i in range(0, rem, lanes):
        vector = step({**at, a.name: lane + (start + i)}, i // lanes % parts, min(lanes, rem - i))
        out += beyond(o, a, start + i, vector)
    return out


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
