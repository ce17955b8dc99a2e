"""Vectors from memory: four elements of an operand in a v128, contiguous, equal, apart, or under a guard."""

from __future__ import annotations

from nnjit.codegen.expr import GATHER, LANE, Expr, Index
from nnjit.codegen.groups import GROUPS
from nnjit.codegen.rewriting import indices
from nnjit.codegen.wasm.access import vector_load
from nnjit.codegen.wasm.scalars import Scalars
from nnjit.codegen.wasm.strided import Strided, family, pushed

NEAR = 12
"""Bytes between lanes up to which lanes that a guard excludes may be read with the others, and are not used."""

_WORDS = frozenset(("f32", "i32", "u32"))


def gathers(i: Index) -> bool:
    """Whether a lane's place is known at run time only."""
    return not i.plain and any(not isinstance(a, str) and LANE in a.axes() for a, _ in i.terms)


class Reads(Scalars):
    """See the module; on top of scalar values."""

    strided: Strided | None = None
    """What the statements in work read and write with lanes apart."""

    def one_access(self, e: Expr) -> bool:
        """Whether a load is one vector access: no gather, and where a guard differs between lanes, lanes so close that
        those outside of it read next to those inside."""
        if e.facts & GATHER and any(gathers(i) for i in indices(e)):
            return False
        near = e.dtype not in GROUPS and abs(e.attr.index.coeff(LANE)) * self.sizes[e.attr.operand] <= NEAR
        return near or not any(LANE in i.axes() for i, _ in e.attr.guard)

    def lane_numbers(self, i: Index) -> None:
        """Pushes an affine index in each lane as an i32x4."""
        c = i.coeff(LANE)
        self.affine(i)
        self.b.op("i32x4.splat")
        if c:
            self.b.vec_const("i32x4", *(c * n for n in range(4)))
            self.b.op("i32x4.add")

    def guarded_vector(self, e: Expr) -> None:
        """A load under guards: done if any lane is inside; those outside take the other value."""
        varying = [g for g in e.attr.guard if LANE in g[0].axes()]
        if not varying:
            self.guarded(e, "v128", self.vector_load)
            return
        b = self.b
        mask = b.local("v128")
        for n, (i, extent) in enumerate(varying):
            self.lane_numbers(i)
            b.vec_const("i32x4", extent)
            b.op("i32x4.lt_u")
            if n:
                b.op("v128.and")
        b.tee(mask)
        b.op("v128.any_true")
        for i, extent in e.attr.guard:
            if LANE not in i.axes():
                self.affine(i)
                b.i32_const(extent)
                b.op("i32.lt_u")
                b.op("i32.and")
        with b.if_(["v128"]):
            self.vector_load(e)
            self.alone(e.args[0])
            b.get(mask)
            b.op("v128.bitselect")
            b.else_()
            self.alone(e.args[0])
        b.release(mask)

    def vector_load(self, e: Expr) -> None:
        """A load whose guards, if there are any, hold."""
        operand, index = e.attr.operand, e.attr.index
        terms, lane = index.split()
        size = self.sizes[operand]
        offset = index.const * size
        if e.dtype in GROUPS:
            self.group_load(e, lambda: self.place(operand, terms, offset), lane * size)
        elif lane in (0, 1) and e.dtype in _WORDS:
            at = self.place(operand, terms, offset)
            if lane:
                self.b.load("v128.load", at, 4)
            else:
                self.b.load("v128.load32_splat", at)
        elif lane in (0, 1) or not self._apart(e):
            vector_load(self.b, e.dtype, lane * size, lambda: self.place(operand, terms, offset))

    def _apart(self, e: Expr) -> bool:
        """A load with lanes apart, as part of a group of them; False (nothing pushed) where it is none."""
        if self.strided is not None and self.strided.load(e):
            return True
        of = family(e.attr.operand, e.attr.index, e.dtype)
        return of is not None and pushed(self, of, e.attr.index.const, None)
