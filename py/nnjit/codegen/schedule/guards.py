"""Guards against constants: a nest whose guarded reads are decided where the loop bounds decide them.

`resolved(body)` keeps the range of every loop variable while it walks the nest. A guard that always holds is
dropped, one that never holds turns its read into the value for outside, and a step of a reduction that then
adds nothing is dropped with it. `Peel` makes the border tiles of an axis copies of their own, which leaves no
guard in the tiles between them and none that is tested at run time at the border either.

    for q in 14: acc += x[q-1] if 0<=q-1<14     ->     q = 0: nothing;  for q in 13: acc += x[q]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nnjit.codegen.expr import GATHER, GUARD, LANE, Access, Expr, Index
from nnjit.codegen.loops import Decode, For, If, Set, Stmt, Store, Where
from nnjit.codegen.rewriting import rewrite
from nnjit.codegen.spec import Axis, KernelSpec

Range = tuple[int, int]
"""Least and greatest value."""


def resolved(body: Sequence[Stmt]) -> list[Stmt]:
    """The same nest without guards that its loop bounds decide."""
    return _block(body, {})


def interval(i: Index, ranges: dict[str, Range]) -> Range | None:
    """The values that an index takes, None where a term of it is not a loop variable."""
    low = high = i.const
    for atom, c in i.terms:
        known = ranges.get(atom) if isinstance(atom, str) else None
        if known is None:
            return None
        a, b = c * known[0], c * known[1]
        low, high = low + min(a, b), high + max(a, b)
    return low, high


@lru_cache(64)
def _guards(spec: KernelSpec) -> frozenset[tuple[Index, int]]:
    """All guards of a spec, which is asked for each of its axes."""
    return frozenset([g for e in spec.exprs() if e.op == "load" for g in e.attr.guard])


def borders(spec: KernelSpec, axis: Axis, tile: int) -> tuple[int, int]:
    """Tiles at the start and at the end of a shared axis in which a guard that follows it may fail."""
    extents = {a.name: a.extent for s in spec.stages for a in (*spec.axes, *s.axes, *s.reduce)}
    count = -(-axis.extent // tile)
    first = last = 0
    for i, n in _guards(spec):
        step = i.coeff(axis.name)
        if not step:
            continue
        rest = interval(
            i + Index(0, {axis.name: -step}), {name: (0, extent - 1) for name, extent in extents.items()}
        )
        if rest is None:
            continue
        if step < 0:
            return 0, 0  # a window that runs backwards is left to its guards
        # 0 <= step * p + rest < n holds for every p with low <= p < high
        low, high = -(rest[0] // step), (n - 1 - rest[1]) // step + 1
        first = max(first, min(count, -(-low // tile)))
        last = max(last, count - max(0, min(count, high // tile if high < axis.extent else count)))
    return first, min(last, count - first)


def _block(body: Sequence[Stmt], ranges: dict[str, Range]) -> list[Stmt]:
    out: list[Stmt] = []
    ranges = dict(ranges)
    reads: dict[int, _Reads] = {}
    for s in body:
        if isinstance(s, For):
            inside = {**ranges, s.var: (0, s.extent - 1)}
            kept = _block(s.body, inside)
            if kept or s.kind == "parallel":
                out.append(For(s.var, s.extent, kept, s.kind, s.limit))
        elif isinstance(s, Decode):
            low, high = ranges[s.source]
            places = (0, s.mod - 1) if s.mod else (low // s.div, high // s.div)
            ranges[s.var] = (0, s.fold - 1) if s.fold else places
            reads = {}
            out.append(s)
        elif isinstance(s, If):
            out += _if(s, ranges)
        elif isinstance(s, Where):
            out.append(Where(s.cond, _block(s.then, ranges)))
        elif isinstance(s, (Set, Store)):
            if not s.value.facts & GUARD:
                out.append(s)
                continue
            lanes = s.count if isinstance(s, Store) else s.lanes
            if lanes not in reads:
                reads[lanes] = _Reads(ranges, lanes)
            changed = _statement(s, reads[lanes])
            if changed is not None:
                out.append(changed)
        else:
            out.append(s)
    return out


def _if(s: If, ranges: dict[str, Range]) -> list[Stmt]:
    low, high = ranges[s.var]
    if high < s.below:
        return _block(s.then, ranges)
    if low >= s.below:
        return _block(s.orelse, ranges)
    then = _block(s.then, {**ranges, s.var: (low, s.below - 1)})
    orelse = _block(s.orelse, {**ranges, s.var: (s.below, high)})
    return [If(s.var, s.below, then, orelse)]


class _Reads:
    """Guarded reads in vectors of so many lanes, while loop variables are in `ranges`. Neighbouring statements read the
    same elements: each read is decided once."""

    __slots__ = ("made", "ranges")

    def __init__(self, ranges: dict[str, Range], lanes: int) -> None:
        self.ranges = {**ranges, LANE: (0, lanes - 1)}
        self.made: dict[Expr, Expr] = {}

    def value(self, e: Expr) -> Expr:
        """`e` without the guards that are decided."""
        if not e.facts & GUARD:
            return e
        done = self.made.get(e)
        if done is None:
            if e.facts & GATHER:  # a guard may be in an index
                done = rewrite(e, {}, self._leaf)
            else:
                done = self._load(e) if e.op == "load" and e.attr.guard else None
                if done is None:
                    args = [self.value(a) if a.facts & GUARD else a for a in e.args]
                    done = Expr(e.op, e.dtype, tuple(args), e.attr)
            self.made[e] = done
        return done

    def _leaf(self, e: Expr) -> Expr | None:
        if not e.facts & GUARD:
            return e
        return self._load(e) if e.op == "load" and e.attr.guard else None

    def _load(self, e: Expr) -> Expr | None:
        """None where no guard of a load is decided."""
        left = []
        for i, n in e.attr.guard:
            values = interval(i, self.ranges)
            if values is not None and (values[1] < 0 or values[0] >= n):
                return self.value(e.args[0])
            if values is None or values[0] < 0 or values[1] >= n:
                left.append((i, n))
        if len(left) == len(e.attr.guard):
            return None
        other = tuple([self.value(a) for a in e.args]) if left else ()
        return Expr("load", e.dtype, other, Access(e.attr.operand, e.attr.index, tuple(left)))


def _statement(s: Set | Store, reads: _Reads) -> Set | Store | None:
    value = reads.value(s.value)
    if isinstance(s, Store):
        return Store(s.operand, s.index, value, s.lanes, s.count)
    return None if _adds_nothing(value, s.reg) else Set(s.reg, value, s.lanes)


def _adds_nothing(e: Expr, register: str) -> bool:
    """r + 0 * y, max(r, -inf) and the like as the new value of r. A weight that is not finite would have made
    NaN out of a zero beside it: outside of the input there is nothing to multiply."""
    if e.op == "fma":
        x, y, total = e.args
        zero = (x.op == "const" and x.attr == 0) or (y.op == "const" and y.attr == 0)
        return zero and _is_reg(total, register)
    if e.op == "add":
        return _is_reg(e.args[0], register) and _is_const(e.args[1], 0)
    if e.op in ("max", "pmax", "min", "pmin"):
        limit = float("-inf") if e.op.endswith("max") else float("inf")
        return _is_reg(e.args[0], register) and _is_const(e.args[1], limit)
    return False


def _is_reg(e: Expr, name: str) -> bool:
    return e.op == "reg" and bool(e.attr == name)


def _is_const(e: Expr, value: float) -> bool:
    return e.op == "const" and bool(e.attr == value)
