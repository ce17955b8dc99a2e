"""Vectors whose lanes lie apart in memory, by contiguous accesses and shuffles instead of one access a lane.

Takes the loads and stores of a straight run of statements; emits, where neighbours of one run complete each other:

    four loads at c..c+3, lanes s apart      four contiguous loads, a 4x4 transposition (8 shuffles)
    a load with lanes 2, 3 or -1 apart       two contiguous loads (one), a shuffle
    four stores at c..c+3, lanes s apart     a 4x4 transposition, four contiguous stores
    two stores at c, c+1, lanes 2 apart      two shuffles, two contiguous stores

A contiguous load may read up to three elements more than the lanes need: every buffer allows that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import Atom, Expr, Index
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.loops import Set, Store
from nnjit.codegen.wasm.access import store_vector, vector_load
from nnjit.codegen.wasm.uses import Uses

if TYPE_CHECKING:
    from nnjit.codegen.wasm.places import Places

Family = tuple[int, tuple[tuple[Atom, int], ...], int, str]
"""Accesses that differ in their constant only: operand, terms without LANE, elements between lanes, element type."""

ROWS = ((0, 4, 1, 5), (2, 6, 3, 7))
"""Two vectors, one lane of each in turn: the lower halves, the upper halves."""


def family(operand: int, index: Index, dtype: str) -> Family | None:
    """The family of an access with lanes apart; None where a lane's place is known at run time only."""
    terms, lane = index.split()
    return None if lane in (0, 1) or not index.plain else (operand, terms, lane, dtype)


def shuffled(v: Places, left: int, right: int, order: Iterable[int]) -> None:
    """Pushes four of the eight lanes of two locals."""
    v.b.get(left)
    v.b.get(right)
    v.b.shuffle([4 * o + k for o in order for k in range(4)])


def transposed(v: Places, rows: list[int]) -> None:
    """The locals `rows` as a 4x4 matrix, transposed in place."""
    b = v.b
    parts = []
    for left, right in ((0, 2), (1, 3)):
        for order in ROWS:
            at = b.local("v128")
            shuffled(v, rows[left], rows[right], order)
            b.set(at)
            parts.append(at)
    # parts: rows 0 and 2 interleaved (low, high), rows 1 and 3
    for n in (0, 1):
        for i, order in enumerate(ROWS):
            shuffled(v, parts[n], parts[2 + n], order)
            b.set(rows[2 * n + i])
    for at in parts:
        b.release(at)


