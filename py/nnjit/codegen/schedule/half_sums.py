"""A product of f16 in subgroup matrices whose sums are f16 too, from Matrix and HalfSums.

Eleven bits are too few for a sum of hundreds of products. So matrices sum up a short stretch of the reduced axis; a
subgroup then puts its matrices into a shared array, and each of its threads adds its own elements to registers of f32,
from which results are stored. That takes one barrier a stretch.

How far a sum may be off, with u = 2^-11, f16 arithmetic that rounds after every operation, and a stretch of s elements:

    |error| <= s u / (1 - s u) * sum of |a b|                   always (Higham 2002, 3.1), beyond what f32 would do
    error, typically: u / sqrt(6) * sqrt(s * sum of (a b)^2)    terms of either sign, each rounding by chance

Hardware that adds up a matrix' depth before it rounds has s / depth roundings in place of s. A stretch whose partial
sums leave +-65504 is infinite, where f32 sums would not be.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from nnjit.codegen.expr import LANE, Expr, Index, axis, cast, const, load, op, reg
from nnjit.codegen.loops import Barrier, Decode, For, Put, Set, Stmt, Zeros
from nnjit.codegen.schedule.fills import Filling, Space, staged
from nnjit.codegen.schedule.group_steps import Cache, Matrix
from nnjit.codegen.schedule.matrices import PAD, MatrixProduct
from nnjit.codegen.schedule.matrix_tiles import LONGEST
from nnjit.codegen.schedule.steps import check
from nnjit.codegen.schedule.workgroup_plan import LANES, Plan
from nnjit.codegen.spec import KernelSpec, Operand

ROUNDING = 2.0**-11
"""What an f16 is off by, relative to it."""
SURE = 2.5
"""Times sqrt(s * sum of (a b)^2) * ROUNDING: six times what is typical."""


def spread(elements: int, squares: float) -> float:
    """How far a sum of terms of either sign, whose squares come to this, may be expected to be off: once in 10^8."""
    return SURE * ROUNDING * sqrt(elements * squares)


class HalfSumProduct(MatrixProduct):
    """Registers acc.0, acc.1 ... hold a thread's part of what its subgroup sums up: vectors of the subgroup's rows, as
    many apart as it has threads."""

    def __init__(self, spec: KernelSpec, plan: Plan, matrix: Matrix, elements: int) -> None:
        self.elements = elements
        super().__init__(spec, plan, matrix)

    def _sizes(self) -> None:
        super()._sizes()
        cache, x = self.plan.cache, self.matrix
        assert cache is not None
        check(self.group == 1, "sums of f16 are of f16")
        check(not cache.twice, "sums of f16 go with one set of arrays")
        check(self.elements % cache.depth == 0, "sums of f16 over whole stages")
        check(0 < self.elements <= LONGEST, f"sums of f16 over {self.elements} elements")
        self.vectors = self.wide * x.columns // LANES
        self.turns = self.tall * x.rows * self.vectors // x.subgroup
        self.stride = (self.vectors + PAD) * LANES

    def _shared_out(self, area: int) -> bool:
        return area % (LANES * self.matrix.subgroup) == 0

    def _zeros(self) -> list[Stmt]:
        whole = self.k.extent <= self.elements
        return [] if whole else [Set(f"acc.{t}", const(0, "f32"), LANES) for t in range(self.turns)]

    def _staged(
        self, filling: Filling, space: Space, cache: Cache, sums: Callable[[int], list[Stmt]]
    ) -> list[Stmt]:
        """The stretches: matrices of zeros, some stages, what they come to added to the registers."""
        steps, each = -(-space.length // cache.depth), self.elements // cache.depth
        begin = [s for f in filling.fills for s in f.decodes()] + self._lanes()
        if steps <= each:
            stages = staged(filling, space, "k.o", cache.ahead, sums(0), Index())
            return [*begin, *self._matrices(), *stages, *self._flush(False)]
        tail = space.extent % space.depth != 0
        at = Index(0, {"k.r": each}) + (Index.of("k.o") if each > 1 else Index())
        begin += filling.start()
        if cache.ahead:
            begin += filling.loads(Index(), tail)
            stage = [*filling.stores(), Barrier(), *filling.loads(at + 1, tail), *sums(0)]
        else:
            stage = [*filling.loads(at, tail), *filling.stores(), Barrier(), *sums(0)]
        if each > 1:
            left = axis(Index(steps, {"k.r": -each})) if steps % each else None
            stage = [For("k.o", each, [*stage, Barrier()], limit=left)]
        # the barrier of the flush keeps the next stores off what others still multiply
        body = [*self._matrices(), *stage, *self._flush(True)]
        return [*begin, For("k.r", -(-steps // each), body)]

    def _matrices(self) -> list[Stmt]:
        x = self.matrix
        names = (f"sum.{i}.{j}" for i in range(self.tall) for j in range(self.wide))
        return [Zeros(name, x.rows, x.columns, "f16") for name in names]

    def _lanes(self) -> list[Stmt]:
        """Where a thread's first vector is among its subgroup's, if that takes no division for the others."""
        if self.matrix.subgroup % self.vectors:
            return []
        return [Decode("lane.x", "lane", 1, self.vectors), Decode("lane.y", "lane", self.vectors, 0)]

    def _vector(self, turn: int) -> tuple[Index, Index]:
        """Row and vector of a thread's n-th turn, among its subgroup's."""
        count = self.matrix.subgroup
        if count % self.vectors == 0:
            return Index.of("lane.y") + turn * (count // self.vectors), Index.of("lane.x")
        number, across = axis(Index(turn * count, {"lane": 1})), const(self.vectors, "i32")
        y, x = (Expr(how, "i32", (number, across)) for how in ("div", "rem"))
        return Index(0, {y: 1}), Index(0, {x: 1})

    def _flush(self, more: bool) -> list[Stmt]:
        """A subgroup's matrices go to its part of a shared array, and each thread adds its elements up; more: there are
        stretches before or after."""
        x, operand = self.matrix, len(self.spec.operands) + len(self.shared)
        part = self.tall * x.rows * self.stride
        self.shared.append(Operand("f16", self.count // x.subgroup * part, "shared"))
        mine = Index(0, {"group": part})
        out: list[Stmt] = [
            Put(f"sum.{i}.{j}", operand, mine + (i * x.rows * self.stride + j * x.columns), self.stride)
            for i in range(self.tall)
            for j in range(self.wide)
        ]
        out.append(Barrier())
        for t in range(self.turns):
            row, vector = self._vector(t)
            at = mine + row * self.stride + vector * LANES + Index(0, {LANE: 1})
            value = cast(load(operand, at, "f16"), "f32")
            out.append(Set(f"acc.{t}", op("add", reg(f"acc.{t}", "f32"), value) if more else value, LANES))
        return out

    def _results(self) -> list[Stmt]:
        out: list[Stmt] = []
        for t in range(self.turns):
            row, vector = self._vector(t)
            sums = reg(f"acc.{t}", "f32")
            each = [Expr("lane", "f32", (sums,), lane) for lane in range(LANES)]
            row = Index(0, {"group.m": self.tall * self.matrix.rows}) + row
            out += self._result(sums, each, row, Index(0, {"group.n": self.vectors}) + vector)
        return out
