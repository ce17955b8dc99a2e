"""Where elements lie: the address of an index on the stack, from the pointers that loops keep.

Takes affine indices, gives instructions that push an address or an offset; `emit` makes the pointers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from nnjit.codegen.dtypes import SIZES
from nnjit.codegen.expr import LANE, Atom, Expr, Index, Terms
from nnjit.codegen.spec import Operand
from nnjit.codegen.wasm.builder import FunctionBuilder
from nnjit.codegen.wasm.target import Target

Key = tuple[int, Terms]
"""An operand and the terms (without LANE) of an index into it: what a pointer points at."""


class Places:
    """The function under construction, its operands, and what is known of addresses at the current place of it."""

    def __init__(self, b: FunctionBuilder, operands: Sequence[Operand], target: Target) -> None:
        self.b, self.operands, self.target = b, operands, target
        self.sizes = [SIZES[o.dtype] for o in operands]
        self.vars: dict[str, int] = {}  # loop variable -> its i32 local
        self.pointers: dict[Key, int] = {}
        self.lane = 0  # the lane computed, while one is computed alone

    def integer(self, e: Expr) -> None:
        """Pushes an integer expression as an i32 scalar."""
        raise NotImplementedError

    def place(self, operand: int, terms: Terms, offset: int) -> int:
        """Pushes the address of `terms`; returns the immediate offset to use with it (never negative).

        Immediates do not wrap around: where a term is subtracted, base + terms may lie below address 0 although
        the element does not, and the offset has to be added."""
        at = self.pointers.get((operand, terms))
        if at is None:
            self.address(operand, terms)
        else:
            self.b.get(at)
        if offset < 0 or (offset > 0 and _subtracts(terms)):
            self.b.i32_const(offset)
            self.b.op("i32.add")
            return 0
        return offset

    def address(self, operand: int, terms: Terms) -> None:
        """Pushes base + terms: a pointer where there is one, else the closest one and the rest added."""
        at = self.pointers.get((operand, terms))
        if at is not None:
            self.b.get(at)
            return
        best: Terms = ()
        for o, have in self.pointers:
            if o == operand and len(have) > len(best) and set(have) <= set(terms):
                best = have
        self.b.get(self.pointers[operand, best])
        size = self.sizes[operand]
        for atom, coeff in terms:
            if (atom, coeff) not in best:
                self.scaled(atom, coeff * size)
                self.b.op("i32.add")

    def scaled(self, atom: Atom, by: int) -> None:
        """Pushes atom * by as an i32."""
        if isinstance(atom, str):
            self.b.get(self.vars[atom])
        else:
            self.integer(atom)
        if by != 1:
            self.b.i32_const(by)
            self.b.op("i32.mul")

    def affine(self, i: Index) -> None:
        """Pushes an affine index as an i32 (LANE is the lane being computed)."""
        self.b.i32_const(i.const)
        for atom, coeff in i.terms:
            if atom == LANE:
                self.b.i32_const(coeff * self.lane)
            else:
                self.scaled(atom, coeff)
            self.b.op("i32.add")


@lru_cache(4096)
def _subtracts(terms: Terms) -> bool:
    return any(c < 0 for _, c in terms)
