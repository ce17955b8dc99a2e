"""Elements of one or two bytes that are only moved: stored as they were loaded, without a register's wider form.

u8 at c..c+15 from d..d+15        one 128-bit load and store; widened, each four take six instructions
select(one truth for all lanes)   a choice of whole vectors: its mask is the same for every byte
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import GATHER, GUARD, LANE, Expr, facts
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.wasm.legalize import const_bytes

if TYPE_CHECKING:
    from nnjit.codegen.wasm.values import Values

VECTOR = 16
"""Bytes."""


class Moved:
    """The stores of one run of statements that only move elements. `v` prints."""

    def __init__(self, v: Values, stmts: Sequence[Set | Store], read: set[int]) -> None:
        self.v = v
        self.groups: dict[int, list[Store]] = {}
        """By the id of the first store of a group: its stores, next to each other in memory."""
        self.done: set[int] = set()
        found: dict[tuple[int, object], list[Store]] = {}
        written = [s.operand for s in stmts if isinstance(s, Store)]
        changing = facts(tuple(set(written)))  # a group is loaded where its first store was
        for s in stmts:
            if not isinstance(s, Store) or s.operand in read or s.value.facts & changing:
                continue
            if s.count == s.lanes == 4 and self._plain(s):
                found.setdefault((s.operand, s.index.terms), []).append(s)
        for stores in found.values():
            if written.count(stores[0].operand) == len(stores):
                self._group(sorted(stores, key=lambda s: s.index.const))

    def _plain(self, s: Store) -> bool:
        dtype = self.v.operands[s.operand].dtype
        return SIZES[dtype] < 4 and s.index.coeff(LANE) == 1 and s.index.plain and self._moves(s.value, dtype)

    def _moves(self, e: Expr, dtype: str) -> bool:
        """Whether `e` is an element of an operand of this type, or a choice of such."""
        if e.op == "load":
            near = e.attr.index.coeff(LANE) == 1 and not e.facts & (GUARD | GATHER)
            return near and self.v.operands[e.attr.operand].dtype == dtype
        if e.op == "select":
            truth, *sides = e.args
            uniform = LANE not in truth.axes() and not any(a.startswith("%") for a in truth.axes())
            return uniform and all(self._moves(x, dtype) for x in sides)
        return e.op == "const" and dtype in ("i8", "u8")

    def _group(self, stores: Sequence[Store]) -> None:
        """Whole vectors of neighbours, then what is left, four elements each."""
        size = VECTOR // 4 // SIZES[self.v.operands[stores[0].operand].dtype]
        at = 0
        while at < len(stores):
            group = list(stores[at : at + size])
            first = group[0]
            whole = len(group) == size and all(
                s.index.const == first.index.const + 4 * n and _same(first.value, s.value, 4 * n)
                for n, s in enumerate(group)
            )
            group = group if whole else [first]
            self.groups[id(first)] = group
            self.done.update(id(s) for s in group)
            at += len(group)

    def store(self, s: Store) -> bool:
        """Stores a group with its first; False for a store that does more than move."""
        group = self.groups.get(id(s))
        if group is None:
            return id(s) in self.done
        v = self.v
        first = min(group, key=lambda g: g.index.const)
        size = SIZES[v.operands[s.operand].dtype]
        nbytes = 4 * size * len(group)
        terms, _ = first.index.split()
        at = v.place(s.operand, terms, first.index.const * size)
        self._value(first.value, size, nbytes)
        if nbytes == VECTOR:
            v.b.store("v128.store", offset=at, align=size)
        else:
            v.b.store_lane(f"v128.store{8 * nbytes}_lane", 0, offset=at, align=size)
        return True

    def _value(self, e: Expr, size: int, nbytes: int) -> None:
        """Pushes a vector that begins with the bytes of `e`."""
        v = self.v
        if e.op == "load":
            terms, _ = e.attr.index.split()
            at = v.place(e.attr.operand, terms, e.attr.index.const * size)
            v.b.load(
                "v128.load" if nbytes == VECTOR else f"v128.load{8 * nbytes}_zero", offset=at, align=size
            )
        elif e.op == "const":
            v.b.v128_const(const_bytes(e.attr, e.dtype)[:1] * VECTOR)
        else:
            for x in (e.args[1], e.args[2]):
                self._value(x, size, nbytes)
            v.value(e.args[0])
            v.b.op("v128.bitselect")


def _same(x: Expr, y: Expr, by: int) -> bool:
    """Whether `y` is `x` with every element `by` places further."""
    if x.op != y.op or x.dtype != y.dtype:
        return False
    if x.op == "load":
        return bool(x.attr.operand == y.attr.operand and x.attr.index + by == y.attr.index)
    if x.op == "select":
        return x.args[0] is y.args[0] and all(
            _same(a, b, by) for a, b in zip(x.args[1:], y.args[1:], strict=True)
        )
    return bool(x.attr == y.attr)
