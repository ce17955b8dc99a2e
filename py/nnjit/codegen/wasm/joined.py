"""Vectors of bytes that lie next to each other, stored together: two as 64 bits, four as a whole vector.

bytes at c..c+3, c+4..c+7        two packs and a 64-bit store instead of four packs and two 32-bit stores
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import LANE, Atom
from nnjit.codegen.loops import Set, Store

if TYPE_CHECKING:
    from nnjit.codegen.wasm.places import Places

Place = tuple[int, tuple[tuple[Atom, int], ...]]
"""An operand and the terms of an index into it."""


class Joined:
    """The stores of one run of statements that have neighbours. `v` prints."""

    def __init__(self, v: Places, stmts: Iterable[Set | Store], read: set[int]) -> None:
        self.v = v
        self.groups: dict[tuple[Place, int], tuple[int, int]] = {}
        self.waiting: dict[tuple[Place, int], int] = {}
        found: dict[Place, list[int]] = {}
        for s in stmts:
            # what the run reads again must be there in time
            if not isinstance(s, Store) or s.operand in read or not self._bytes(s.operand):
                continue
            if s.count == 4 and s.index.coeff(LANE) == 1:
                found.setdefault((s.operand, s.index.terms), []).append(s.index.const)
        for place, consts in found.items():
            self._group(place, consts)

    def _bytes(self, operand: int) -> bool:
        dtype = self.v.operands[operand].dtype
        return SIZES[dtype] == 1 and dtype != "bool"

    def _group(self, place: Place, consts: list[int]) -> None:
        """Fours, then twos, of stores next to each other."""
        if len(set(consts)) < len(consts):
            return
        left = set(consts)
        for size in (4, 2):
            for c in sorted(left):
                group = [c + 4 * n for n in range(size)]
                if all(g in left for g in group):
                    left.difference_update(group)
                    self.groups |= {(place, g): (c, size) for g in group}

    def store(self, s: Store, value: int) -> bool:
        """Takes the local `value` of a store that waits for its neighbours, and stores all with the last of them."""
        place = (s.operand, s.index.terms)
        known = self.groups.get((place, s.index.const))
        if known is None:
            return False
        first, size = known
        self.waiting[place, s.index.const] = value
        keys = [(place, first + 4 * n) for n in range(size)]
        if not all(k in self.waiting for k in keys):
            return True
        b = self.v.b
        parts = [self.waiting.pop(k) for k in keys]
        sign = "s" if self.v.operands[s.operand].dtype == "i8" else "u"
        for low, high in zip(parts[::2], parts[1::2], strict=True):
            b.get(low)
            b.get(high)
            b.op("i16x8.narrow_i32x4_s")
            b.set(low)
        b.get(parts[0])
        b.get(parts[-2])
        b.op(f"i8x16.narrow_i16x8_{sign}")
        b.set(parts[0])
        terms = tuple((a, c) for a, c in s.index.terms if a != LANE)
        at = self.v.place(s.operand, terms, first)
        b.get(parts[0])
        if size == 4:
            b.store("v128.store", offset=at, align=1)
        else:
            b.store_lane("v128.store64_lane", 0, offset=at, align=1)
        for local in parts:
            b.release(local)
        return True