class Strided:
    """The accesses of one run of statements with lanes apart. `v` prints; values are kept in its locals."""

    def __init__(self, v: Places, uses: Uses, stmts: Iterable[Set | Store]) -> None:
        self.v = v
        self.consts: dict[Family, set[int]] = {}
        self.made: dict[tuple[Family, int], int] = {}
        self.rows: dict[tuple[Family, int], int] = {}
        for e in uses.loads:
            if e.attr.index.split()[1] in (0, 1):  # most
                continue
            found = self._family(e)
            if found is not None:
                self.consts.setdefault(found, set()).add(e.attr.index.const)
        self.stores = dict(self._quads(stmts, uses.read))
        self.waiting: dict[tuple[Family, int], int] = {}

    def _family(self, e: Expr) -> Family | None:
        if e.attr.guard or e.dtype in GROUPS:
            return None
        return family(e.attr.operand, e.attr.index, e.dtype)

    def release(self) -> None:
        for local in (*self.made.values(), *self.rows.values()):
            self.v.b.release(local)

    # ---- loads ----

    def load(self, e: Expr) -> bool:
        """Pushes a load with lanes apart; False (nothing pushed) where lanes have to be fetched one by one."""
        found = self._family(e)
        const = e.attr.index.const
        if found is None:
            return False
        if const not in self.consts.get(found, ()):
            return pushed(
                self.v, found, const, None
            )  # a statement of the run writes there: nothing may be kept
        if (found, const) not in self.made and not self._block(found, const):
            return pushed(self.v, found, const, self)
        self.v.b.get(self.made[found, const])
        return True

    def _block(self, of: Family, const: int) -> bool:
        """Makes four loads at once if all are wanted."""
        wanted = self.consts.get(of, set())
        if -4 < of[2] < 4:
            return False
        for first in range(const - 3, const + 1):
            if all(c in wanted and (of, c) not in self.made for c in range(first, first + 4)):
                break
        else:
            return False
        rows = []
        for r in range(4):
            contiguous(self.v, of, first + r * of[2])
            rows.append(self.v.b.local("v128"))
            self.v.b.set(rows[-1])
        transposed(self.v, rows)
        for n, local in enumerate(rows):
            self.made[of, first + n] = local
        return True

    def row(self, of: Family, const: int) -> int:
        """A local with four contiguous elements."""
        at = self.rows.get((of, const))
        if at is None:
            contiguous(self.v, of, const)
            at = self.rows[of, const] = self.v.b.local("v128")
            self.v.b.set(at)
        return at

    # ---- stores ----

    def _quads(
        self, stmts: Iterable[Set | Store], read: set[int]
    ) -> Iterator[tuple[tuple[Family, int], int]]:
        """(family, constant) of each store that waits for its neighbours -> the first constant of its group."""
        written: dict[int, dict[Family | None, list[int]]] = {}
        for s in stmts:
            if isinstance(s, Store):
                dtype = self.v.operands[s.operand].dtype
                found = family(s.operand, s.index, dtype) if s.count == s.lanes == 4 else None
                written.setdefault(s.operand, {}).setdefault(found, []).append(s.index.const)
        for operand, families in written.items():
            (found, consts), *others = families.items()
            if operand in read or others or found is None or len(set(consts)) != len(consts):
                continue
            size = 2 if found[2] == 2 else 4
            if abs(found[2]) < size or found[2] < 0:
                continue
            left = sorted(consts)
            while left:
                first = left[0]
                group = list(range(first, first + size))
                if left[:size] == group:
                    yield from (((found, c), first) for c in group)
                    del left[:size]
                else:
                    del left[0]

    def store(self, s: Store, value: int) -> bool:
        """Takes the local `value` of a store that waits for its neighbours, and stores all with the last of them."""
        if not self.stores:
            return False
        found = family(s.operand, s.index, self.v.operands[s.operand].dtype)
        if found is None or (found, s.index.const) not in self.stores:
            return False
        first = self.stores[found, s.index.const]
        self.waiting[found, s.index.const] = value
        size = 2 if found[2] == 2 else 4
        group = [(found, c) for c in range(first, first + size)]
        if all(k in self.waiting for k in group):
            rows = [self.waiting.pop(k) for k in group]
            if size == 4:
                transposed(self.v, rows)
            else:
                low = self.v.b.local("v128")
                shuffled(self.v, rows[0], rows[1], ROWS[0])
                self.v.b.set(low)
                shuffled(self.v, rows[0], rows[1], ROWS[1])
                self.v.b.set(rows[1])
                self.v.b.release(rows[0])
                rows[0] = low
            apart = 4 if size == 2 else found[2]
            for r, local in enumerate(rows):
                self._contiguous_store(found, first + r * apart, local)
                self.v.b.release(local)
        return True

    def _contiguous_store(self, of: Family, const: int, local: int) -> None:
        dtype = "u16" if of[3] in ("f16", "bf16") else of[3]
        size = SIZES[dtype]
        at = self.v.place(of[0], of[1], const * size)
        store_vector(self.v.b, dtype, local, at, 4, size)


def contiguous(v: Places, of: Family, const: int) -> None:
    """Pushes four neighbours in memory."""
    operand, terms, _, dtype = of
    size = SIZES[v.operands[operand].dtype]
    vector_load(v.b, dtype, size, lambda: v.place(operand, terms, const * size))


def pushed(v: Places, of: Family, const: int, run: Strided | None) -> bool:
    """Pushes a load with lanes 2, 3 or -1 apart, sharing its contiguous parts with the run's others."""
    apart = of[2]
    if apart not in (2, 3, -1):
        return False
    b = v.b
    if apart == -1:
        contiguous(v, of, const - 3)
        at = b.local("v128")
        b.set(at)
        shuffled(v, at, at, (3, 2, 1, 0))
        b.release(at)
        return True
    # of a pair of neighbours the second reads what the first does
    odd = apart == 2 and run is not None and const - 1 in run.consts.get(of, ())
    start, shift = (const - 1, 1) if odd else (const, 0)
    if run is not None:
        left, right = run.row(of, start), run.row(of, start + 2 * apart)
    else:
        left, right = b.local("v128"), b.local("v128")
        contiguous(v, of, start)
        b.set(left)
        contiguous(v, of, start + 2 * apart)
        b.set(right)
    shuffled(v, left, right, (shift, shift + apart, 4 + shift, 4 + shift + apart))
    if run is None:
        b.release(left)
        b.release(right)
    return True
