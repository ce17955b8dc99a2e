"""What follows a sum, in fewer instructions: takes the value that a kernel stores, gives one that differs by rounding.

    mul(x, y) + z                    ->  fma(x, y, z)
    2 * (x * min(max(x/6 + 1/2, 0), 1)) + z   ->  fma(x, min(max(fma(x, 1/3, 1), 0), 2), z)

A depthwise window of nine taps costs nine multiply-adds an output: the eight instructions of a bias, a HardSwish and a
scale behind it were nearly as many.
"""

from __future__ import annotations

from nnjit.codegen.expr import Expr, const, facts, op
from nnjit.codegen.rewriting import walk

SUMS = frozenset({"add", "sub"})
EXTREMES = frozenset({"min", "max"})
ROUNDED = facts(("round", "floor", "ceil", "trunc", "cast", "bitcast"))
"""Behind these a last bit may be a whole step."""
SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Of normal f32 numbers."""


def fewer(value: Expr) -> Expr:
    """`value`, or one of fewer operations that is as near to what was meant. Only f32 throughout is touched."""
    if value.dtype != "f32" or value.facts & ROUNDED:
        return value
    found = _Fewer()(value)
    return found if operations(found) < operations(value) else value


def operations(e: Expr) -> int:
    """Distinct operations: what is used twice is computed once."""
    return sum(1 for x in walk(e) if x.args and x.op != "load")


class _Fewer:
    """Bottom-up; the memos keep shared operands shared, and each is looked at once."""

    def __init__(self) -> None:
        self.memo: dict[Expr, Expr] = {}
        self.taken: dict[tuple[Expr, float], Expr | None] = {}

    def __call__(self, e: Expr) -> Expr:
        if e.op == "load" or not e.args:
            return e
        made = self.memo.get(e)
        if made is None:
            made = self.memo[e] = self._made(Expr(e.op, e.dtype, tuple(self(a) for a in e.args), e.attr))
        return made

    def _made(self, e: Expr) -> Expr:
        if e.dtype != "f32" or len(e.args) != 2:
            return e
        a, b = e.args
        if e.op == "mul":
            for factor, other in ((a, b), (b, a)):
                if factor.op == "const" and factor.attr > 0:
                    return self._scaled(other, factor.attr) or e
        if e.op == "add":
            for x, y in ((a, b), (b, a)):
                if x.op == "mul":
                    return Expr("fma", "f32", (*x.args, y))
        if e.op == "sub" and a.op == "mul" and b.op == "const":
            return Expr("fma", "f32", (*a.args, const(-b.attr, "f32")))
        return e

    def _scaled(self, e: Expr, by: float) -> Expr | None:
        """`by * e` for a positive number, in as many operations as `e`; None where no constants take it up."""
        if (e, by) not in self.taken:
            self.taken[e, by] = self._taken(e, by)
        return self.taken[e, by]

    def _taken(self, e: Expr, by: float) -> Expr | None:
        if e.op == "const":
            product = e.attr * by
            # 0 and infinity stay; one that f32 cannot hold would lose what comes of it with the other operand
            held = product == e.attr or SMALLEST <= abs(product) <= LARGEST
            return const(product, "f32") if held else None
        if e.op in SUMS or e.op in EXTREMES:
            both = [self._scaled(x, by) for x in e.args]
            return None if None in both else op(e.op, *(x for x in both if x is not None))
        if e.op in ("mul", "fma"):
            rest = [self._scaled(x, by) for x in e.args[2:]]
            if None in rest:
                return None
            for i in (1, 0):
                factor = self._scaled(e.args[i], by)
                if factor is not None:
                    args = (e.args[0], factor) if i else (factor, e.args[1])
                    return Expr(e.op, "f32", (*args, *(x for x in rest if x is not None)))
        return None
