"""Loops over the tiles of axes: whole tiles in a loop, a tail and peeled tiles as copies with their own constants.

Takes axes, options and what is inside for given places of the axes; returns statements.
"""

from __future__ import annotations

from collections.abc import Callable

from nnjit.codegen.expr import Expr, Index, axis, compare, const, op
from nnjit.codegen.loops import Decode, For, If, Stmt, Where
from nnjit.codegen.schedule.options import Bound, Env, Options, tile_of
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.spec import Axis


def flattened(
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
            fold = counts[i] if outer[i].name in o.folded else 0
            decodes.append(Decode(names[i], "p", div, counts[i] if i else 0, fold))
        div *= counts[i]
    stmts += decodes

    def bind(i: int, env: Env) -> list[Stmt]:
        if i == len(outer):
            return _reached(o, outer, env, inside(env))
        a, t = outer[i], tile_of(o, outer[i])
        full, rem = divmod(a.extent, t)
        at = Index(0, {names[i]: t} if counts[i] > 1 else ())
        # copies for the peeled tiles, those between them and the tail, each up to its last tile
        cases = [(first + n, Bound(at, t, t)) for first, n in _runs(o, a, full, rem)]
        if rem:
            cases.append((counts[i], Bound(Index(full * t), rem, t)))
        # peeled tiles and those between them lie at the same index: what differs is decided by their guards, later
        bodies = {bound: bind(i + 1, {**env, a.name: bound}) for bound in dict.fromkeys(b for _, b in cases)}
        out = bodies[cases[-1][1]]
        for end, bound in reversed(cases[:-1]):
            out = [If(names[i], end, bodies[bound], out)]
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


def loops(axes: list[Axis], o: Options, env: Env, inside: Callable[[Env], list[Stmt]]) -> list[Stmt]:
    """Serial loops over the tiles of `axes` (of their current block), with a copy for each tail."""
    if not axes:
        return inside(env)
    a, rest = axes[0], axes[1:]
    t = tile_of(o, a)
    block = env.get(a.name + "/")
    start = block.base if block else Index(0)
    full, rem = divmod(block.count if block else a.extent, t)
    out: list[Stmt] = []
    for first, n in _runs(o, a, full, rem):
        if n == 1:
            once = loops(rest, o, {**env, a.name: Bound(start + first * t, t, t)}, inside)
            out += _reached(o, [a], {a.name: Bound(start + first * t, t, t)}, once)
        else:
            var = f"{a.name}.o"
            bound = Bound(start + Index(first * t, {var: t}), t, t)
            limit = trips(o, a, t) if a.name not in o.reach else _tiles(o.reach[a.name], start + first * t, t)
            out.append(For(var, n, loops(rest, o, {**env, a.name: bound}, inside), limit=limit))
    if rem:
        tail = loops(rest, o, {**env, a.name: Bound(start + full * t, rem, t)}, inside)
        out += _reached(o, [a], {a.name: Bound(start + full * t, rem, t)}, beyond(o, a, full * t, tail))
    return out


def _reached(o: Options, axes: list[Axis], env: Env, body: list[Stmt]) -> list[Stmt]:
    """What is done for one tile of `axes`, if all of them are looked at where it begins."""
    for a in axes:
        base = env[a.name].base
        if a.name in o.reach and (base.const or base.terms):  # of every axis the first place is
            body = [Where(compare("gt", o.reach[a.name], axis(base)), body)]
    return body


def _tiles(reach: Expr, start: Index, step: int) -> Expr:
    """Tiles of `step` places from `start` on that begin before `reach`; less than 1 where none does."""
    left = op("sub", reach, axis(start + (1 - step)))
    return op("div", left, const(step, "i32")) if step > 1 else left


def trips(o: Options, a: Axis, step: int) -> Expr | None:
    """How many groups of `step` a loop over a skipped axis does; None for all."""
    limit = o.limit.get(a.name)
    if limit is None:
        return None
    check(
        o.granule % step == 0 and a.name not in o.peel,
        f"steps of {step} along {a.name} do not fill a granule",
    )
    return op("div", limit, const(step, "i32"))


def beyond(o: Options, a: Axis, start: int, rest: list[Stmt]) -> list[Stmt]:
    """What comes at `start` and after it, if the loop gets there."""
    limit = o.limit.get(a.name)
    return rest if limit is None or not start else [Where(compare("gt", limit, const(start, "i32")), rest)]
